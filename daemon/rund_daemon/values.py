"""Free-form values to and from messages shaped like rund.v1.Value.

The wire's Value and the catalog's are two messages of one shape, so one pair of functions serves both: it is handed a
message and never names its class. Nesting is bounded, because a message of 4 MiB can nest deeper than Python's stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from .errors import InvalidError, Reason
from .model import Value, Values

MAX_DEPTH = 32

ValueMessage: TypeAlias = Any
"""A message with the fields of rund.v1.Value; protobuf has no static type for 'shaped like'."""

_INT64 = range(-(2**63), 2**63)


def fill_map(message: ValueMessage, values: Values) -> None:
    """Writes a map into a message shaped like rund.v1.MapValue."""
    message.SetInParent()
    for key, value in values.items():
        entry = message.entries.add(key=key)
        fill_value(entry.value, value)


def fill_value(message: ValueMessage, value: Value) -> None:  # noqa: C901  # one case a kind
    """Writes one value into a message shaped like rund.v1.Value."""
    match value:
        case None:
            message.SetInParent()
        case bool():
            message.bool_value = value
        case int() if value in _INT64:
            message.int_value = value
        case int():
            message.big_int_value = str(value)
        case float():
            message.double_value = value
        case str():
            message.string_value = value
        case bytes():
            message.bytes_value = value
        case list():
            message.list_value.SetInParent()
            for item in value:
                fill_value(message.list_value.items.add(), item)
        case dict():
            fill_map(message.map_value, value)


def read_map(message: ValueMessage, field: str, depth: int = 0) -> Values:
    """Reads a message shaped like rund.v1.MapValue.

    Args:
        message: the map.
        field: its path in the request, for errors.
        depth: levels above it.

    Raises:
        InvalidError: a key appears twice, it nests too deeply, or a big integer is none.
    """
    values: Values = {}
    for entry in message.entries:
        path = f"{field}.{entry.key}"
        if entry.key in values:
            raise _invalid(path, "the key appears twice; give each key once")
        values[entry.key] = read_value(entry.value, path, depth + 1)
    return values


def read_value(message: ValueMessage, field: str, depth: int = 0) -> Value:
    """Reads a message shaped like rund.v1.Value; the arguments are those of `read_map`."""
    if depth > MAX_DEPTH:
        raise _invalid(field[:200], f"nests more than {MAX_DEPTH} levels deep; flatten it")
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "list_value":
        return [read_value(item, f"{field}[]", depth + 1) for item in message.list_value.items]
    if kind == "map_value":
        return read_map(message.map_value, field, depth)
    if kind == "big_int_value":
        return _read_big_int(message.big_int_value, field)
    value: Value = getattr(message, kind)
    return value


def fill_maps(messages: Any, maps: Iterable[Values]) -> None:
    """Appends maps to a repeated field of messages shaped like rund.v1.MapValue."""
    for values in maps:
        fill_map(messages.add(), values)


def _read_big_int(digits: str, field: str) -> int:
    # 4,300 digits is Python's own bound on int(str): beyond it the time is quadratic.
    if len(digits) > 4300 or not digits.removeprefix("-").isdecimal() or not digits.isascii():
        raise _invalid(field, "big_int_value is not up to 4300 decimal digits with an optional minus")
    return int(digits)


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(field, message, reason=Reason.INVALID_VALUE)
