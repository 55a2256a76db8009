"""An open segment: an Arrow IPC stream file that grows at its end.

Only the writer's thread touches one. What lies beyond the committed mark is nobody's: a failed group is cut off
again, and never anything below the mark, because a reader may have it mapped.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rund_daemon.failpoints import failpoint

from .layout import make_durable_folder, sync_folder

# Linux takes at most this many buffers in one writev (IOV_MAX).
_MAX_BUFFERS = 1024


class OpenSegment:
    """An append-only file with a head (the schema message) and batches behind it."""

    def __init__(self, descriptor: int, path: Path, length: int) -> None:
        self._descriptor = descriptor
        self.path = path
        self.length = length
        # Set when a sync has failed. Nothing more must be written here.
        self.is_doubted = False
        self._pending: list[bytes | memoryview] = []

    @classmethod
    def create(cls, path: Path, head: bytes) -> OpenSegment:
        """Makes a segment that begins with a schema message; overwrites a file that no commit knows."""
        make_durable_folder(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        segment = cls(os.open(path, flags, 0o644), path, 0)
        segment.append(head)
        failpoint("segment.created")
        sync_folder(path.parent)
        return segment

    @classmethod
    def reopen(cls, path: Path, committed: int) -> OpenSegment:
        """Opens a segment to go on behind its committed length; what lies beyond is cut off.

        Raises:
            OSError: the file is gone or shorter than committed.
        """
        segment = cls(os.open(path, os.O_RDWR | os.O_CLOEXEC), path, committed)
        segment.cut_back(committed)
        return segment

    def append(self, data: bytes | memoryview) -> int:
        """Adds bytes to what `flush` will write and gives the offset they will have."""
        offset = self.length
        self._pending.append(data)
        self.length += len(data)
        return offset

    def flush(self) -> None:
        """Hands the gathered bytes to the kernel, in order."""
        pending, self._pending = self._pending, []
        position = self.length - sum(map(len, pending))
        for begin in range(0, len(pending), _MAX_BUFFERS):
            position = self._write(pending[begin : begin + _MAX_BUFFERS], position)

    def sync(self) -> None:
        """Makes what was flushed durable.

        Raises:
            OSError: it is not, and no later sync says whether it is: the kernel tells a fault once and forgets it.
        """
        try:
            failpoint("segment.sync")
            os.fdatasync(self._descriptor)
        except OSError:
            self.is_doubted = True
            raise

    def cut_back(self, committed: int) -> None:
        """Removes everything beyond the committed length."""
        self._pending.clear()
        size = os.fstat(self._descriptor).st_size
        if size < committed:
            raise OSError(f"{self.path} has {size} bytes where {committed} were committed")
        if size > committed:
            os.ftruncate(self._descriptor, committed)
        self.length = committed

    def close(self) -> None:
        """Closes the file; what was not flushed is dropped."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, buffers: Sequence[bytes | memoryview], position: int) -> int:
        views = [memoryview(buffer).cast("B") for buffer in buffers]
        while views:
            written = os.pwritev(self._descriptor, views, position)
            position += written
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]
        return position


def cut_back_file(path: Path | str, committed: int) -> int:
    """Removes what lies beyond the committed length of a file and gives the number of bytes removed.

    Raises:
        OSError: the file is gone or shorter than committed.
    """
    size = os.stat(path).st_size  # noqa: PTH116  # ten thousand files at a start: a Path for each would be felt
    if size < committed:
        raise OSError(f"{path} has {size} bytes where {committed} were committed")
    if size > committed:
        os.truncate(path, committed)
    return size - committed
