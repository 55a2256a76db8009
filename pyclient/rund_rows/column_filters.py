"""Filters over columns: which rows of a table a filter keeps, as an expression of Arrow's.

The meaning is that of `filters`, with two differences that come of columns having types: what can't be
compared is an error instead of false, and a float in a filter is rounded to the column's width first (0.1
finds 0.1 in a float32 column). An integer or time column is compared exactly, also with fractions and beyond its
range. A null compares false, so `NOT` keeps it. Fields of structs and values of maps are named with dots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from .filter_grammar import (
    And,
    Comparison,
    Filter,
    Not,
    Operator,
    Or,
    Word,
    filter_error,
    leaves,
)
from .filter_literals import Literal, clock_ns, duration_ns

Expression: TypeAlias = Any
"""A pyarrow.compute.Expression; the stubs give its operators no types."""

_UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_DAY_NS = 86_400 * 10**9
_MAX_DECIMAL_DIGITS = 76
_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class _Operand:
    """What a path names: an expression, its type and its name for errors."""

    expression: Expression
    kind: Any
    name: str


# Not pyarrow's to_pandas_dtype: before pyarrow 24 it needs pandas.
_NUMPY_FLOATS: Mapping[pa.DataType, type[np.floating[Any]]] = {
    pa.float16(): np.float16,
    pa.float32(): np.float32,
    pa.float64(): np.float64,
}


def to_expression(tree: Filter, schema: pa.Schema) -> pc.Expression:
    """Makes the expression that is true for the rows that a filter keeps, and false for all others.

    Raises:
        FilterError: if it names an unknown column or compares one with what it can't be.
    """
    expression: pc.Expression = _build(tree, schema)
    return expression


def filter_columns(tree: Filter, schema: pa.Schema) -> frozenset[str]:
    """Gives the columns that a filter looks at.

    Raises:
        FilterError: if it names an unknown column.
    """
    comparisons = [leaf for leaf in leaves(tree) if isinstance(leaf, Comparison)]
    return frozenset(_find(comparison, schema)[0] for comparison in comparisons)


def _build(tree: Filter, schema: pa.Schema) -> Expression:
    if isinstance(tree, Comparison):
        return _compare(tree, schema)
    if isinstance(tree, Not):
        return ~_build(tree.operand, schema)
    if isinstance(tree, Word):
        message = f"{tree.literal.text[:60]!r} is compared with nothing; write for example `step >= 100`"
        raise filter_error(message, tree.literal.position)
    operands = [_build(operand, schema) for operand in tree.operands]
    return _balanced(operands, tree) if operands else pc.scalar(True)


def _balanced(operands: Sequence[Expression], kind: And | Or) -> Expression:
    """Joins many operands into a flat tree: Arrow walks it by recursion."""
    if len(operands) == 1:
        return operands[0]
    half = len(operands) // 2
    left, right = _balanced(operands[:half], kind), _balanced(operands[half:], kind)
    return left & right if isinstance(kind, And) else left | right


def _compare(comparison: Comparison, schema: pa.Schema) -> Expression:
    operand = _resolve(comparison, schema)
    comparator, literal = comparison.operator, comparison.literal
    present = operand.expression.is_valid()
    if comparator is Operator.HAS and literal.anything:
        return present
    if literal.null and comparator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return present if comparator is Operator.NOT_EQUAL else ~present
    for accepts, make in _TESTS:
        if accepts(operand.kind):
            return make(operand, comparator, literal) & present
    remedy = f"it can only be asked whether it has a value, {operand.name}:*"
    raise filter_error(f"{operand.name!r} has type {operand.kind}; {remedy}", comparison.position)


def _find(comparison: Comparison, schema: pa.Schema) -> tuple[str, tuple[str, ...]]:
    """Gives the column that a path begins with, and the rest of the path. Names with dots are found, too."""
    path = comparison.path
    for length in range(1, len(path) + 1):
        name = ".".join(path[:length])
        if schema.get_field_index(name) >= 0:
            return name, path[length:]
    message = f"there is no column {'.'.join(path)[:60]!r}; known are: {_listed(schema.names)}"
    raise filter_error(message, comparison.position)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    complete = len(names) <= _SHOWN_NAMES and len(shown) <= _SHOWN_CHARACTERS
    return (shown if complete else f"{shown[:_SHOWN_CHARACTERS]}, …") or "none"


def _resolve(comparison: Comparison, schema: pa.Schema) -> _Operand:
    name, rest = _find(comparison, schema)
    operand = _Operand(pc.field(name), schema.field(name).type, name)
    while rest:
        operand, rest = _descend(operand, rest, comparison.position)
    return operand


def _descend(operand: _Operand, path: tuple[str, ...], position: int) -> tuple[_Operand, tuple[str, ...]]:
    kind, name = operand.kind, f"{operand.name}.{path[0]}"
    if types.is_map(kind) and (types.is_string(kind.key_type) or types.is_large_string(kind.key_type)):
        value = pc.map_lookup(operand.expression, pa.scalar(path[0], kind.key_type), "first")
        return _Operand(value, kind.item_type, name), path[1:]
    if types.is_struct(kind):
        for length in range(1, len(path) + 1):
            index = kind.get_field_index(".".join(path[:length]))
            if index >= 0:
                value = pc.struct_field(operand.expression, [index])
                return _Operand(value, kind.field(index).type, name), path[length:]
        known = _listed([field.name for field in kind])
        raise filter_error(f"{operand.name!r} has no field {path[0][:60]!r}; it has {known}", position)
    raise filter_error(f"{operand.name!r} has type {kind}, which has no parts; name it alone", position)


def _test_truth(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    if literal.truth is None or comparator.orders:
        raise _mismatch(operand, literal, "true or false, with = or !=")
    return _apply(comparator, operand.expression, pa.scalar(literal.truth))


def _test_float(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    if literal.number is None:
        raise _mismatch(operand, literal, "a number without quotes")
    # Arrow has no comparisons of float16, and every float16 is a float32.
    column = operand.expression.cast(pa.float32()) if types.is_float16(operand.kind) else operand.expression
    number = _rounded(literal.number, operand.kind)
    if not math.isnan(number):
        wide = pa.float64() if types.is_float64(operand.kind) else pa.float32()
        return _apply(comparator, column, pa.scalar(number, wide))
    if comparator.orders:
        return pc.scalar(False)
    return pc.invert(pc.is_nan(column)) if comparator is Operator.NOT_EQUAL else pc.is_nan(column)


def _rounded(number: int | float, kind: Any) -> float:
    try:
        with np.errstate(over="ignore"):
            return float(_NUMPY_FLOATS[kind](number))
    except OverflowError:
        return math.copysign(math.inf, number)


def _test_decimal(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    number = Decimal(literal.text) if literal.number is not None else Decimal("nan")
    if not number.is_finite() or abs(number.adjusted()) > _MAX_DECIMAL_DIGITS:
        raise _mismatch(operand, literal, f"a number of at most {_MAX_DECIMAL_DIGITS} digits without quotes")
    try:
        return _apply(comparator, operand.expression, pa.scalar(Decimal(f"{number:f}")))
    except pa.ArrowInvalid as error:
        raise _mismatch(operand, literal, "a number with fewer digits") from error


def _test_text(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    text = literal.text
    if comparator is Operator.HAS or literal.wild:
        folded = comparator is Operator.HAS
        if literal.open_start == literal.open_end:
            found = pc.match_substring(operand.expression, text, ignore_case=folded)
        else:
            at_end = pc.ends_with if literal.open_start else pc.starts_with
            found = at_end(operand.expression, text, ignore_case=folded)
        return pc.invert(found) if comparator is Operator.NOT_EQUAL else found
    return _apply(comparator, operand.expression, pa.scalar(text, operand.kind))


def _test_integer(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    if literal.number is None:
        raise _mismatch(operand, literal, "a number without quotes")
    return _compare_ticks(operand, comparator, literal.number)


def _test_time(operand: _Operand, comparator: Operator, literal: Literal) -> Expression:
    kind = operand.kind
    if types.is_time(kind):
        nanoseconds, example = clock_ns(literal), 'a time of day in quotes, such as "12:30:00"'
    elif types.is_duration(kind):
        nanoseconds, example = duration_ns(literal), "seconds with an s, such as 1.5s"
    else:
        nanoseconds, example = literal.time_ns, "a time such as 2026-11-30T12:00:00Z or a date"
    if nanoseconds is None:
        raise _mismatch(operand, literal, example)
    unit = _DAY_NS if types.is_date32(kind) else _UNIT_NS["ms" if types.is_date64(kind) else kind.unit]
    return _compare_ticks(operand, comparator, Fraction(nanoseconds, unit))


def _compare_ticks(operand: _Operand, comparator: Operator, value: Fraction | int | float) -> Expression:
    """Compares whole numbers with any number, without rounding or overflow."""
    equal, always, never = comparator in (Operator.EQUAL, Operator.HAS), pc.scalar(True), pc.scalar(False)
    less = comparator in (Operator.LESS, Operator.LESS_OR_EQUAL)
    if isinstance(value, float) and not math.isfinite(value):
        if comparator is Operator.NOT_EQUAL:
            return always
        return never if equal or math.isnan(value) or less is (value < 0) else always
    whole = math.floor(value)
    if whole != value:
        if not comparator.orders:
            return never if equal else always
        comparator = Operator.LESS_OR_EQUAL if less else Operator.GREATER
    signed = not types.is_unsigned_integer(operand.kind)
    bits = operand.kind.bit_width - signed
    if -(2**bits) * signed <= whole < 2**bits:
        carrier: Any = operand.kind if types.is_integer(operand.kind) else f"int{operand.kind.bit_width}"
        return _apply(comparator, operand.expression, pa.scalar(whole, carrier).cast(operand.kind))
    if not comparator.orders:
        return never if equal else always
    return always if less is (whole > 0) else never


def _apply(comparator: Operator, left: Expression, right: Any) -> Expression:
    compare: dict[Operator, Callable[[Any, Any], Expression]] = {
        Operator.EQUAL: pc.equal,
        Operator.HAS: pc.equal,
        Operator.NOT_EQUAL: pc.not_equal,
        Operator.LESS: pc.less,
        Operator.LESS_OR_EQUAL: pc.less_equal,
        Operator.GREATER: pc.greater,
        Operator.GREATER_OR_EQUAL: pc.greater_equal,
    }
    return compare[comparator](left, pc.scalar(right))


def _mismatch(operand: _Operand, literal: Literal, expected: str) -> Exception:
    mistake = f"{operand.name!r} has type {operand.kind} and is compared with {literal.text[:60]!r}"
    return filter_error(f"{mistake}; use {expected}", literal.position)


_TESTS: tuple[tuple[Callable[[Any], bool], Callable[[_Operand, Operator, Literal], Expression]], ...] = (
    (types.is_null, lambda _operand, _comparator, _literal: pc.scalar(False)),
    (types.is_boolean, _test_truth),
    (types.is_integer, _test_integer),
    (types.is_floating, _test_float),
    (types.is_decimal, _test_decimal),
    (types.is_string, _test_text),
    (types.is_large_string, _test_text),
    (types.is_temporal, _test_time),
)
