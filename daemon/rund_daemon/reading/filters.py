"""Filters over values: which runs a filter holds for.

- A field that is missing or null compares false, with every comparator. `NOT` of that is true.
- `name:*` holds where there is a value, `name = null` where there is none.
- Texts: `=` compares the whole text, with `*` at its ends for any text; `:` looks for a part, ignoring case;
  `<` compares by code points. A number in a filter is compared with a text as the text that it is.
- Numbers: 1 and 1.0 are equal; NaN equals NaN and is neither less nor greater than anything.
- Times: RFC 3339, UTC without an offset, midnight without a time.
- Lists: `:` holds if one item equals the value. Maps: `:` holds if there is such a key.
- Values of another kind than the filter's are different: `!=` holds, everything else does not.
- A word alone holds if it is part of a text in one of a few fields, ignoring case.
"""

from __future__ import annotations

import enum
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
from rund_rows import column_filters, filter_grammar
from rund_rows.errors import FilterError
from rund_rows.filter_grammar import And, Comparison, Filter, Not, Operator, Or, Word, filter_error, leaves
from rund_rows.filter_literals import Literal

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros, RunStatus, Value

__all__ = [
    "RUN_FIELDS",
    "RUN_TEXTS",
    "Field",
    "FieldKind",
    "Filter",
    "Lookup",
    "Missing",
    "Timestamp",
    "blaming",
    "check_fields",
    "compare",
    "comparer",
    "descend",
    "filter_columns",
    "has_word",
    "matches",
    "parse_filter",
    "to_expression",
]


@contextmanager
def blaming(field: str, reason: Reason) -> Iterator[None]:
    """Makes of what is wrong with a text an error that blames the request's field, with the place as `position`."""
    try:
        yield
    except FilterError as error:
        raise InvalidError(field, error.message, reason=reason, position=error.position) from error


@blaming("filter", Reason.INVALID_FILTER)
def parse_filter(text: str) -> Filter:
    """Parses a filter. An empty one holds everywhere. Raises InvalidError."""
    return filter_grammar.parse_filter(text)


@blaming("filter", Reason.INVALID_FILTER)
def to_expression(tree: Filter, schema: pa.Schema) -> pc.Expression:
    """Makes the expression that is true for the rows that a filter keeps, and false for others. Raises InvalidError."""
    return column_filters.to_expression(tree, schema)


@blaming("filter", Reason.INVALID_FILTER)
def filter_columns(tree: Filter, schema: pa.Schema) -> frozenset[str]:
    """Gives the columns that a filter looks at. Raises InvalidError."""
    return column_filters.filter_columns(tree, schema)


class Missing(enum.Enum):
    """Stands for a field that is not there."""

    MISSING = "missing"


@dataclass(frozen=True, slots=True, order=True)
class Timestamp:
    """A time among the values of a run, so that it is not taken for a number."""

    micros: Micros


Found: TypeAlias = "Value | Timestamp | Missing"
Lookup: TypeAlias = "Callable[[tuple[str, ...]], Found]"
"""Gives the value at a path."""


class FieldKind(enum.Enum):
    """What a field holds, as far as a filter must know before it is run."""

    TEXT = "text"
    TIME = "time"
    CHOICE = "choice"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Field:
    """A field that may be named in a filter; of a CHOICE, the names that it can have."""

    kind: FieldKind
    choices: tuple[str, ...] = ()


RUN_FIELDS: Mapping[str, Field] = {
    "name": Field(FieldKind.TEXT),
    "project_name": Field(FieldKind.TEXT),
    "run_name": Field(FieldKind.TEXT),
    "uid": Field(FieldKind.TEXT),
    "description": Field(FieldKind.TEXT),
    "status": Field(FieldKind.CHOICE, tuple(RunStatus)),
    "create_time": Field(FieldKind.TIME),
    "update_time": Field(FieldKind.TIME),
    "end_time": Field(FieldKind.TIME),
    "labels": Field(FieldKind.MAP),
    "parameters": Field(FieldKind.MAP),
    "outputs": Field(FieldKind.MAP),
}
"""What ListRunsRequest.filter may name."""

RUN_TEXTS = (("run_name",), ("project_name",), ("description",), ("labels",))
"""Where a word alone is looked for in a run."""

_ORDERS: Mapping[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operator.lt,
    Operator.LESS_OR_EQUAL: operator.le,
    Operator.GREATER: operator.gt,
    Operator.GREATER_OR_EQUAL: operator.ge,
}


def matches(tree: Filter, lookup: Lookup, searched: Sequence[tuple[str, ...]] = RUN_TEXTS) -> bool:
    """Says whether a filter holds for what `lookup` gives.

    Args:
        tree: the filter.
        lookup: gives the value at a path.
        searched: where a word alone is looked for: paths of texts, or of maps with texts.
    """
    if isinstance(tree, Comparison):
        return compare(lookup(tree.path), tree.operator, tree.literal)
    if isinstance(tree, And):
        return all(matches(operand, lookup, searched) for operand in tree.operands)
    if isinstance(tree, Or):
        return any(matches(operand, lookup, searched) for operand in tree.operands)
    if isinstance(tree, Not):
        return not matches(tree.operand, lookup, searched)
    return any(has_word(lookup(path), tree.literal) for path in searched)


@blaming("filter", Reason.INVALID_FILTER)
def check_fields(tree: Filter, fields: Mapping[str, Field]) -> None:
    """Checks a filter before it is run, so that a mistake is not taken for 'nothing found'.

    Raises:
        InvalidError: INVALID_FILTER, if it names an unknown field or compares one with what it can't be.
    """
    for leaf in leaves(tree):
        if not isinstance(leaf, Word):
            _check_comparison(leaf, fields)


def descend(value: Value | Missing, path: tuple[str, ...]) -> Value | Missing:
    """Gives what lies at a path inside a free-form value.

    A key that has dots itself is found by the joined names, too. In a list the path is followed in each item.
    """
    if not path:
        return value
    if isinstance(value, list):
        found = [descend(item, path) for item in value]
        return [item for item in found if not isinstance(item, Missing)]
    if isinstance(value, dict):
        for length in range(1, len(path) + 1):
            key = ".".join(path[:length])
            if key in value:
                return descend(value[key], path[length:])
    return Missing.MISSING


def compare(value: Found, comparator: Operator, literal: Literal) -> bool:
    """Says whether a comparison holds for a value."""
    absent = value is None or value is Missing.MISSING
    if comparator is Operator.HAS and literal.anything:
        return not absent
    if literal.null and comparator in (Operator.EQUAL, Operator.NOT_EQUAL):
        return absent is (comparator is Operator.EQUAL)
    return not absent and _compare_present(value, comparator, literal)


def _compare_present(value: Found, comparator: Operator, literal: Literal) -> bool:
    if comparator.orders:
        return _orders(value, comparator, literal)
    if comparator is Operator.HAS:
        return _has(value, literal)
    return _equals(value, literal) is (comparator is Operator.EQUAL)


def _equals(value: Found, literal: Literal) -> bool:
    if isinstance(value, bool):
        return literal.truth is value
    if isinstance(value, (int, float)):
        return literal.number is not None and _same_number(value, literal.number)
    if isinstance(value, str):
        return _text_equals(value, literal)
    return isinstance(value, Timestamp) and value.micros * 1000 == literal.time_ns


def _same_number(a: int | float, b: int | float) -> bool:
    return a == b or (a != a and b != b)  # noqa: PLR0124  # math.isnan fails on large integers


def comparer(comparator: Operator, literal: Literal) -> Callable[[Found], bool]:
    """Gives `compare` for one comparison, in a form that is fast over many values."""
    if comparator.orders:
        order, text, number, time_ns = _ORDERS[comparator], literal.text, literal.number, literal.time_ns

        def ordered(value: Any) -> bool:
            kind = type(value)
            if kind is Timestamp:
                return time_ns is not None and order(value.micros * 1000, time_ns)
            if kind is str:
                return order(value, text)
            return (kind is float or kind is int) and number is not None and order(value, number)

        return ordered
    if comparator is not Operator.HAS and not literal.null:
        wanted = comparator is Operator.EQUAL
        return lambda value: (
            _text_equals(value, literal) is wanted if type(value) is str else compare(value, comparator, literal)
        )
    return lambda value: compare(value, comparator, literal)


def has_word(value: Found, literal: Literal) -> bool:
    """Says whether a word is found in a text, or in the texts of a map."""
    texts = value.values() if isinstance(value, dict) else (value,)
    return any(isinstance(text, str) and _contains(text, literal) for text in texts)


def _has(value: Found, literal: Literal) -> bool:
    if isinstance(value, str):
        return _contains(value, literal)
    if isinstance(value, list):
        return any(_equals(item, literal) for item in value)
    if isinstance(value, dict):
        return any(_text_equals(key, literal) for key in value)
    return _equals(value, literal)


def _orders(value: Found, comparator: Operator, literal: Literal) -> bool:
    compare = _ORDERS[comparator]
    if isinstance(value, str):
        return compare(value, literal.text)
    if isinstance(value, Timestamp):
        return literal.time_ns is not None and compare(value.micros * 1000, literal.time_ns)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return literal.number is not None and compare(value, literal.number)
    return False


def _text_equals(value: str, literal: Literal) -> bool:
    if literal.open_start and literal.open_end:
        return literal.text in value
    if literal.open_start:
        return value.endswith(literal.text)
    return value.startswith(literal.text) if literal.open_end else value == literal.text


def _contains(value: str, literal: Literal) -> bool:
    folded, text = value.casefold(), literal.text.casefold()
    if literal.open_start == literal.open_end:
        return text in folded
    return folded.endswith(text) if literal.open_start else folded.startswith(text)


def _check_comparison(comparison: Comparison, fields: Mapping[str, Field]) -> None:
    name, *rest = comparison.path
    field = fields.get(name)
    dotted, position, literal = ".".join(comparison.path)[:80], comparison.position, comparison.literal
    if field is None:
        raise filter_error(f"there is no field {dotted!r}; known are {', '.join(fields)}", position)
    if field.kind is FieldKind.MAP:
        if not rest and comparison.operator is not Operator.HAS:
            raise filter_error(f"{name} is a map; compare one of its values, {name}.KEY", position)
        return
    if rest:
        raise filter_error(f"{name} has no parts; compare {name} itself", position)
    if literal.null or (literal.anything and comparison.operator is Operator.HAS):
        return
    if field.kind is FieldKind.TIME and literal.time_ns is None:
        raise filter_error(f"{name} is a time; compare it with one such as 2026-11-30T12:00:00Z", literal.position)
    if field.kind is FieldKind.CHOICE and not _is_choice(comparison, field.choices):
        raise filter_error(f"{name} is one of {', '.join(field.choices)}; use = or != with them", literal.position)


def _is_choice(comparison: Comparison, choices: tuple[str, ...]) -> bool:
    has = comparison.operator is Operator.HAS
    same = _contains if has else _text_equals
    return not comparison.operator.orders and any(same(choice, comparison.literal) for choice in choices)
