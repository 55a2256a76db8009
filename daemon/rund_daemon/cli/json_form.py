"""The JSON that `--json` writes.

Objects bear the names of the client's attributes. Numbers stay numbers, integers of any size whole. What JSON has no
form for is written as protobuf's JSON mapping does: NaN and the infinities as the strings `NaN`, `Infinity` and
`-Infinity`, bytes as base64, times as RFC 3339 in UTC, spans of time in seconds. A status is its name. Output is
plain ASCII.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path


def json_document(value: object) -> str:
    """One document, for a person's eyes too."""
    return json.dumps(json_form(value), indent=2, allow_nan=False)


def json_line(value: object) -> str:
    """One line of a stream."""
    return json.dumps(json_form(value), allow_nan=False)


def json_form(value: object) -> object:
    """The value as dicts, lists, texts, numbers, truth values and None."""
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value, str) else value.name
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else _not_finite(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {str(json_form(key)): json_form(item) for key, item in value.items()}
    if isinstance(value, (Sequence, AbstractSet)):
        return [json_form(item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_form(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _text_or_number(value)


def utc_text(time: dt.datetime) -> str:
    """A time as RFC 3339 in UTC; one without a time zone is left in its own."""
    if time.tzinfo is None:
        return time.isoformat()
    return time.astimezone(dt.UTC).isoformat().replace("+00:00", "Z")


def _text_or_number(value: object) -> object:
    if isinstance(value, dt.datetime):
        return utc_text(value)
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (decimal.Decimal, Path)):
        return str(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _not_finite(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
