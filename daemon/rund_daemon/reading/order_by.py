"""How lists are ordered: AIP-132's `order_by`, and a total order over values of any kinds.

    order_by  [term {, term}]
    term      path [desc]

Missing and null values come last, whichever the direction. Values of different kinds are ordered by kind:
truth values, numbers (NaN after all others), times, texts (by code points), bytes, lists, maps.
https://google.aip.dev/132
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from rund_rows.scanner import Scanner

from rund_daemon.errors import Reason
from rund_daemon.reading.filters import Field, FieldKind, Found, Lookup, Missing, Timestamp, blaming

FIELD = "order_by"
"""The field that errors blame."""

MAX_LENGTH = 1_024

OrderBy: TypeAlias = tuple[tuple[tuple[str, ...], bool], ...]
"""Paths, each with whether it is descending."""

RUN_ORDER_FIELDS: Mapping[str, Field] = {
    "create_time": Field(FieldKind.TIME),
    "update_time": Field(FieldKind.TIME),
    "end_time": Field(FieldKind.TIME),
    "name": Field(FieldKind.TEXT),
    "run_name": Field(FieldKind.TEXT),
    "project_name": Field(FieldKind.TEXT),
    "status": Field(FieldKind.CHOICE),
    "labels": Field(FieldKind.MAP),
    "parameters": Field(FieldKind.MAP),
    "outputs": Field(FieldKind.MAP),
}
"""What ListRunsRequest.order_by may name."""

_DIRECTION = re.compile(r"[^\s,]+")


@blaming(FIELD, Reason.INVALID_ORDER_BY)
def parse_order_by(text: str, fields: Mapping[str, Field] | None = None) -> OrderBy:
    """Parses an order. An empty one has no terms.

    Args:
        text: as the caller wrote it.
        fields: what it may name; None means anything.

    Raises:
        InvalidError: INVALID_ORDER_BY, with the column (from 1) where it goes wrong as metadata `position`.
    """
    scanner = Scanner(text)
    if len(text) > MAX_LENGTH:
        raise scanner.error(f"it has {len(text)} characters and the limit is {MAX_LENGTH}", MAX_LENGTH)
    scanner.skip_space()
    terms: list[tuple[tuple[str, ...], bool]] = []
    while scanner.next or terms:
        terms.append(_term(scanner, fields))
        if not scanner.next:
            break
        scanner.position += 1
        scanner.skip_space()
    return tuple(terms)


def sort_key(order: OrderBy, lookup: Lookup) -> tuple[Any, ...]:
    """Gives the key by which what `lookup` gives is sorted: keys of one order can always be compared."""
    return tuple(_term_key(lookup(path), descending) for path, descending in order)


class _Descending:
    """A key that sorts the other way round."""

    __slots__ = ("key",)

    def __init__(self, key: Any) -> None:
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descending) and bool(self.key == other.key)

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.key < self.key)

    def __hash__(self) -> int:
        return hash(self.key)


def _term(scanner: Scanner, fields: Mapping[str, Field] | None) -> tuple[tuple[str, ...], bool]:
    start = scanner.position
    path = scanner.take_path()
    if not path:
        raise scanner.error("a field is missing; write fields with commas, such as `create_time desc, run_name`")
    if fields is not None:
        _check(scanner, path, start, fields)
    scanner.skip_space()
    at = scanner.position
    direction = scanner.take(_DIRECTION)
    if direction not in ("", "desc"):
        remedy = "leave it out, ascending is the default" if direction == "asc" else "use `desc` or a comma"
        raise scanner.error(f"{direction[:60]!r} is not expected here; {remedy}", at)
    scanner.skip_space()
    if scanner.next not in ("", ","):
        raise scanner.error("a comma must follow, or the end")
    return path, bool(direction)


def _check(scanner: Scanner, path: tuple[str, ...], start: int, fields: Mapping[str, Field]) -> None:
    field = fields.get(path[0])
    if field is None:
        known = ", ".join(fields)
        raise scanner.error(f"there is no field {path[0][:60]!r} to sort by; known are {known}", start)
    if field.kind is FieldKind.MAP and len(path) == 1:
        raise scanner.error(f"{path[0]} is a map; sort by one of its values, {path[0]}.KEY", start)
    if field.kind is not FieldKind.MAP and len(path) > 1:
        raise scanner.error(f"{path[0]} has no parts; sort by {path[0]} itself", start)


def _term_key(value: Found, descending: bool) -> tuple[Any, ...]:
    if value is None or isinstance(value, Missing):
        return (1,)
    return (0, _Descending(value_key(value)) if descending else value_key(value))


def value_key(value: Any) -> tuple[Any, ...]:
    """Gives a key that can be compared with that of any other value."""
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, (int, float)):
        return (2, 1, 0) if value != value else (2, 0, value)  # noqa: PLR0124  # NaN
    for rank, kind in enumerate((Timestamp, str, bytes), 3):
        if isinstance(value, kind):
            return (rank, value)
    if isinstance(value, list):
        return (6, tuple(value_key(item) for item in value))
    if isinstance(value, dict):
        return (7, tuple((key, value_key(item)) for key, item in sorted(value.items())))
    return (0,)
