"""What an accepted batch is on its way to the disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from rund_daemon.model import ColumnRange, RequestKey, Uid
from rund_daemon.segments.staged_file import StagedFile


@dataclass(frozen=True, slots=True)
class Chunk:
    """One Arrow record batch message, checked, with the head of the segment that it goes into.

    Attributes:
        head: schema message of the segment.
        data: the encapsulated message as it was sent.
        rows: its rows, at least one.
        checksum: xxh3-64 of `data`.
        ranges: of its columns, as far as they are kept.
    """

    head: bytes
    data: bytes | memoryview
    rows: int
    checksum: int
    ranges: tuple[ColumnRange, ...] = ()


@dataclass(slots=True)
class Append:
    """One batch of a write stream.

    Attributes:
        table: uid of the metrics table.
        run: uid of its run.
        number: its number in the run.
        stream_id: the write stream; empty for rows that belong to none.
        sequence: its place in the stream.
        request: makes the retry of a single request recognisable.
        first_sequence: where the range begins that it stands for, if that may be more than one batch of the stream.
        staged: a file with its rows, in place of chunks.
        position: where the caller stands in its own source behind this batch; 0: as before.
        chunks: its rows; none for a batch without rows.
        head: schema message of its rows, as of a segment; a batch without rows has columns too.
        answer: called on the event loop with None once the batch is durable, or with the error.
    """

    table: Uid
    run: Uid
    number: int
    stream_id: str
    sequence: int
    chunks: tuple[Chunk, ...]
    head: bytes
    answer: Callable[[BaseException | None], None]
    request: RequestKey | None = None
    position: int = 0
    first_sequence: int | None = None
    staged: StagedFile | None = None
    error: BaseException | None = field(default=None)

    @property
    def size(self) -> int:
        """Bytes of it that are to be written."""
        return sum(len(chunk.data) for chunk in self.chunks)
