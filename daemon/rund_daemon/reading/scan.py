"""Reads rows of a metrics table in the order of their commits, while writers go on.

A read fixes the row it ends at when it begins, and takes a short snapshot for each piece that it sends: it never
holds an LMDB reader while a slow client drinks. Rows keep their numbers when segments are sealed, so pieces fit
together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import pyarrow as pa

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import TableState, table_by_uid
from rund_daemon.errors import InvalidError, Reason, StateError
from rund_daemon.feed import Feed
from rund_daemon.model import BatchRef, Segment, TableMark, Uid
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.reader import SegmentReader, StoredBatch

from .projection import Projection

# What a piece holds at most: under the 4 MiB that gRPC clients accept unless told otherwise.
PIECE_BYTES = 2 * 1024 * 1024
_PIECE_BATCHES = 512
# A file may be sealed or moved between the snapshot and its opening; then the snapshot is taken again.
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to read. `columns` None means all; `row_limit` None means all; both bounds count before filtering."""

    columns: tuple[str, ...] | None = None
    filter: str = ""
    start_row: int = 0
    row_limit: int | None = None
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages of an Arrow IPC stream. `schema` is empty unless it begins a stream; `next_row` is where to go on."""

    schema: bytes
    data: bytes
    next_row: int
    row_count: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Neighbouring batches and the files they lie in."""

    refs: tuple[BatchRef, ...]
    segments: tuple[Segment, ...]
    folder: Path


class MetricsReader:
    """Reads metrics tables."""

    def __init__(self, catalog: Catalog, layout: Layout, feed: Feed) -> None:
        self._catalog = catalog
        self._layout = layout
        self._feed = feed

    async def read(self, table: Uid, request: ScanRequest) -> AsyncIterator[Piece]:
        """Gives the rows asked for, piece by piece; the first piece always has the schema.

        Raises:
            InvalidError: the start, a column or the filter does not fit the table.
            CorruptError: stored bytes do not match their checksum.
            DrainingError: the daemon stops while the read follows.
        """
        if request.start_row < 0 or (request.row_limit or 0) < 0:
            raise InvalidError("start_row", "start_row and row_limit can't be negative")
        position, projection = request.start_row, None
        end = None if request.row_limit is None else request.start_row + request.row_limit
        while True:
            news = self._feed.waiter(table) if request.follow else None
            state = self._state(table)
            known = state.table.arrow_schema
            if projection is None or projection.source != known:
                projection = Projection.of(state.table, request.columns, request.filter)
                yield Piece(projection.schema_message, b"", position, state.mark.rows)
            stop = state.mark.rows if end is None else min(end, state.mark.rows)
            async for piece in self._read_range(table, projection, position, stop, state.mark):
                yield piece
            position = max(position, stop)
            if news is None or state.table.sealed or position == end:
                return
            await news

    async def _read_range(
        self, table: Uid, projection: Projection, begin: int, end: int, mark: TableMark
    ) -> AsyncIterator[Piece]:
        loop = asyncio.get_running_loop()
        while begin < end:
            piece_end, messages = await loop.run_in_executor(None, self._read_piece, table, projection, begin, end)
            for number, message in enumerate(messages, 1):
                whole = number == len(messages)
                yield Piece(b"", message, piece_end if whole else begin, mark.rows)
            begin = piece_end

    def _read_piece(self, table: Uid, projection: Projection, begin: int, end: int) -> tuple[int, list[bytes]]:
        for attempt in range(_ATTEMPTS):
            stretch = self._stretch(table, begin, end)
            try:
                reader = SegmentReader(stretch.folder, stretch.segments)
            except FileNotFoundError:
                if attempt + 1 == _ATTEMPTS:
                    raise
                continue
            try:
                if not stretch.refs:
                    return end, []
                piece_end = min(end, stretch.refs[-1].first_row + stretch.refs[-1].rows)
                stored = reader.read(stretch.refs)
                return piece_end, _messages(projection, list(stored), begin, end)
            finally:
                reader.close()
        raise AssertionError

    def _stretch(self, table: Uid, begin: int, end: int) -> _Stretch:
        with self._catalog.snapshot() as snapshot:
            record = table_by_uid(snapshot, table)
            run = snapshot.get(shelves.RUNS, record.run_uid) if record else None
            if record is None or run is None:
                raise StateError(Reason.WRONG_STATE, "the metrics table was removed while it was read")
            refs = _refs(snapshot, table, begin, end)
            numbers = dict.fromkeys(ref.segment for ref in refs)
            segments = [snapshot.get(shelves.SEGMENTS, keys.numbered(table, number)) for number in numbers]
        home = self._layout.trashed(run.uid) if run.delete_time else self._layout.run(run.project, run.name)
        found = tuple(segment for segment in segments if segment is not None)
        return _Stretch(refs, found, self._layout.metrics_table(home, record.name))

    def _state(self, table: Uid) -> TableState:
        with self._catalog.snapshot() as snapshot:
            record = table_by_uid(snapshot, table)
            mark = snapshot.get(shelves.MARKS, table)
        if record is None:
            raise StateError(Reason.WRONG_STATE, "the metrics table was removed while it was read")
        return TableState(record, mark or TableMark())


def _refs(snapshot: Snapshot, table: Uid, begin: int, end: int) -> tuple[BatchRef, ...]:
    """The batches from the one with row `begin` on, as many as fit a piece."""
    below = snapshot.scan(shelves.BATCHES, table, start=keys.batch(table, begin + 1), reverse=True)
    at_or_before = next(below, None)
    first_row = at_or_before[1].first_row if at_or_before else begin
    refs: list[BatchRef] = []
    size = 0
    start = keys.batch(table, first_row)
    for _, ref in islice(snapshot.scan(shelves.BATCHES, table, start=start), _PIECE_BATCHES):
        if ref.first_row + ref.rows <= begin:
            continue  # a repair has taken out the batch that row `begin` was in
        if ref.first_row >= end or (refs and size + ref.length > PIECE_BYTES):
            break
        refs.append(ref)
        size += ref.length
    return tuple(refs)


def _messages(projection: Projection, stored: Sequence[StoredBatch], begin: int, end: int) -> list[bytes]:
    """The rows `begin` to `end` as record batch messages, joined up to the size of a piece."""
    messages: list[bytes] = []
    raw: list[memoryview] = []
    decoded: list[pa.RecordBatch] = []
    for batch in stored:
        ref = batch.ref
        inside = begin <= ref.first_row and ref.first_row + ref.rows <= end
        if inside and ref.length <= PIECE_BYTES and projection.passes(batch.segment.arrow_schema):
            raw.append(batch.data)
            continue
        if raw:
            messages.append(b"".join(raw))
            raw.clear()
        offset = max(begin - ref.first_row, 0)
        length = min(end, ref.first_row + ref.rows) - ref.first_row - offset
        decoded.extend(projection.apply(batch.decode().slice(offset, length)))
        messages.extend(_serialized(decoded))
        decoded.clear()
    if raw:
        messages.append(b"".join(raw))
    return messages or [b""]


def _serialized(batches: Sequence[pa.RecordBatch]) -> list[bytes]:
    return [part.serialize().to_pybytes() for batch in batches for part in split(batch)]


def split(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """Cuts a batch into parts that fit a piece; a single row that does not fit stays whole."""
    if batch.nbytes <= PIECE_BYTES or batch.num_rows <= 1:
        return [batch]
    parts = -(-batch.nbytes // PIECE_BYTES)
    rows = max(1, batch.num_rows // parts)
    return [batch.slice(begin, rows) for begin in range(0, batch.num_rows, rows)]
