"""Rows that the daemon sends, as Arrow batches.

An answer of ReadMetrics or ReadTable holds a schema message, record batch messages back to back, or both.
They are taken apart without a copy. On the daemon's host an answer may name files instead. A read that
was cut short because the daemon went away, or a file, goes on at the next row.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import pyarrow as pa

from rund._errors import DaemonUnavailableError
from rund._stored_files import StoredBatch, StoredFile, StoredFileGoneError, map_rows
from rund._stored_rows import StoredRows

from .channel import UNAVAILABLE_TIMEOUT_S
from .retry import pauses


@dataclass(frozen=True, slots=True)
class RowRequest:
    """Which rows are wanted.

    Attributes:
        columns: Names in the order in which they are wanted; None: all; empty: none, only row counts.
        filter: AIP-160 over the columns; empty: all rows.
        start_row: The first row, from 0, before filtering.
        row_limit: How many rows from there, before filtering; None: all.
        follow: Whether to go on with rows that are committed later.
        stored_files: Whether the daemon may name files instead of sending their rows.
    """

    columns: tuple[str, ...] | None = None
    filter: str = ""
    start_row: int = 0
    row_limit: int | None = None
    follow: bool = False
    stored_files: bool = False

    def after(self, next_row: int) -> RowRequest:
        """What is left of the request when all rows before ``next_row`` were read."""
        limit = None if self.row_limit is None else max(0, self.row_limit - (next_row - self.start_row))
        return replace(self, start_row=next_row, row_limit=limit)


class RowAnswer(Protocol):
    """What ReadMetricsResponse and ReadTableResponse have in common."""

    @property
    def schema(self) -> bytes:
        """One Arrow IPC schema message, or nothing."""

    @property
    def batch(self) -> bytes:
        """Arrow IPC record batch messages, back to back."""

    @property
    def next_row(self) -> int:
        """Where to go on after this answer."""


class StoredAnswer(RowAnswer, Protocol):
    """What both have besides if files are to be named; only ReadMetricsResponse has ``stored_constants``."""

    @property
    def stored_files(self) -> Sequence[Any]:
        """Messages of type StoredFile."""

    @property
    def stored_schema(self) -> bytes:
        """One Arrow IPC schema message."""


def read_batches(
    ask: Callable[[RowRequest], Iterator[RowAnswer]], request: RowRequest, reconnect: Callable[[], None]
) -> Iterator[pa.RecordBatch]:
    """Gives the batches in order. Each new schema is announced by a batch without rows.

    Args:
        ask: Makes the call.
        request: What is wanted.
        reconnect: Called before the call is made again.

    Raises:
        RundError: The read failed; while the daemon is away it has been tried again for a while.
    """
    reader = _RowReader(request)
    waits, give_up = pauses(), math.inf
    while True:
        try:
            for answer in ask(reader.request):
                yield from reader.take(answer)
                waits, give_up = pauses(), math.inf
            return
        except StoredFileGoneError:
            reader.miss()
            continue
        except DaemonUnavailableError:
            pause, now = next(waits), time.monotonic()
            # From the first failure on: before it, whoever follows may have had no news for hours.
            give_up = min(give_up, now + UNAVAILABLE_TIMEOUT_S)
            if now + pause > give_up:
                raise
        time.sleep(pause)
        reconnect()


class _RowReader:
    """Keeps the schema of what comes, and how much of the request is left."""

    def __init__(self, request: RowRequest) -> None:
        self.request = request
        self._schema: pa.Schema | None = None
        self._stored: StoredRows | None = None
        self._missed_row = -1

    def miss(self) -> None:
        """A file could not be opened. What is missed twice in one place is to be sent, like all that follows."""
        if self._missed_row == self.request.start_row:
            self.request = replace(self.request, stored_files=False)
        self._missed_row = self.request.start_row

    def take(self, answer: RowAnswer) -> Iterator[pa.RecordBatch]:
        # Each access to a bytes field of a message copies it.
        announced, data = answer.schema, answer.batch
        if announced:
            schema = pa.ipc.read_schema(pa.py_buffer(announced))
            # After a break the daemon announces the same schema again.
            if self._schema is None or not schema.equals(self._schema, check_metadata=True):
                self._schema = schema
                yield pa.RecordBatch.from_pylist([], schema=schema)
            if self.request.stored_files:
                self._stored = _stored_rows(schema, cast("StoredAnswer", answer), self.request.filter)
        if self._stored is not None:
            yield from self._stored.take(map_rows(_files(cast("StoredAnswer", answer))))
        if data and self._schema is not None:
            yield from _unpack(data, self._schema)
        self.request = self.request.after(answer.next_row)


def _files(answer: StoredAnswer) -> list[StoredFile]:
    return [
        StoredFile(
            file.path,
            file.inode,
            file.size,
            file.modify_time_ns,
            tuple(
                StoredBatch(batch.offset, batch.length, batch.skipped_rows, batch.row_count) for batch in file.batches
            ),
        )
        for file in answer.stored_files
    ]


def _stored_rows(schema: pa.Schema, answer: StoredAnswer, filter_text: str) -> StoredRows | None:
    head = answer.stored_schema
    if not head:
        return None  # an older daemon, which names no files
    needed = pa.ipc.read_schema(pa.py_buffer(head))
    return StoredRows.of(schema, needed, _constants(getattr(answer, "stored_constants", b"")), filter_text)


def _constants(stream: bytes) -> dict[str, Any]:
    if not stream:
        return {}
    row = pa.ipc.open_stream(stream).read_next_batch()
    return {name: row.column(name)[0] for name in row.schema.names}


def _unpack(data: bytes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    messages = pa.ipc.MessageReader.open_stream(pa.py_buffer(data))
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            return
        yield pa.ipc.read_record_batch(message, schema)
