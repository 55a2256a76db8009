"""Columns and scalars of callers without Arrow, made into record batches. Mechanical, but for the choice of types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros, Value, Values

HISTORY_KEYS = ("step", "time", "rank")
# A fixed-size list of Arrow counts in 32 bits.
_MAX_WIDTH = 2**31 - 1
_INT64 = range(-(2**63), 2**63)
_FLOAT64 = range(-(2**1023), 2**1023)


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """One column: values, the width of its vectors (0 if they are none), and the rows that are null."""

    name: str
    type: pa.DataType
    values: Sequence[Value]
    width: int
    null_rows: Sequence[int]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.values) // max(self.width, 1)


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """One row of `history`."""

    step: int | None
    time: Micros
    rank: int
    values: Values


def batch_of_columns(columns: Sequence[PlainColumn], field: str) -> pa.RecordBatch:
    """Makes a batch of plain columns.

    Raises:
        InvalidError: COLUMN_LENGTH_MISMATCH; INVALID_COLUMN if a null row or a width does not fit.
    """
    if len({column.rows for column in columns}) > 1:
        found = ", ".join(f"{column.name[:60]!r} has {column.rows}" for column in columns[:8])
        raise InvalidError(
            field,
            f"the columns differ in length: {found}; send one value a row in each",
            reason=Reason.COLUMN_LENGTH_MISMATCH,
        )
    arrays = [_array(column, field) for column in columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])


def batch_of_history(rows: Sequence[HistoryRow], field: str) -> pa.RecordBatch:
    """Makes a batch of `history`: step, time, rank, then the keys in order of their names.

    An int and a float of one key become float64; other mixtures of types become text.
    """
    keys = sorted({key for row in rows for key in row.values})
    if taken := [key for key in keys if key in HISTORY_KEYS]:
        raise InvalidError(field, f"the key {taken[0]!r} is taken by rund; rename it", reason=Reason.INVALID_COLUMN)
    arrays: list[pa.Array[Any]] = [
        pa.array([row.step for row in rows], pa.int64()),
        pa.array([row.time for row in rows], pa.timestamp("us", tz="UTC")),
        pa.array([row.rank for row in rows], pa.int32()),
        *(_scalars(key, [row.values.get(key) for row in rows], field) for key in keys),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=[*HISTORY_KEYS, *keys])


def _array(column: PlainColumn, field: str) -> pa.Array[Any]:
    nulls = _nulls(column, field)
    if not column.width:
        return pa.array(list(column.values), column.type, mask=nulls)
    if len(column.values) % column.width or column.width > _MAX_WIDTH:
        raise InvalidError(
            field,
            f"column {column.name[:60]!r} has {len(column.values)} floats and the width {column.width}; "
            "send as many floats as the width for each row",
            reason=Reason.INVALID_COLUMN,
        )
    kind, floats = pa.list_(pa.float32(), column.width), pa.array(list(column.values), pa.float32())
    mask = None if nulls is None else pa.array(nulls)
    return pa.FixedSizeListArray.from_arrays(floats, type=kind, mask=mask)  # type: ignore[call-overload,no-any-return]  # newer than the stubs


def _nulls(column: PlainColumn, field: str) -> Any:
    """Which rows are null, as numpy has it; None if none is."""
    if not column.null_rows:
        return None
    if max(column.null_rows) >= column.rows:
        raise InvalidError(
            field,
            f"column {column.name[:60]!r} has {column.rows} rows and null_rows names row {max(column.null_rows)}",
            reason=Reason.INVALID_COLUMN,
        )
    mask = np.zeros(column.rows, dtype=bool)
    mask[list(column.null_rows)] = True
    return mask


# The most specific type that holds all scalars of a key, by the set of their Python types.
_SCALAR_TYPES: Mapping[frozenset[type], pa.DataType] = {
    frozenset({bool}): pa.bool_(),
    frozenset({int}): pa.int64(),
    frozenset({float}): pa.float64(),
    frozenset({int, float}): pa.float64(),
    frozenset({str}): pa.string(),
    frozenset({bytes}): pa.binary(),
}


def _scalars(key: str, values: Sequence[Value], field: str) -> pa.Array[Any]:
    kinds = frozenset(type(value) for value in values if value is not None)
    if not kinds:
        # Of no type: the column keeps the one it has.
        return pa.nulls(len(values))
    if nested := kinds & {list, dict}:
        raise InvalidError(
            field,
            f"the value of {key!r} is a {next(iter(nested)).__name__}; log numbers, truth values and text",
            reason=Reason.INVALID_VALUE,
        )
    kind = _SCALAR_TYPES.get(kinds)
    held = {pa.int64(): _INT64, pa.float64(): _FLOAT64}.get(kind)
    if held is not None and any(value not in held for value in values if isinstance(value, int)):
        kind = None
    if kind is None:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if kind == pa.float64():
        return pa.array([None if value is None else float(value) for value in values], kind)  # type: ignore[arg-type]  # int or float by kinds
    return pa.array(values, kind)
