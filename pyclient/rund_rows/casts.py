"""Casts scalars, and lists of them, up the lattice of `type_lattice` so that no row becomes unreadable.

Where a cast loses something the segments still hold the exact value: integers and decimals beyond 2^53 are
rounded as float64, and a time too far from 1970 for its finer unit is null.
"""

from __future__ import annotations

import decimal
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from .recast import Array

_INT64_MAX = 2**63 - 1
_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 9}
_DAY_SECONDS = 86_400


def promote(array: Array, target: Any) -> Array:
    """Casts an array of a scalar type to one above it."""
    if types.is_string(target) or types.is_large_string(target):
        return as_text(array).cast(target)
    if types.is_temporal(target):
        return _as_finer(array, target)
    if types.is_float16(target):  # from bool; Arrow has no such cast
        return array.cast(pa.uint8()).cast(target)
    return array.cast(target, safe=not types.is_floating(target))


def as_text(array: Array) -> Array:
    r"""Prints scalars: numbers and truths as Python does, times as ISO 8601, durations as seconds (`1.5s`).

    A float has the fewest digits that give it back in its own width. Bytes that are not UTF-8 become `\xNN`. A list of
    scalars becomes JSON.
    """
    kind: Any = array.type
    if types.is_nested(kind):
        return _print_each(array, lambda items: json.dumps(items, ensure_ascii=False, default=str))
    if types.is_boolean(kind):
        return pc.if_else(array, "True", "False")
    if types.is_floating(kind):
        printed = array.to_numpy(zero_copy_only=False).astype(str)
        return pa.array(printed, pa.string(), mask=array.is_null().to_numpy(zero_copy_only=False))
    if types.is_duration(kind):
        return _print_each(array.cast(pa.int64()), lambda ticks: _print_seconds(ticks, _DIGITS[kind.unit]))
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return _print_each(array, lambda data: data.decode("utf-8", "backslashreplace"))
    in_utc = pa.timestamp(kind.unit, "UTC") if types.is_timestamp(kind) and kind.tz else kind
    return array.cast(in_utc).cast(pa.large_string())


def _print_each(array: Array, show: Any) -> Array:
    texts = [None if value is None else show(value) for value in array.to_pylist()]
    return pa.array(texts, pa.large_string())


def _print_seconds(ticks: int, digits: int) -> str:
    return f"{decimal.Decimal(ticks).scaleb(-digits).normalize():f}s"


def _as_finer(array: Array, target: Any) -> Array:
    try:
        return array.cast(target)
    except pa.ArrowInvalid:
        bound = _INT64_MAX * _tick_nanoseconds(target) // _tick_nanoseconds(array.type)
        ticks: Any = array.cast(pa.int64()) if array.type.bit_width == 64 else array.cast(pa.int32())
        fits = pc.and_(pc.less_equal(ticks, bound), pc.greater_equal(ticks, -bound))
        return pc.if_else(fits, array, pa.scalar(None, array.type)).cast(target)


def _tick_nanoseconds(kind: Any) -> Any:
    if types.is_date32(kind):
        return _DAY_SECONDS * 10**9
    return 10 ** (9 - _DIGITS["ms" if types.is_date64(kind) else kind.unit])
