"""Turns rows of the journal into Arrow batches of the table ``history``.

Columns: ``step``, ``time``, ``rank``, then the keys in order of their names. A batch keeps the columns of the
one before it, with nulls, as long as that is cheaper than the new segment that another schema costs the
daemon; a column that has been float or text stays so while it is kept.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import chain, repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ._journal_reader import Group, Rows
from ._journal_records import NO_STEP, Kind, LooseRow, Value

IDLE_BYTES = 256 * 1024
"""What columns without values may cost, all together, before they are left out."""

_VALUE_BYTES = 8
_ARROW_TYPES: Mapping[Kind, pa.DataType] = {
    Kind.NULL: pa.null(),
    Kind.BOOL: pa.bool_(),
    Kind.INT: pa.int64(),
    Kind.FLOAT: pa.float64(),
    Kind.STRING: pa.string(),
    Kind.LIST: pa.list_(pa.float64()),
}
_NUMPY_TYPES: Mapping[Kind, type[np.generic]] = {
    Kind.BOOL: np.bool_,
    Kind.INT: np.int64,
    Kind.FLOAT: np.float64,
}
_TIME = pa.timestamp("us", tz="UTC")
_ROW_FIELDS = [pa.field("step", pa.int64()), pa.field("time", _TIME), pa.field("rank", pa.int32())]

Array: TypeAlias = "pa.Array[Any]"
Places: TypeAlias = "npt.NDArray[np.int64] | slice"
"""Rows of a batch. A slice is always all of them."""
_ALL = slice(None)


@dataclass(frozen=True, slots=True)
class _Part:
    """Values of one key and one kind, and their rows in the batch."""

    places: Places
    kind: Kind
    values: npt.NDArray[np.generic] | list[Value]


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one shape, or rows that carry their keys, with their places in the batch."""

    places: Places
    steps: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64]
    parts: list[tuple[str, _Part]]


class HistoryBatches:
    """Makes the batches of one journal.

    Args:
        rank: Rank of the process, for the column of that name.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._columns = _Columns()

    def batch(self, rows: Rows) -> pa.RecordBatch:
        """The batch of these rows."""
        steps, times = np.empty(rows.count, np.int64), np.empty(rows.count, np.int64)
        parts: defaultdict[str, list[_Part]] = defaultdict(list)
        for block in _blocks(rows):
            steps[block.places], times[block.places] = block.steps, block.times
            for key, part in block.parts:
                parts[key].append(part)
        schema = self._columns.schema(parts, rows.count)
        arrays: list[Array] = [
            _array(pa.int64(), steps, steps != NO_STEP),
            _array(_TIME, times // 1000, None),
            _array(pa.int32(), np.full(rows.count, self._rank, np.int32), None),
        ]
        arrays += (_column(parts[key], kind, rows.count) for key, kind in self._columns.kinds.items())
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Columns:
    """The columns of the keys, and what those without values have cost so far."""

    def __init__(self) -> None:
        self.kinds: dict[str, Kind] = {}
        self._schema = pa.schema(_ROW_FIELDS)
        self._idle_bytes = 0
        self._used: set[str] = set()

    def schema(self, parts: Mapping[str, list[_Part]], rows: int) -> pa.Schema:
        """The schema of a batch with values for these keys."""
        found = {key: _joined(part.kind for part in of_key) for key, of_key in parts.items()}
        self._used |= found.keys()
        self._idle_bytes += (len(self.kinds) - len(self.kinds.keys() & found.keys())) * rows * _VALUE_BYTES
        kept = self.kinds
        if self._idle_bytes > IDLE_BYTES:
            kept = {key: kind for key, kind in kept.items() if key in self._used}
            self._used, self._idle_bytes = set(found), 0
        merged = {key: _join(kept.get(key, Kind.NULL), found.get(key, Kind.NULL)) for key in kept | found}
        if merged != self.kinds:
            self.kinds = dict(sorted(merged.items()))
            fields = [pa.field(key, _ARROW_TYPES[kind]) for key, kind in self.kinds.items()]
            self._schema = pa.schema(_ROW_FIELDS + fields)
        return self._schema


def _join(a: Kind, b: Kind) -> Kind:
    """The kind that holds both: the greater number, else text."""
    if a == b or Kind.NULL in (a, b) or max(a, b) <= Kind.FLOAT:
        return max(a, b)
    return Kind.STRING


def _joined(kinds: Iterable[Kind]) -> Kind:
    return reduce(_join, kinds)


def _blocks(rows: Rows) -> Iterator[_Block]:
    for group in rows.groups:
        yield _shape_block(group, rows.count)
    if rows.loose:
        yield _loose_block(rows.loose)


def _shape_block(group: Group, total: int) -> _Block:
    records, shape = group.records(), group.shape
    places = _ALL if len(records) == total else group.row_places()
    parts = [
        (key, _Part(places, kind, [] if kind is Kind.NULL else records[str(number)]))
        for number, (key, kind) in enumerate(zip(shape.keys, shape.kinds, strict=True))
    ]
    return _Block(places, records["step"], records["time"], parts)


def _loose_block(loose: list[tuple[int, LooseRow]]) -> _Block:
    found: defaultdict[tuple[str, Kind], tuple[list[int], list[Value]]] = defaultdict(lambda: ([], []))
    for place, row in loose:
        for key, kind, value in zip(row.keys, row.kinds, row.values, strict=True):
            places, values = found[key, kind]
            places.append(place)
            values.append(value)
    parts = [(key, _Part(np.array(at), kind, values)) for (key, kind), (at, values) in found.items()]
    steps, times = np.array([row.step for _, row in loose]), np.array([row.time_ns for _, row in loose])
    return _Block(np.array([place for place, _ in loose]), steps, times, parts)


def _column(parts: list[_Part], kind: Kind, total: int) -> Array:
    parts = [part for part in parts if part.kind is not Kind.NULL]
    # Buffers are made here and not by pa.array, which imports pandas when it is given objects.
    if kind is Kind.NULL:
        return pa.nulls(total)
    if kind is Kind.STRING:
        return _texts(parts, total)
    if kind is Kind.LIST:
        return _lists(parts, total)
    return _numbers(parts, kind, total)


def _numbers(parts: list[_Part], kind: Kind, total: int) -> Array:
    dtype = _NUMPY_TYPES[kind]
    if parts and parts[0].places is _ALL:
        return _array(_ARROW_TYPES[kind], np.ascontiguousarray(parts[0].values, dtype), None)
    values, valid = np.zeros(total, dtype), np.zeros(total, np.bool_)
    for part in parts:
        values[part.places] = part.values
        valid[part.places] = True
    return _array(_ARROW_TYPES[kind], values, valid)


def _texts(parts: list[_Part], total: int) -> Array:
    texts, valid = [b""] * total, np.zeros(total, np.bool_)
    for place, kind, value in _values(parts, total):
        # As the daemon prints them, so that it does not matter in which batches they come.
        texts[place] = (json.dumps(value) if isinstance(value, list) else str(value)).encode()
        valid[place] = kind is not Kind.NULL
    offsets = _offsets([len(text) for text in texts])
    return pa.Array.from_buffers(pa.string(), total, [_packed(valid), offsets, pa.py_buffer(b"".join(texts))])


def _lists(parts: list[_Part], total: int) -> Array:
    lists, valid = [list[float]()] * total, np.zeros(total, np.bool_)
    for place, _, value in _values(parts, total):
        if isinstance(value, list):
            lists[place], valid[place] = value, True
    items = np.fromiter(chain.from_iterable(lists), np.float64)
    children = [_array(pa.float64(), items, None)]
    offsets = _offsets([len(value) for value in lists])
    return pa.Array.from_buffers(_ARROW_TYPES[Kind.LIST], total, [_packed(valid), offsets], children=children)


def _values(parts: list[_Part], total: int) -> Iterator[tuple[int, Kind, Value]]:
    for part in parts:
        places = range(total) if isinstance(part.places, slice) else part.places.tolist()
        values = part.values if isinstance(part.values, list) else part.values.tolist()
        yield from zip(places, repeat(part.kind), values, strict=False)


def _offsets(lengths: list[int]) -> pa.Buffer:
    offsets: Any = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return pa.py_buffer(offsets)


# Any: the stubs know no buffer in an array of NumPy.
def _array(kind: pa.DataType, values: Any, valid: npt.NDArray[np.bool_] | None) -> Array:
    """An Arrow array over the values; those of fixed size are not copied."""
    bits = None if valid is None or valid.all() else _packed(valid)
    data = _packed(np.asarray(values, np.bool_)) if kind == pa.bool_() else pa.py_buffer(values)
    return pa.Array.from_buffers(kind, len(values), [bits, data])


def _packed(bits: npt.NDArray[np.bool_]) -> pa.Buffer:
    packed: Any = np.packbits(bits, bitorder="little")
    return pa.py_buffer(packed)
