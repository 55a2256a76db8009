"""Reads rows of a metrics table in the order of their commits, while writers go on.

A read fixes the row it ends at when it begins, and takes a short snapshot for each piece that it sends: it never
holds an LMDB reader while a slow client drinks. Rows keep their numbers when segments are sealed, so pieces fit
together.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import TypeAlias

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import TableState, table_by_uid
from rund_daemon.errors import CorruptError, InvalidError, Reason, StateError
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.model import BatchRef, Segment, TableMark, Uid
from rund_daemon.segments.checked_segments import CheckedSegments
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.reader import SegmentReader, StoredBatch

from .pieces import PIECE_BYTES, Part, cut, join
from .projection import Projection
from .pruning import Pruning
from .stored import STORED_BYTES, Candidates, StoredFile, name_files

_PIECE_BATCHES = 512
# So many are looked at first: of large ones, few fit.
_WINDOW_BATCHES = 8
# So many batches are skipped before a reader is told how far it is.
_SKIPPED_BATCHES = 32 * _PIECE_BATCHES
# What a run's writers left behind may still come after its end; a read that follows waits so long for each of it.
_ENDED_SECONDS = 2.0
# A folder is moved within milliseconds of the commit that says so, unless the disk is full.
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What to read. `columns` None means all; `row_limit` None means all; both bounds count before filtering.

    With `stored_files`, rows in sealed files are named instead of given: the reader opens them itself.
    """

    columns: tuple[str, ...] | None = None
    filter: str = ""
    start_row: int = 0
    row_limit: int | None = None
    follow: bool = False
    stored_files: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages of an Arrow IPC stream, or files with rows. `next_row` is where to go on.

    `schema` is empty unless it begins a stream; with it comes what a reader of files needs of them: `stored_schema`
    and, as an Arrow stream of one row, `stored_constants`.
    """

    schema: bytes
    data: bytes
    next_row: int
    row_count: int
    files: tuple[StoredFile, ...] = ()
    stored_schema: bytes = b""
    stored_constants: bytes = b""


_Found: TypeAlias = tuple[bytes, tuple[StoredFile, ...], int]
"""Data or files of a piece, and the row after them."""


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Batches one after the other, the files they lie in, and the row after them and those that were skipped."""

    refs: tuple[BatchRef, ...]
    segments: tuple[Segment, ...]
    folder: Path
    end: int

    def first(self, size: int) -> _Stretch:
        """Its first batches, as many as have so many bytes, but one at least."""
        sizes = accumulate(ref.size for ref in self.refs)
        count = max(1, sum(1 for total in sizes if total <= size))
        if count >= len(self.refs):
            return self
        refs = self.refs[:count]
        numbers = {ref.segment for ref in refs}
        segments = tuple(segment for segment in self.segments if segment.number in numbers)
        return replace(self, refs=refs, segments=segments, end=self.refs[count].first_row)


class MetricsReader:
    """Reads metrics tables."""

    def __init__(self, catalog: Catalog, layout: Layout, feed: Feed) -> None:
        self._catalog = catalog
        self._layout = layout
        self._feed = feed
        self._checked = CheckedSegments()

    async def read(self, table: Uid, request: ScanRequest) -> AsyncIterator[Piece]:
        """Gives the rows asked for, piece by piece; the first piece always has the schema.

        Raises:
            InvalidError: the start, a column or the filter does not fit the table.
            CorruptError: stored bytes do not match their checksum.
            DrainingError: the daemon stops while the read follows.
        """
        if request.start_row < 0 or (request.row_limit or 0) < 0:
            raise InvalidError("start_row", "start_row and row_limit can't be negative")
        position, projection, quiet = request.start_row, None, False
        end = None if request.row_limit is None else request.start_row + request.row_limit
        while True:
            news = [self._feed.waiter(topic) for topic in (table, RUNS_TOPIC)] if request.follow else []
            state, ended = self._state(table)
            known = state.table.arrow_schema
            if projection is None or projection.source != known:
                projection = Projection.of(state.table, request.columns, request.filter)
                yield _opening(projection, position, state.mark, stored=request.stored_files)
            stop = state.mark.rows if end is None else min(end, state.mark.rows)
            pieces = self._read_range(table, projection, position, stop, state.mark, stored=request.stored_files)
            async for piece in pieces:
                yield piece
            quiet = quiet and position >= stop
            position = max(position, stop)
            if not news or state.table.sealed or position == end or (ended and quiet):
                return
            quiet = not await _any(news[:1] if ended else news, _ENDED_SECONDS if ended else None)
            for waiter in news:
                waiter.cancel()

    async def _read_range(
        self, table: Uid, projection: Projection, begin: int, end: int, mark: TableMark, *, stored: bool
    ) -> AsyncIterator[Piece]:
        loop = asyncio.get_running_loop()
        find = self._find_pieces if stored else self._read_pieces
        row = begin
        while row < end:
            pieces = await loop.run_in_executor(None, find, table, projection, row, end)
            for data, files, row in pieces:
                yield Piece(b"", data, row, mark.rows, files)

    def _find_pieces(self, table: Uid, projection: Projection, begin: int, end: int) -> list[_Found]:
        """Files to read, if what comes next lies in such, or else rows."""
        stretch = self._stretch(table, projection.pruning, begin, end, STORED_BYTES)
        candidates = Candidates(table, stretch.folder, stretch.segments, stretch.refs)
        files, count = name_files(candidates, projection, self._checked, begin, end)
        if not files:
            return self._read_pieces(table, projection, begin, end, stretch.first(PIECE_BYTES))
        return [(b"", tuple(files), stretch.refs[count].first_row if count < len(stretch.refs) else stretch.end)]

    def _read_pieces(
        self, table: Uid, projection: Projection, begin: int, end: int, stretch: _Stretch | None = None
    ) -> list[_Found]:
        stretch, failed = stretch or self._stretch(table, projection.pruning, begin, end), None
        while True:
            try:
                pieces = self._read_stretch(stretch, projection, begin, end)
                return [(data, (), row) for data, row in pieces]
            except (FileNotFoundError, CorruptError) as error:
                # The table may have been sealed or moved since, and its place may be another's by now. So look again
                # when all is where the catalog says; what fails twice in one place is damaged.
                settled, before = self._catalog.wait_until_settled(_SETTLE_SECONDS), failed
                failed, stretch = stretch, self._stretch(table, projection.pruning, begin, end)
                if not stretch == failed == before:
                    continue
                if isinstance(error, CorruptError) or not settled:
                    raise
                raise CorruptError(f"a segment of {stretch.folder} is gone; restore it from a copy") from error

    def _read_stretch(self, stretch: _Stretch, projection: Projection, begin: int, end: int) -> list[tuple[bytes, int]]:
        reader = SegmentReader(stretch.folder, stretch.segments)
        try:
            stored = reader.read(stretch.refs)
            pieces = join(part for batch in stored for part in _parts(projection, batch, begin, end))
        finally:
            reader.close()
        # Behind the last piece, batches may have been skipped, or rows taken out by a repair.
        *others, (data, _) = pieces or [(b"", stretch.end)]
        return [*others, (data, stretch.end)]

    def _stretch(self, table: Uid, pruning: Pruning | None, begin: int, end: int, limit: int = PIECE_BYTES) -> _Stretch:
        with self._catalog.snapshot() as snapshot:
            record = table_by_uid(snapshot, table)
            run = snapshot.get(shelves.RUNS, record.run_uid) if record else None
            if record is None or run is None:
                raise StateError(Reason.WRONG_STATE, "the metrics table was removed while it was read")
            refs, stop = _refs(snapshot, table, pruning, (begin, end), limit)
            numbers = dict.fromkeys(ref.segment for ref in refs)
            segments = [snapshot.get(shelves.SEGMENTS, keys.numbered(table, number)) for number in numbers]
        home = self._layout.trashed(run.uid) if run.delete_time else self._layout.run(run.project, run.name)
        found = tuple(segment for segment in segments if segment is not None)
        return _Stretch(refs, found, self._layout.metrics_table(home, record.name), stop)

    def _state(self, table: Uid) -> tuple[TableState, bool]:
        """The table, and whether its run has ended."""
        with self._catalog.snapshot() as snapshot:
            record = table_by_uid(snapshot, table)
            mark = snapshot.get(shelves.MARKS, table)
            run = snapshot.get(shelves.RUNS, record.run_uid) if record else None
        if record is None or run is None:
            raise StateError(Reason.WRONG_STATE, "the metrics table was removed while it was read")
        return TableState(record, mark or TableMark()), run.status.ended or run.delete_time != 0


async def _any(news: Sequence[asyncio.Future[None]], seconds: float | None) -> bool:
    """Waits for the first of some news and says whether it came in time."""
    done, _ = await asyncio.wait(news, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for future in done:
        future.result()
    return bool(done)


def _opening(projection: Projection, position: int, mark: TableMark, *, stored: bool) -> Piece:
    if not stored:
        return Piece(projection.schema_message, b"", position, mark.rows)
    needed, constants = projection.needed_message, projection.needed_constants
    return Piece(projection.schema_message, b"", position, mark.rows, (), needed, constants)


def _refs(
    snapshot: Snapshot, table: Uid, pruning: Pruning | None, rows: tuple[int, int], limit: int
) -> tuple[tuple[BatchRef, ...], int]:
    """The batches of rows from the first on, as many as have so many bytes, and the row up to which that is all."""
    begin, end = rows
    found = _refs_from(snapshot, table, begin, end)
    refs: list[BatchRef] = []
    size = skipped = 0
    width = _WINDOW_BATCHES
    while window := tuple(islice(found, width)):
        kept = window if pruning is None else pruning.keep(window)
        for ref in kept:
            if refs and (size + ref.size > limit or len(refs) == _PIECE_BATCHES):
                return tuple(refs), ref.first_row
            refs.append(ref)
            size += ref.size
        width = min(2 * width, _PIECE_BATCHES)
        skipped += len(window) - len(kept)
        if skipped >= _SKIPPED_BATCHES or len(refs) == _PIECE_BATCHES:
            return tuple(refs), min(window[-1].first_row + window[-1].rows, end)
    return tuple(refs), end


def _refs_from(snapshot: Snapshot, table: Uid, begin: int, end: int) -> Iterator[BatchRef]:
    below = snapshot.scan(shelves.BATCHES, table, start=keys.batch(table, begin + 1), reverse=True)
    at_or_before = next(below, None)
    start = keys.batch(table, at_or_before[1].first_row if at_or_before else begin)
    for _, ref in snapshot.scan(shelves.BATCHES, table, start=start):
        if ref.first_row >= end:
            return
        # A repair may have taken out the batch that row `begin` was in.
        if ref.first_row + ref.rows > begin:
            yield ref


def _parts(projection: Projection, batch: StoredBatch, begin: int, end: int) -> Iterator[Part]:
    """Those rows of a stored batch that lie from `begin` to `end`."""
    ref = batch.ref
    first, last = max(begin, ref.first_row), min(end, ref.first_row + ref.rows)
    whole = last - first == ref.rows and ref.length <= PIECE_BYTES
    # What goes out is never compressed: readers need not know what the sealer was told.
    if whole and not ref.decoded_bytes and projection.passes(batch.segment.arrow_schema):
        yield batch.data, last
        return
    rows = batch.decode().slice(first - ref.first_row, last - first)
    yield from cut(rows, first, projection.schema, projection.apply)
