"""Columns and scalars of callers without Arrow, made into record batches. Mechanical, but for the choice of types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros, Value, Values

HISTORY_KEYS = ("step", "time", "rank")
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class PlainColumn:
    """One column: values, the width of its vectors (0 if they are none), and the rows that are null."""

    name: str
    type: pa.DataType
    values: Sequence[Value]
    width: int
    null_rows: Sequence[int]


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
    arrays = [_array(column, field) for column in columns]
    lengths = {column.name: len(array) for column, array in zip(columns, arrays, strict=True)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name!r} has {length}" for name, length in list(lengths.items())[:8])
        raise InvalidError(
            field,
            f"the columns differ in length: {found}; send one value a row in each",
            reason=Reason.COLUMN_LENGTH_MISMATCH,
        )
    schema = pa.schema([(column.name, array.type) for column, array in zip(columns, arrays, strict=True)])
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


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
    if not column.width:
        return pa.array(_masked(column.values, column.null_rows, column.name, field), column.type)
    if len(column.values) % column.width:
        raise InvalidError(
            field,
            f"column {column.name!r} has {len(column.values)} floats, which is no multiple of its width {column.width}",
            reason=Reason.INVALID_COLUMN,
        )
    rows: list[Value] = [
        list(column.values[begin : begin + column.width]) for begin in range(0, len(column.values), column.width)
    ]
    return pa.array(_masked(rows, column.null_rows, column.name, field), pa.list_(pa.float32(), column.width))


def _masked(values: Sequence[Value], null_rows: Sequence[int], name: str, field: str) -> Sequence[Value]:
    if not null_rows:
        return values
    if max(null_rows) >= len(values):
        raise InvalidError(
            field,
            f"column {name!r} has {len(values)} rows and null_rows names row {max(null_rows)}",
            reason=Reason.INVALID_COLUMN,
        )
    masked = list(values)
    for row in null_rows:
        masked[row] = None
    return masked


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
        return pa.nulls(len(values), pa.float64())
    if nested := kinds & {list, dict}:
        raise InvalidError(
            field,
            f"the value of {key!r} is a {next(iter(nested)).__name__}; log numbers, truth values and text",
            reason=Reason.INVALID_VALUE,
        )
    kind = _SCALAR_TYPES.get(kinds)
    if kind == pa.int64() and any(value not in _INT64 for value in values if value is not None):
        kind = None
    if kind is None:
        return pa.array([None if value is None else str(value) for value in values], pa.string())
    if kind == pa.float64():
        return pa.array([None if value is None else float(value) for value in values], kind)  # type: ignore[arg-type]  # int or float by kinds
    return pa.array(values, kind)
