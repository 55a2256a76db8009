"""Time and identity. Everything that needs them is handed these functions, so that a test can hand it others."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable

from .errors import InvalidError
from .model import Micros, Uid

Clock = Callable[[], Micros]
UidSource = Callable[[], Uid]


def now() -> Micros:
    """The time of the host."""
    return Micros(time.time_ns() // 1_000)


def new_uid() -> Uid:
    """Makes a UUIDv7 (RFC 9562): 48 bits of milliseconds, 12 of a fraction of one, 62 of chance.

    The fraction (method 3 of the RFC) makes uids of one process sort by their making down to a quarter of a
    microsecond.
    """
    nanos = time.time_ns()
    millis, rest = divmod(nanos, 1_000_000)
    head = (millis << 16 | 0x7000 | (rest << 12) // 1_000_000).to_bytes(8, "big")
    tail = bytearray(os.urandom(8))
    tail[0] = tail[0] & 0x3F | 0x80
    return Uid(head + bytes(tail))


def uid_text(uid: Uid) -> str:
    """The canonical text of a uid."""
    digits = uid.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_uid(text: str, field: str) -> Uid:
    """Reads a uid.

    Raises:
        InvalidError: it is no UUID.
    """
    try:
        return Uid(uuid.UUID(text).bytes)
    except ValueError:
        raise InvalidError(field, f"{text[:60]!r} is not a UUID") from None
