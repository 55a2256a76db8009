"""The folder where batches are handed to a daemon on this host as files, so that they need not cross the socket."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
from rund_pb.v1 import metrics_service_pb2 as pb

from rund._failpoints import failpoint

from .parcels import Parcel
from .write_back import begin_write_back

_PREAMBLE = b"ARROW1\0\0"
# Linux takes at most this many buffers in one writev (IOV_MAX).
_MAX_BUFFERS = 1024
_WRITE_BACK_BYTES = 2 << 20
"""After so much the disk is told to begin: it writes while the rest of the file is made and checked."""


class StagingFolder:
    """A folder that the daemon has offered for one call.

    Args:
        path: The folder.
        head: The schema message that its files begin with.
        min_free_bytes: Free space under which nothing is put there.
    """

    def __init__(self, path: Path, head: bytes, min_free_bytes: int) -> None:
        self._path = path
        self._head = head
        self._min_free_bytes = min_free_bytes
        self._columns = _columns(head)
        self._taken: dict[bytes, bool] = {}

    @classmethod
    def find(cls, said: pb.WriteMetricsResponse.Staging) -> StagingFolder | None:
        """The folder that the daemon speaks of, or None if it is not to be found here.

        Its name is new and can't be guessed: a folder of this name is the daemon's, in a container too.
        """
        try:
            state = os.lstat(said.folder)
        except OSError:
            return None
        if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.geteuid() or not os.access(said.folder, os.W_OK):
            return None
        return cls(Path(said.folder), said.arrow_schema, said.min_free_bytes)

    def takes(self, schema: bytes) -> bool:
        """Whether batches of this schema message may be put into a file: their columns are those of its head."""
        if schema not in self._taken:
            self._taken[schema] = _columns(schema) == self._columns
        return self._taken[schema]

    def write(self, parcels: Sequence[Parcel]) -> str:
        """Puts batches that follow each other into a file and gives its name.

        Raises:
            OSError: It can't be written, or the disk is nearly full.
        """
        size = sum(parcel.data.size for parcel in parcels)
        free = os.statvfs(self._path)
        if free.f_bavail * free.f_frsize - size < self._min_free_bytes:
            raise OSError("there is not enough free space to put batches into a file")
        name = f"{parcels[0].sequence}.arrow"
        path = self._path / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _write_all(descriptor, [_PREAMBLE, self._head, *(parcel.data for parcel in parcels)])
        except OSError:
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        finally:
            os.close(descriptor)
        failpoint("staging.written")
        return name


def _columns(schema: bytes) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in pa.ipc.read_schema(pa.py_buffer(schema))]


def _write_all(descriptor: int, buffers: Sequence[bytes | pa.Buffer]) -> None:
    for left in _parts(buffers):
        while left:
            written = os.writev(descriptor, left)
            while left and written >= len(left[0]):
                written -= len(left.pop(0))
            if written:
                left[0] = left[0][written:]
        begin_write_back(descriptor)


def _parts(buffers: Sequence[bytes | pa.Buffer]) -> Iterator[list[memoryview]]:
    """The buffers in as many as are written at once."""
    part: list[memoryview] = []
    size = 0
    for buffer in buffers:
        part.append(memoryview(buffer))
        size += len(part[-1])
        if size >= _WRITE_BACK_BYTES or len(part) == _MAX_BUFFERS:
            yield part
            part, size = [], 0
    if part:
        yield part
