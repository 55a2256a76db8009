"""What ``log`` accepts, and how it is kept: the user's mapping becomes keys, kinds and plain values.

Integers outside 64 bits become floats, as Arrow has no integer for them. Scalars of NumPy, and arrays or
tensors without a dimension, are what they hold; with one dimension, and lists of numbers, they become lists
of floats.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ._errors import InvalidColumnError, InvalidFieldError, InvalidValueError
from ._journal_records import FIELD_CODES, MAX_KEY_BYTES, Kind, Value

RESERVED_KEYS = frozenset({"step", "time", "rank"})
"""Columns of ``history`` that rund fills itself."""

MAX_KEYS = 4096

DIRECT_KINDS: Mapping[type, Kind] = {
    float: Kind.FLOAT,
    int: Kind.INT,
    bool: Kind.BOOL,
    type(None): Kind.NULL,
    np.bool_: Kind.BOOL,
    **dict.fromkeys((np.float16, np.float32, np.float64), Kind.FLOAT),
    **dict.fromkeys((np.int8, np.int16, np.int32, np.int64), Kind.INT),
    **dict.fromkeys((np.uint8, np.uint16, np.uint32, np.uint64), Kind.INT),
}
"""Types whose values ``struct`` packs as they are."""

Number: TypeAlias = "bool | int | float | np.bool_ | np.integer[Any] | np.floating[Any]"

_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_REMEDY = (
    "log takes None, bool, int, float, str, NumPy scalars, tensors of one value and short lists of numbers: "
    "use add_metrics for arrays, and set_parameters for nested values"
)


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one call of ``log``.

    Attributes:
        keys: The keys, in the caller's order.
        kinds: The kind of each value.
        values: The values, each of a type that its kind stands for.
        types: Types of the caller's values, if all of them are in ``DIRECT_KINDS`` and none was converted.
    """

    keys: tuple[str, ...]
    kinds: tuple[Kind, ...]
    values: tuple[Value, ...]
    types: tuple[type, ...] | None

    @property
    def fixed(self) -> bool:
        """Whether all values are of fixed size."""
        return all(kind in FIELD_CODES for kind in self.kinds)


def read_row(values: Mapping[str, object]) -> Row:
    """Checks and converts the values of one call.

    Raises:
        InvalidColumnError: A key is no text, empty, too long, or one of ``step``, ``time`` and ``rank``.
        InvalidValueError: A value can't be kept; the message names its key.
    """
    if not isinstance(values, Mapping):
        raise InvalidValueError(f"log takes a dict from names to values, not {type(values).__name__}")
    items = list(values.items())
    if len(items) > MAX_KEYS:
        raise InvalidValueError(f"the row has {len(items)} values and log takes {MAX_KEYS}; use add_metrics")
    keys = tuple(_checked_key(key) for key, _ in items)
    pairs = [_read_value(key, value) for key, value in items]
    kinds = tuple(kind for kind, _ in pairs)
    types = tuple(type(value) for _, value in items)
    direct = tuple(DIRECT_KINDS.get(kind) for kind in types) == kinds
    return Row(keys, kinds, tuple(value for _, value in pairs), types if direct else None)


def read_step(step: object) -> int:
    """Checks a step that the caller gave.

    Raises:
        InvalidFieldError: It is no integer, or one outside 64 bits.
    """
    if isinstance(step, (bool, np.bool_)) or not hasattr(step, "__index__"):
        raise InvalidFieldError(f"step must be an integer, not {type(step).__name__}")
    number: int = step.__index__()
    if not _INT_MIN <= number <= _INT_MAX:
        raise InvalidFieldError(f"step {number} is outside 64 bits")
    return number


def _checked_key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidColumnError(f"the key {key!r} is {type(key).__name__}; keys are texts")
    if key in RESERVED_KEYS:
        raise InvalidColumnError(f"the key {key!r} is taken: step, time and rank are columns of every row")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidColumnError(f"the key {key!r} is no valid Unicode text") from None
    if not 1 <= size <= MAX_KEY_BYTES:
        raise InvalidColumnError(f"the key {key[:40]!r} has {size} bytes; keys have 1 to {MAX_KEY_BYTES}")
    if not key.isprintable() and any(unicodedata.category(character) == "Cc" for character in key):
        raise InvalidColumnError(f"the key {key!r} has a control character; leave it out")
    return key


# Any: these are the caller's own values, and their types are what is found out here.
def _read_value(key: str, value: Any) -> tuple[Kind, Value]:
    if value is None:
        return Kind.NULL, None
    if isinstance(value, (bool, int, float, np.bool_, np.integer, np.floating)):
        return _read_scalar(key, value)
    if isinstance(value, str):
        return Kind.STRING, _checked_text(key, value)
    if isinstance(value, (list, tuple)):
        return Kind.LIST, [_read_number(key, item) for item in value]
    return _read_array(key, value)


def _read_scalar(key: str, value: Number) -> tuple[Kind, Value]:
    if isinstance(value, (bool, np.bool_)):
        return Kind.BOOL, bool(value)
    if isinstance(value, (int, np.integer)):
        return _read_int(key, int(value))
    return Kind.FLOAT, float(value)


def _read_int(key: str, value: int) -> tuple[Kind, Value]:
    if _INT_MIN <= value <= _INT_MAX:
        return Kind.INT, value
    try:
        return Kind.FLOAT, float(value)
    except OverflowError:
        raise InvalidValueError(f"the value of {key!r} is an integer too large even for a float") from None


def _checked_text(key: str, value: str) -> str:
    text = str.__str__(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValueError(f"the value of {key!r} is no valid Unicode text") from None
    return text


def _read_array(key: str, value: Any) -> tuple[Kind, Value]:
    # Arrays of NumPy and JAX and tensors of torch agree on these names; none of them need be installed.
    dimensions = getattr(value, "ndim", None)
    if dimensions == 0 and hasattr(value, "item"):
        item = value.item()
        if not hasattr(item, "ndim"):
            return _read_value(key, item)
    if dimensions == 1 and hasattr(value, "tolist"):
        return Kind.LIST, [_read_number(key, item) for item in value.tolist()]
    if dimensions is not None:
        shape = tuple(getattr(value, "shape", ()))
        raise InvalidValueError(f"the value of {key!r} is {type(value).__name__} of shape {shape}; {_REMEDY}")
    raise InvalidValueError(f"the value of {key!r} is {type(value).__name__}; {_REMEDY}")


def _read_number(key: str, item: object) -> float:
    if isinstance(item, (bool, int, float, np.bool_, np.integer, np.floating)):
        try:
            return float(item)
        except OverflowError:
            raise InvalidValueError(f"the list {key!r} has an integer too large even for a float") from None
    if getattr(item, "ndim", None) == 0:
        _, value = _read_array(key, item)
        if isinstance(value, (bool, int, float)):
            return float(value)
    raise InvalidValueError(f"the list {key!r} holds {type(item).__name__}; only numbers may be in it")
