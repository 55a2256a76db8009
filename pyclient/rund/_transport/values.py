"""Free-form Python values to and from ``rund.v1.Value``.

What goes in comes back: integers stay integers however large, NaN and infinities are kept, maps keep their
order. What could not come back as it went in is refused here, with the path of the key that holds it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np
from rund_pb.v1 import value_pb2 as pb

from rund._errors import InvalidValueError
from rund._types import Value

MAX_DEPTH = 32
"""Levels of nesting below the outermost map; the daemon's bound."""

_INT64 = range(-(2**63), 2**63)
_REMEDIES = {
    "ndarray": "use .tolist()",
    "Tensor": "use .tolist(), or .item() for one number",
    "set": "use sorted(...)",
    "frozenset": "use sorted(...)",
    "datetime": "use .isoformat()",
    "date": "use .isoformat()",
    "PosixPath": "use str(...)",
    "Decimal": "use float(...) or str(...)",
}


def map_to_pb(values: Mapping[str, object], name: str) -> pb.MapValue:
    """The wire's form of a map.

    Args:
        values: The map. Values may be None, bool, int, float, str, bytes, lists, tuples, maps and NumPy
            scalars.
        name: What the map is called, to begin paths with, such as ``parameters``.

    Raises:
        InvalidValueError: A value can't be kept; the message begins with its path, such as
            ``parameters['optim']['lr']``.
    """
    message = pb.MapValue()
    if not isinstance(values, Mapping):
        raise InvalidValueError(f"{name} is a {type(values).__name__}; give a dict")
    _fill_map(message, values, name, 0)
    return message


def map_from_pb(message: pb.MapValue) -> dict[str, Value]:
    """The Python form of a map."""
    return {entry.key: value_from_pb(entry.value) for entry in message.entries}


def value_from_pb(message: pb.Value) -> Value:
    """The Python form of one value."""
    kind = message.WhichOneof("kind")
    match kind:
        case None:
            return None
        case "list_value":
            return [value_from_pb(item) for item in message.list_value.items]
        case "map_value":
            return map_from_pb(message.map_value)
        case "big_int_value":
            return int(message.big_int_value)
    return cast(Value, getattr(message, kind))


def _fill_map(message: pb.MapValue, values: Mapping[str, object], path: str, depth: int) -> None:
    message.SetInParent()
    _check_depth(path, depth, values)
    for key, value in values.items():
        if not isinstance(key, str):
            raise InvalidValueError(f"{path} has the key {key!r}, a {type(key).__name__}; keys are text")
        place = f"{path}[{key!r}]"
        entry = message.entries.add(key=_checked_text(key, place))
        _fill(entry.value, value, place, depth + 1)


def _fill(message: pb.Value, value: object, path: str, depth: int) -> None:
    match _without_numpy(value):
        case None:
            message.SetInParent()
        case bool() as flag:
            message.bool_value = flag
        case int() as number:
            _fill_int(message, int(number), path)
        case float() as number:
            message.double_value = number
        case str() as text:
            message.string_value = _checked_text(text, path)
        case bytes() | bytearray() | memoryview() as data:
            message.bytes_value = bytes(data)
        case list() | tuple() as items:
            _fill_list(message.list_value, items, path, depth)
        case Mapping() as values:
            _fill_map(message.map_value, values, path, depth)
        case _:
            raise InvalidValueError(_unsupported(value, path))


def _fill_list(message: pb.ListValue, items: Sequence[object], path: str, depth: int) -> None:
    message.SetInParent()
    _check_depth(path, depth, items)
    for index, item in enumerate(items):
        _fill(message.items.add(), item, f"{path}[{index}]", depth + 1)


def _check_depth(path: str, depth: int, children: Collection[object]) -> None:
    if depth >= MAX_DEPTH and children:
        # A path of 32 keys is no help; its beginning is.
        raise InvalidValueError(f"{path[:200]} nests more than {MAX_DEPTH} levels deep; flatten it")


def _without_numpy(value: object) -> object:
    # Not .item() for all: of a longdouble it gives a longdouble, of a datetime64[ns] a bare integer.
    if isinstance(value, np.timedelta64):
        return value
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    return float(value) if isinstance(value, np.floating) else value


def _fill_int(message: pb.Value, value: int, path: str) -> None:
    if value in _INT64:
        message.int_value = value
        return
    try:
        message.big_int_value = str(value)
    except ValueError:
        # Python refuses to print integers of more than 4,300 digits, and the daemon to take them.
        raise InvalidValueError(f"{path} is an integer of more than 4300 digits; use a str") from None


def _checked_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError(f"{path} holds a lone surrogate, which is not text; use bytes") from None
    # A subclass of str, such as a member of StrEnum, is kept as the text that it is.
    return str.__str__(text)


def _unsupported(value: object, path: str) -> str:
    kind = type(value).__name__
    remedy = _REMEDIES.get(kind, "use None, bool, int, float, str, bytes, a list or a dict")
    return f"{path} is a {kind}, which can't be kept; {remedy}"
