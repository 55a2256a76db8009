"""The least and the greatest value of the columns that readers ask for ranges of: a filter on steps then skips batches.

Only columns that count something have ranges, and only integers and floats. A range says nothing of nulls and NaNs,
which compare false with every bound.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from rund_daemon.model import RANGED_COLUMNS, ColumnRange

_INT64 = range(-(2**63), 2**63)
_NUMPY_TYPES = {getattr(pa, name)(): np.dtype(name) for name in ("int8", "int16", "int32", "int64")}
_NUMPY_TYPES |= {getattr(pa, f"u{kind}")(): np.dtype(f"u{dtype}") for kind, dtype in _NUMPY_TYPES.items()}


def column_ranges(batch: pa.RecordBatch) -> tuple[ColumnRange, ...]:
    """Gives the ranges of a batch's columns; none for a column without values."""
    schema, found = batch.schema, []
    for name in RANGED_COLUMNS:
        index = schema.get_field_index(name)
        if index >= 0 and (item := _range(name, batch.column(index))):
            found.append(item)
    return tuple(found)


def has_range(kind: pa.DataType) -> bool:
    """Says whether ranges of values of a type are kept."""
    return types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind)


def _range(name: str, column: Any) -> ColumnRange | None:
    if not len(column) or not has_range(column.type):
        return None
    least, greatest = _ends(column)
    if least is None or least != least or greatest != greatest:  # noqa: PLR0124  # math.isnan fails on large integers
        return None
    if isinstance(least, int) and not (least in _INT64 and greatest in _INT64):
        return None
    return ColumnRange(name, least, greatest)


def _ends(column: Any) -> tuple[Any, Any]:
    if len(column) == 1:
        value = column[0].as_py()
        return value, value
    if not column.null_count and types.is_integer(column.type):
        # In small batches half the time of Arrow's own, which is called for each of them.
        # Not by its to_numpy, which imports pandas where that is installed: 0.2 s before the first ack, and 40 MiB.
        values = np.frombuffer(column.buffers()[1], _NUMPY_TYPES[column.type], len(column), _begin(column))
        return int(np.minimum.reduce(values)), int(np.maximum.reduce(values))
    ends = pc.min_max(column)
    return ends["min"].as_py(), ends["max"].as_py()


def _begin(column: Any) -> int:
    begin: int = column.offset * column.type.bit_width // 8
    return begin
