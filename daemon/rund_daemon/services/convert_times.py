"""Times of the wire to and from times of the domain."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from rund_daemon.errors import InvalidError
from rund_daemon.model import Micros

_SECONDS = range(-62_135_596_800, 253_402_300_800)
_NANOS = range(1_000_000_000)


def time_to_pb(time: Micros) -> Timestamp | None:
    """A time; None for 'never'."""
    if not time:
        return None
    seconds, micros = divmod(time, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def time_from_pb(message: Timestamp, field: str) -> Micros:
    """A time in microseconds; what is finer is cut off. Raises InvalidError for what protobuf calls no Timestamp."""
    if not (message.seconds in _SECONDS and message.nanos in _NANOS):
        raise InvalidError(field, "is not a time from year 1 to 9999 with 0 to 999,999,999 nanos")
    return Micros(message.seconds * 1_000_000 + message.nanos // 1_000)
