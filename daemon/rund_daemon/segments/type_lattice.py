"""Which type holds the values of two others.

A column may be logged as int today and as float tomorrow; its readers see one type. The unified type is the
least upper bound in a fixed order, so it does not depend on who wrote first: the operation is associative,
commutative and idempotent (but for the order of a struct's fields, which is that of their first appearance).

    null ─▶ everything
    bool ─▶ uint8, int8, float16
    uintN ─▶ uint2N, int2N     intN ─▶ int2N     uint64, int64 ─▶ float64
    int8, uint8, int16 ─▶ float32     float16 ─▶ float32 ─▶ float64     all other integers ─▶ float64
    decimal ─▶ a wider decimal; with any other number ─▶ float64
    date32 ─▶ date64 ─▶ timestamp     timestamp, time, duration ─▶ the finer unit     two time zones ─▶ UTC
    fixed_size_binary ─▶ binary ─▶ large_binary     string ─▶ large_string
    any two other scalars ─▶ string, or large_string if either is large
    a list of scalars and a scalar ─▶ the same, with the list as JSON
    fixed-size list ─▶ list ─▶ large_list, with their items; struct field by field; map part by part

uint16 goes with float64 and not with float32, although that holds it: int16 and uint16 are int32 together,
which float32 does not hold, and the result must not depend on the order. A signed type and uint64 are
float64, as in NumPy: decimal(20) would be exact, but no longer a number to most readers. bool is a small
integer, as in Python.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from rund_daemon.segments.plain_types import map_of

_MAX_DECIMAL128, _MAX_DECIMAL256 = 38, 76
_UNITS = ("s", "ms", "us", "ns")

_BOOL = frozenset({pa.bool_()})
_UINT8 = _BOOL | {pa.uint8()}
_INT8 = _BOOL | {pa.int8()}
_UINT16 = _UINT8 | {pa.uint16()}
_INT16 = _UINT8 | _INT8 | {pa.int16()}
_UINT32 = _UINT16 | {pa.uint32()}
_INT32 = _UINT16 | _INT16 | {pa.int32()}
_UINT64 = _UINT32 | {pa.uint64()}
_INT64 = _UINT32 | _INT32 | {pa.int64()}
_FLOAT16 = _BOOL | {pa.float16()}
_FLOAT32 = _INT16 | _FLOAT16 | {pa.float32()}
_FLOAT64 = _UINT64 | _INT64 | _FLOAT32 | {pa.float64()}

# Each number type with all that it holds; the first that holds two types is their least upper bound.
_NUMBERS: tuple[tuple[pa.DataType, frozenset[Any]], ...] = (
    (pa.bool_(), _BOOL),
    (pa.uint8(), _UINT8),
    (pa.int8(), _INT8),
    (pa.uint16(), _UINT16),
    (pa.int16(), _INT16),
    (pa.uint32(), _UINT32),
    (pa.int32(), _INT32),
    (pa.uint64(), _UINT64),
    (pa.int64(), _INT64),
    (pa.float16(), _FLOAT16),
    (pa.float32(), _FLOAT32),
    (pa.float64(), _FLOAT64),
)


def unify_types(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    """Gives the type that holds both, with everything nested nullable; None if there is none.

    Args:
        a: a plain type.
        b: a plain type.
    """
    if types.is_null(a):
        return b if types.is_null(b) else unify_types(b, b)
    if types.is_null(b):
        return unify_types(a, a)
    if types.is_nested(a) != types.is_nested(b):
        return _text_of(a, b) if _is_flat(a) and _is_flat(b) else None
    return _unify_nested(a, b) if types.is_nested(a) else _unify_scalars(a, b)


def unify_fields(a: pa.Field[Any], b: pa.Field[Any]) -> pa.Field[Any] | None:
    """Unifies two fields of one name. The metadata of `a` wins if it has any."""
    unified = unify_types(a.type, b.type)
    return None if unified is None else pa.field(a.name, unified, metadata=a.metadata or b.metadata)


def _unify_nested(a: Any, b: Any) -> Any:
    if types.is_struct(a) and types.is_struct(b):
        return _unify_structs(a, b)
    if types.is_map(a) and types.is_map(b):
        key, item = unify_types(a.key_type, b.key_type), unify_types(a.item_type, b.item_type)
        return None if key is None or item is None else map_of(key, item, a, b)
    if _is_list(a) and _is_list(b):
        return _unify_lists(a, b)
    return None


def _unify_lists(a: Any, b: Any) -> Any:
    item = unify_types(a.value_type, b.value_type)
    # A list of lists and a list of scalars: their items could be text, but that would be neither's.
    if item is None or (_is_list(a.value_type) != _is_list(b.value_type) and not types.is_nested(item)):
        return None
    if types.is_fixed_size_list(a) and types.is_fixed_size_list(b) and a.list_size == b.list_size:
        return pa.list_(item, a.list_size)
    large = types.is_large_list(a) or types.is_large_list(b)
    return pa.large_list(item) if large else pa.list_(item)


def _unify_structs(a: Any, b: Any) -> Any:
    fields = []
    for field in [*a, *(field for field in b if a.get_field_index(field.name) < 0)]:
        index = b.get_field_index(field.name)
        unified = unify_fields(field, b.field(index) if index >= 0 else field)
        if unified is None:
            return None
        fields.append(unified)
    return pa.struct(fields)


def _unify_scalars(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    for unify in (_unify_numbers, _unify_decimals, _unify_times, _unify_binary):
        unified = unify(a, b)
        if unified is not None:
            return unified
    return _text_of(a, b)


def _text_of(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    return pa.large_string() if _is_large(a) or _is_large(b) else pa.string()


def _unify_numbers(a: pa.DataType, b: pa.DataType) -> pa.DataType | None:
    return next((wide for wide, held in _NUMBERS if a in held and b in held), None)


def _unify_decimals(a: Any, b: Any) -> Any:
    if types.is_decimal(a) and types.is_decimal(b):
        scale = max(a.scale, b.scale)
        precision = max(a.precision - a.scale, b.precision - b.scale) + scale
        if precision > _MAX_DECIMAL256:
            return pa.float64()
        wide = precision > _MAX_DECIMAL128 or types.is_decimal256(a) or types.is_decimal256(b)
        return pa.decimal256(precision, scale) if wide else pa.decimal128(precision, scale)
    numbers = [kind for kind in (a, b) if kind in _FLOAT64]
    decimals = [kind for kind in (a, b) if types.is_decimal(kind)]
    return pa.float64() if numbers and decimals else None


def _unify_times(a: Any, b: Any) -> Any:
    if _is_calendar(a) and _is_calendar(b):
        return _unify_calendar(a, b)
    if types.is_timestamp(a) and types.is_timestamp(b) and a.tz and b.tz:
        return pa.timestamp(_finer(a.unit, b.unit), a.tz if a.tz == b.tz else "UTC")
    if types.is_time(a) and types.is_time(b):
        unit = _finer(a.unit, b.unit)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    if types.is_duration(a) and types.is_duration(b):
        return pa.duration(_finer(a.unit, b.unit))
    return None


def _finer(*units: str) -> Any:
    return max(units, key=_UNITS.index)


def _unify_calendar(a: Any, b: Any) -> Any:
    """Dates and times without a zone."""
    units = [kind.unit for kind in (a, b) if types.is_timestamp(kind)]
    dates64 = types.is_date64(a) or types.is_date64(b)
    if units:
        return pa.timestamp(_finer(*units, "ms" if dates64 else "s"))
    return pa.date64() if dates64 else pa.date32()


def _unify_binary(a: Any, b: Any) -> Any:
    if _is_text(a) and _is_text(b):
        return pa.large_string() if _is_large(a) or _is_large(b) else pa.string()
    if not (_is_binary(a) and _is_binary(b)):
        return None
    if a == b and types.is_fixed_size_binary(a):
        return a
    return pa.large_binary() if _is_large(a) or _is_large(b) else pa.binary()


def _is_list(kind: pa.DataType) -> bool:
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_flat(kind: Any) -> bool:
    if _is_list(kind):
        return not types.is_nested(kind.value_type)
    return not types.is_nested(kind)


def _is_calendar(kind: Any) -> bool:
    return types.is_date(kind) or (types.is_timestamp(kind) and kind.tz is None)


def _is_text(kind: pa.DataType) -> bool:
    return types.is_string(kind) or types.is_large_string(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)


def _is_large(kind: pa.DataType) -> bool:
    return types.is_large_string(kind) or types.is_large_binary(kind)
