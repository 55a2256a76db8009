"""A file that a writer on this host has handed over, and that becomes a sealed segment as it is.

It is the body of an Arrow IPC file: preamble, schema message, record batch messages. What points to the batches, the
footer, is written by the daemon when it has seen them all, so there is none that could say something else.

The file is read once and not mapped, a message at a time: whatever a writer does to it meanwhile, the daemon's memory
stays as it is.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import ColumnRange

from .file_format import PREAMBLE, Block, ending
from .messages import RECORD_BATCH, Message, read_message

FIELD = "batch.staged"
"""The field that errors blame."""

_HEAD_BYTES = 4096


@dataclass(frozen=True, slots=True)
class FileState:
    """Bytes of a file, and when it was last written, in nanoseconds since 1970.

    Two that are equal say that nobody has written meanwhile, but for writes within a few milliseconds of each other:
    what these change is found by the checksums.
    """

    length: int
    mtime_ns: int

    @classmethod
    def of(cls, state: os.stat_result) -> FileState:
        """Takes it from what the kernel says of a file."""
        return cls(state.st_size, state.st_mtime_ns)


@dataclass(frozen=True, slots=True)
class StagedBatch:
    """A checked batch of a staged file, as BatchRef has it."""

    offset: int
    length: int
    rows: int
    checksum: int
    ranges: tuple[ColumnRange, ...]


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A staged file that was checked, is whole and durable, and has not got its place in a table yet.

    Attributes:
        path: where it lies.
        head: schema message that it begins with.
        state: its length, and when it was written last.
        batches: those that have rows, in order.
    """

    path: Path
    head: bytes
    state: FileState
    batches: tuple[StagedBatch, ...]

    @property
    def length(self) -> int:
        """Its bytes."""
        return self.state.length

    @property
    def rows(self) -> int:
        """Its rows."""
        return sum(batch.rows for batch in self.batches)


class IncomingFile:
    """A staged file that is being checked."""

    def __init__(self, path: Path) -> None:
        """Opens the file.

        Raises:
            InvalidError: it is no regular file of this user's with one name.
            OSError: it can't be opened.
        """
        # A link is not followed, and a pipe must not keep the daemon waiting.
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        self._descriptor = os.open(path, flags)
        state = os.fstat(self._descriptor)
        self._state = FileState.of(state)
        if not stat.S_ISREG(state.st_mode) or state.st_uid != os.geteuid() or state.st_nlink != 1:
            self.close()
            raise _invalid("is no regular file of the daemon's user")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)

    @property
    def length(self) -> int:
        """Its bytes when it was opened."""
        return self._state.length

    def messages(self, head: bytes) -> Iterator[tuple[int, Message, memoryview]]:
        """Gives its record batch messages: where each begins, what it is, and its bytes, good until the next one.

        Args:
            head: the schema message that it has to begin with.

        Raises:
            InvalidError: INVALID_ARROW, if there is anything else in it.
        """
        begin = PREAMBLE + head
        if self._read(0, len(begin)) != begin:
            raise _invalid("does not begin with ARROW1 and the schema message of opened.staging")
        position = len(begin)
        buffer = bytearray()
        while position < self.length:
            message = self._message_at(position)
            if message is None or message.kind != RECORD_BATCH:
                raise _invalid("has something else than record batches behind its schema")
            if len(buffer) < message.end:
                buffer = bytearray(message.end)
            view = memoryview(buffer)[: message.end]
            self._fill(view, position)
            yield position, message, view
            position += message.end

    def finish(self, head: bytes, blocks: Sequence[Block]) -> FileState:
        """Writes the footer, makes the file durable, and gives its state.

        Raises:
            InvalidError: somebody has written into it since it was opened.
        """
        if FileState.of(os.fstat(self._descriptor)) != self._state:
            raise changed_file()
        data, position = memoryview(ending(head, blocks)), self.length
        while data:
            written = os.pwrite(self._descriptor, data, position)
            data, position = data[written:], position + written
        os.fchmod(self._descriptor, 0o644)
        os.fdatasync(self._descriptor)
        return FileState.of(os.fstat(self._descriptor))

    def _message_at(self, position: int) -> Message | None:
        start = self._read(position, min(_HEAD_BYTES, self.length - position))
        if len(start) >= 8:
            head_end = 8 + struct.unpack_from("<I", start, 4)[0]
            if head_end > len(start):
                start = self._read(position, min(head_end, self.length - position))
        return read_message(memoryview(start), 0, FIELD, available=self.length - position)

    def _read(self, position: int, length: int) -> bytes:
        return os.pread(self._descriptor, length, position)

    def _fill(self, view: memoryview, position: int) -> None:
        while view:
            count = os.preadv(self._descriptor, [view], position)
            if not count:
                raise _invalid("has become shorter")
            view, position = view[count:], position + count


def changed_file() -> InvalidError:
    """The answer to who writes into a file that is the daemon's."""
    return _invalid("was changed while it was taken; it is the daemon's once it is named")


def _invalid(what: str) -> InvalidError:
    return InvalidError(FIELD, f"the file {what}", reason=Reason.INVALID_ARROW)
