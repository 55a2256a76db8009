"""Rows of any keys as Arrow batches of a table like `history`: step, time, then the keys.

A batch has the columns that its rows have, and those that came before while that is cheap: each new set of columns is
a new segment to the daemon. Memory is bounded by cells and by bytes of text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import types

from .foreign import Chunk, Notes

Cell: TypeAlias = "bool | int | float | str | list[float] | None"
Row: TypeAlias = "tuple[int | None, int | None, dict[str, Cell]]"
"""Step, time in microseconds since 1970 (UTC), and the values."""

MAX_ROWS = 16_384
MAX_CELLS = 1 << 18
MAX_TEXT_BYTES = 1 << 20
MAX_IDLE_CELLS = 1 << 15
"""What columns without values may add to a batch."""
MAX_KEY_BYTES = 255

STEP, TIME = "step", "time"
_FIXED = frozenset({STEP, TIME, "rank", "example_id", "input_table_id"})
_TIME_TYPE = pa.timestamp("us", tz="UTC")
_LIST_TYPE = pa.list_(pa.float64())
_INT64 = range(-(1 << 63), 1 << 63)
_HISTOGRAM = "histogram"
"""A dict with a `_type` stands for a file or an object of the tool; this one is all there: lists of numbers."""
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class RowBatches:
    """Gathers rows, and gives them in batches.

    Args:
        known: types of the columns that the table has already.
        notes: where keys that had to be renamed or values that are too large are noted.
    """

    def __init__(self, known: Mapping[str, pa.DataType], notes: Notes) -> None:
        self._types = dict(known)
        self._notes = notes
        self._keys = dict.fromkeys(name for name in known if name not in _FIXED)
        self._rows: list[Row] = []
        self._used: dict[str, None] = {}
        self._text_bytes = 0
        self._position = 0

    def add(self, row: Row, position: int) -> Iterator[Chunk]:
        """Adds a row that ends at a position; gives a batch when one is full."""
        step, time, values = row
        cells = {self._key(key): value for key, value in values.items() if self._fits(key, value)}
        self._rows.append((step, time, cells))
        self._used |= dict.fromkeys(cells)
        self._position = position
        full = len(self._rows) >= MAX_ROWS or self._text_bytes >= MAX_TEXT_BYTES
        if full or len(self._rows) * len(self._used) >= MAX_CELLS:
            yield from self.rest()

    def rest(self) -> Iterator[Chunk]:
        """Gives the rows that wait."""
        if self._rows:
            yield Chunk(self._batch(), self._position)
            self._rows, self._used, self._text_bytes = [], {}, 0

    def _key(self, key: str) -> str:
        key = key.encode(errors="replace")[:MAX_KEY_BYTES].decode(errors="ignore") or "_"
        if key not in _FIXED:
            return key
        self._notes.left_out[f"the name {key!r}, which is rund's own: kept as '{key}_'"] = 1
        return f"{key}_"

    def _fits(self, key: str, value: Cell) -> bool:
        size = len(value) if isinstance(value, str) else 8 * len(value) if isinstance(value, list) else 0
        if size > MAX_TEXT_BYTES:
            self._notes.left_out[f"values over 1 MiB of {key!r}"] += 1
            return False
        self._text_bytes += size
        return True

    def _batch(self) -> pa.RecordBatch:
        rows = self._rows
        idle = [key for key in self._keys if key not in self._used]
        if len(idle) * len(rows) > MAX_IDLE_CELLS:
            self._keys = {}
        self._keys |= self._used
        columns: dict[str, pa.Array[Any]] = {
            STEP: pa.array([row[0] for row in rows], pa.int64()),
            TIME: pa.array([row[1] for row in rows], pa.int64()).cast(_TIME_TYPE),
        }
        for key in self._keys:
            columns[key] = self._column(key, [row[2].get(key) for row in rows])
        return pa.RecordBatch.from_pydict(columns)

    def _column(self, key: str, values: list[Cell]) -> pa.Array[Any]:
        kind = _joined(self._types.get(key), {type(value) for value in values if value is not None}, values)
        self._types[key] = kind
        if types.is_string(kind) or types.is_large_string(kind):
            values = [value if value is None or isinstance(value, str) else json.dumps(value) for value in values]
        elif types.is_list(kind):
            values = [value if value is None or isinstance(value, list) else [_number(value)] for value in values]
        elif types.is_floating(kind):
            values = [None if value is None else _number(value) for value in values]
        return pa.array(values, kind)


def cells_of(key: str, value: object, notes: Notes) -> Iterator[tuple[str, Cell]]:
    """A JSON value as cells: what is in a dict gets a name with dots. Media and the like are noted and left out."""
    if isinstance(value, str):
        yield key, _SPECIAL.get(value, value)
    elif value is None or isinstance(value, (bool, int, float)):
        yield key, value
    elif isinstance(value, list) and all(isinstance(item, (int, float)) for item in value):
        yield key, [float(item) for item in value]
    elif isinstance(value, dict) and value.get("_type", _HISTOGRAM) == _HISTOGRAM:
        for name, item in value.items():
            if name != "_type":
                yield from cells_of(f"{key}.{name}", item, notes)
    else:
        kind = value["_type"] if isinstance(value, dict) else "list of other things than numbers"
        notes.left_out[f"{kind} {key!r}"] += 1


def _joined(known: pa.DataType | None, kinds: set[type], values: list[Cell]) -> pa.DataType:
    """The type that holds what came before and what comes now; text when nothing else does."""
    if known is not None and (types.is_null(known) or types.is_dictionary(known)):
        known = None
    if not kinds:
        return known or pa.null()
    new = _type_of(kinds, values)
    if known is None or known == new:
        return new
    if types.is_list(known) and not types.is_string(new):
        return _LIST_TYPE
    if types.is_list(known) or types.is_list(new) or types.is_string(new) or types.is_string(known):
        # A list can't become text in a table that has it as a list: the daemon would refuse the rows.
        return _LIST_TYPE if types.is_list(known) and not types.is_string(new) else pa.string()
    return pa.float64() if types.is_floating(known) or types.is_floating(new) else pa.int64()


def _type_of(kinds: set[type], values: list[Cell]) -> pa.DataType:
    if kinds <= {bool}:
        return pa.bool_()
    if kinds <= {bool, int}:
        return pa.int64() if all(value is None or value in _INT64 for value in values) else pa.float64()
    if kinds <= {bool, int, float}:
        return pa.float64()
    if str in kinds:
        return pa.string()
    return _LIST_TYPE


def _number(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
