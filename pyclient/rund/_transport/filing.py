"""When queued batches go to the daemon where files can be handed over, and which of them go as one file.

A file costs the daemon about as much as a megabyte in it, so batches gather: a moment before the first file, and then
while the files before are with the daemon. Whoever waits for an ack is not kept waiting for that.

It is part of an outbox's state, and is guarded by the outbox's lock.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from .parcels import FILE_BYTES, Bundle, Files, Parcel

LEAST_FILE_BYTES = 1 << 20
"""Less than this goes over the socket: a file would cost about as much as sending it."""
_BEGINNING_BYTES = 4 << 20
"""Enough for a file when none is under way."""
_LINGER_S = 0.004
"""How long batches gather when none is under way: in about this time a trainer that writes in bulk has made enough."""
_MOST_UNDER_WAY = 3
"""The daemon looks at so many of a stream side by side."""


class Filing:
    """The batches that are queued and not sent."""

    def __init__(self) -> None:
        self.unsent_bytes = 0
        self._since = 0.0
        self._files: Files | None = None
        self._under_way: list[int] = []  # last sequences of files that are not acknowledged

    @property
    def hands_over(self) -> bool:
        """Whether there is a folder for files."""
        return self._files is not None

    def begin(self, files: Files | None, unsent_bytes: int) -> None:
        """A call was opened: so much has to be sent in it, and perhaps it takes files."""
        self.stop()
        self._files = files
        self.unsent_bytes, self._since = unsent_bytes, time.monotonic()

    def stop(self) -> None:
        """No more files."""
        self._files, self._under_way = None, []

    def add(self, parcel: Parcel) -> bool:
        """A batch was queued. Gives whether whoever sends has to look: it is the first one, or now there are enough."""
        before = self.unsent_bytes
        self.unsent_bytes += parcel.data.size
        if before == 0:
            self._since = time.monotonic()
        if before == 0 or not self._takes(parcel):
            return True
        return before < self._enough() <= self.unsent_bytes

    def acked(self, sequence: int) -> bool:
        """Batches are durable. Gives whether whoever sends has to look: a file is less on its way."""
        if not self._under_way or self._under_way[0] > sequence:
            return False
        self._under_way = [last for last in self._under_way if last > sequence]
        return True

    def pause(self, first: Parcel) -> float | None:
        """Seconds that the next batch had better wait for others; None: until something happens."""
        if not self._takes(first):
            return 0.0
        if len(self._under_way) >= _MOST_UNDER_WAY:
            return None
        if self.unsent_bytes >= self._enough():
            return 0.0
        if self._under_way:
            return None
        return max(0.0, self._since + _LINGER_S - time.monotonic())

    def take(self, first: Parcel, parcels: Mapping[int, Parcel]) -> Parcel | Bundle:
        """What goes next: the batches of a file, or one batch alone."""
        filed = self._fileable(first, parcels)
        taken = filed or [first]
        self.unsent_bytes -= sum(parcel.data.size for parcel in taken)
        self._since = time.monotonic()
        if not filed:
            return first
        self._under_way.append(filed[-1].sequence)
        return Bundle(tuple(filed))

    def _enough(self) -> int:
        return FILE_BYTES if self._under_way else _BEGINNING_BYTES

    def _takes(self, parcel: Parcel) -> bool:
        return self._files is not None and self._files.takes(parcel.schema)

    def _fileable(self, first: Parcel, parcels: Mapping[int, Parcel]) -> list[Parcel]:
        """The batches of the next file; none if they are not worth one."""
        if self.unsent_bytes < LEAST_FILE_BYTES or not self._takes(first):
            return []
        filed, size = [first], first.data.size
        while (following := parcels.get(filed[-1].sequence + 1)) is not None:
            if following.schema != first.schema or size + following.data.size > FILE_BYTES:
                break
            filed.append(following)
            size += following.data.size
        return filed if size >= LEAST_FILE_BYTES else []
