"""A place in an ordered list, as text for a page token: what the last run of a page was ordered by."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rund_daemon.identity import parse_uid, uid_text
from rund_daemon.model import Micros, Uid

from .filters import Missing, Timestamp

MAX_LENGTH = 16_384


@dataclass(frozen=True, slots=True)
class Position:
    """Behind a run that had this uid, and these values of what is ordered by."""

    uid: Uid
    values: tuple[Any, ...] = ()


def position_to_text(position: Position) -> str:
    """Writes a position."""
    if not position.values:
        return uid_text(position.uid)
    return json.dumps([uid_text(position.uid), *map(_to_json, position.values)], separators=(",", ":"))


def position_from_text(text: str, count: int) -> Position | None:
    """Reads a position with so many values; None if it is none."""
    try:
        uid, *values = json.loads(text) if count else [text]
        if len(text) > MAX_LENGTH or len(values) != count:
            return None
        return Position(parse_uid(uid, "page_token"), tuple(map(_from_json, values)))
    # Whatever a stranger can make of a token.
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return None


def _to_json(value: Any) -> Any:
    """JSON has no times and no bytes, and a map must be told from what stands for them."""
    if isinstance(value, Missing):
        return None
    if isinstance(value, Timestamp):
        return {"t": value.micros}
    if isinstance(value, bytes):
        return {"b": value.hex()}
    if isinstance(value, list):
        return [_to_json(item) for item in value]
    if isinstance(value, dict):
        return {"m": {key: _to_json(item) for key, item in value.items()}}
    return value


def _from_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    [(kind, inner)] = value.items()
    if kind == "t":
        return Timestamp(Micros(int(inner)))
    if kind == "b":
        return bytes.fromhex(inner)
    return {key: _from_json(item) for key, item in value["m"].items()}
