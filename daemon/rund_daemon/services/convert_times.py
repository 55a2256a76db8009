"""Times of the wire to and from times of the domain."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from rund_daemon.model import Micros


def time_to_pb(time: Micros) -> Timestamp | None:
    """A time; None for 'never'."""
    if not time:
        return None
    seconds, micros = divmod(time, 1_000_000)
    return Timestamp(seconds=seconds, nanos=micros * 1_000)


def time_from_pb(message: Timestamp) -> Micros:
    """A time in microseconds; what is finer is cut off."""
    return Micros(message.seconds * 1_000_000 + message.nanos // 1_000)
