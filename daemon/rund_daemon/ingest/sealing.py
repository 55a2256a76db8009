"""Turns open segments into sealed ones, in the background.

Sealing first closes a table's open segments in a transaction, so that rows which come meanwhile begin new ones. Then
neighbours, as `merging` finds them, become one new file: their rows in the order of their commits and with one schema.
The records are exchanged in a second transaction and the old files are removed after it. A reader that has them open
keeps them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import table_by_uid, tables_of
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import RundError
from rund_daemon.failpoints import failpoint
from rund_daemon.ingest.accounts import account_for_exchange
from rund_daemon.ingest.merging import CLOSED, FULL_BYTES, Merge, plan_merges
from rund_daemon.ingest.sink import SegmentSink
from rund_daemon.model import BatchRef, MetricsTable, Run, Segment, TableMark, Uid
from rund_daemon.segments.commit_log import Entry
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import Layout, make_durable_folder
from rund_daemon.segments.reader import SegmentReader
from rund_daemon.segments.schemas import unify
from rund_daemon.segments.seal import SealedFile, write_sealed
from rund_daemon.segments.space import SpaceFloor
from rund_daemon.segments.spare_numbers import spare_state

logger = logging.getLogger(__name__)

# The run may be renamed while its rows are written; then they are written again at its new place.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class _Job:
    table: MetricsTable
    folder: Path
    segments: tuple[Segment, ...]
    refs: tuple[BatchRef, ...]
    number: int
    spare: int | None

    @property
    def path(self) -> Path:
        # The same at each attempt, so that a file left by a crash is overwritten by the next.
        return self.folder / f"{self.number:06d}.arrow"


class Sealer:
    """Seals what it is told to, one table at a time."""

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        sink: SegmentSink,
        floor: SpaceFloor,
        compression: Compression = Compression.NONE,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._sink = sink
        self._floor = floor
        self._compression = compression
        self._writing: asyncio.Future[tuple[bytes, SealedFile]] | None = None
        self._pending: dict[Uid, None] = {}
        self._wake = asyncio.Event()

    def request(self, table: Uid) -> None:
        """Has a table's open segments sealed soon."""
        self._pending[table] = None
        self._wake.set()

    def request_run(self, run: Uid) -> None:
        """Has all tables of a run sealed soon: it has ended."""
        with self._catalog.snapshot() as snapshot:
            for state in tables_of(snapshot, run):
                self.request(state.table.uid)

    async def request_ended(self) -> None:
        """Has everything sealed that an earlier daemon left although nobody writes to it."""
        for uid in await asyncio.get_running_loop().run_in_executor(None, self._ended):
            self.request(uid)

    def _ended(self) -> list[Uid]:
        found = []
        with self._catalog.snapshot() as snapshot:
            for key, state in snapshot.scan(shelves.OPEN_SEGMENTS):
                uid = Uid(key[:16])
                table = table_by_uid(snapshot, uid)
                run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
                if table and run and (state == CLOSED or table.sealed or run.status.ended):
                    found.append(uid)
        return found

    def request_all(self) -> None:
        """Has every open segment of the root sealed: the daemon stops."""
        with self._catalog.snapshot() as snapshot:
            for key, _ in snapshot.scan(shelves.OPEN_SEGMENTS):
                self.request(Uid(key[:16]))

    async def run(self) -> None:
        """Seals until it is cancelled; first what an earlier daemon left."""
        await self.request_ended()
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self.finish()

    async def finish(self) -> None:
        """Seals all that is asked for."""
        while self._pending:
            uid = next(iter(self._pending))
            del self._pending[uid]
            try:
                await self._seal(uid)
            except Exception as error:
                # The closed segments stay, are read as before, and are tried again at the next start.
                refused = isinstance(error, RundError)
                logger.warning(
                    "seal_failed", exc_info=not refused, extra={"table": uid.hex(), "error": str(error)[:500]}
                )

    async def _seal(self, uid: Uid) -> None:
        await self._catalog.submit(lambda change: self._close_segments(change, uid))
        failpoint("sealing.closed")
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                for job in self._plan(uid):
                    if not await self._replace(job):
                        break
                else:
                    await self._forget_spares(uid)
                    return
            except FileNotFoundError:
                if attempt == _ATTEMPTS:
                    raise

    async def _replace(self, job: _Job) -> bool:
        # A thread can't be cancelled: one that was left to itself has the same file in its hands.
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._floor.check(sum(segment.length for segment in job.segments))
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, job)
        head, sealed = await asyncio.shield(self._writing)
        failpoint("sealing.written")
        exchanged = await self._catalog.submit(lambda change: self._exchange(change, job, head, sealed))
        failpoint("sealing.exchanged")
        return exchanged

    def _write(self, job: _Job) -> tuple[bytes, SealedFile]:
        self._layout.announce_segment(job.table.uid, job.number, job.path)
        return _write(job, self._compression)

    def _close_segments(self, change: Change, uid: Uid) -> None:
        self._sink.release(uid)
        for key in [key for key, state in change.scan(shelves.OPEN_SEGMENTS, uid) if not state]:
            change.put(shelves.OPEN_SEGMENTS, key, CLOSED)

    async def _forget_spares(self, uid: Uid) -> None:
        """Forgets which files could be joined with what comes behind them, when nothing comes any more."""
        with self._catalog.snapshot() as snapshot:
            table = table_by_uid(snapshot, uid)
            run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
            spares = [key for key, state in snapshot.scan(shelves.OPEN_SEGMENTS, uid) if state not in (b"", CLOSED)]

        def forget(change: Change) -> None:
            for key in spares:
                change.delete(shelves.OPEN_SEGMENTS, key)

        if spares and table and run and (table.sealed or run.status.ended):
            await self._catalog.submit(forget)

    def _plan(self, uid: Uid) -> list[_Job]:
        with self._catalog.snapshot() as snapshot:
            table = table_by_uid(snapshot, uid)
            run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
            if table is None or run is None or run.delete_time:
                return []
            folder = self._folder(run, table)
            last = table.sealed or run.status.ended
            merges = _merges(snapshot, uid, last=last) or _empty_merge(snapshot, table)
        return [
            _Job(table, folder, merge.segments, merge.refs, merge.number, None if last else merge.spare)
            for merge in merges
        ]

    def _exchange(self, change: Change, job: _Job, head: bytes, sealed: SealedFile) -> bool:
        uid = job.table.uid
        run = change.get(shelves.RUNS, job.table.run_uid)
        if run is None or run.delete_time or self._folder(run, job.table) != job.folder:
            if run is not None and run.delete_time:
                # It was moved to trash with the file. Elsewhere the next attempt writes the file again.
                trashed = self._layout.metrics_table(self._layout.trashed(run.uid), job.table.name)
                add_move(change, self._layout.relative(trashed / job.path.name), "")
                self._withdraw(change, job)
            return False
        if not job.folder.exists():
            # It went to trash meanwhile, and this same group takes it out: the folder follows the commit. Nothing must
            # stand in its way.
            return False
        mark = change.get(shelves.MARKS, uid) or TableMark()
        for segment in job.segments:
            key = keys.numbered(uid, segment.number)
            change.delete(shelves.SEGMENTS, key)
            change.delete(shelves.OPEN_SEGMENTS, key)
            add_move(change, self._layout.relative(job.folder / segment.file_name), "")
        for ref in job.refs:
            change.delete(shelves.BATCHES, keys.batch(uid, ref.first_row))
        for ref in sealed.batches:
            change.put(shelves.BATCHES, keys.batch(uid, ref.first_row), ref)
        record = Segment(job.number, True, sealed.length, sealed.rows, head, len(sealed.batches))
        change.put(shelves.SEGMENTS, keys.numbered(uid, job.number), record)
        if job.spare is not None and sealed.length < FULL_BYTES:
            change.put(shelves.OPEN_SEGMENTS, keys.numbered(uid, job.number), spare_state(job.spare))
        exchanged = replace(
            mark,
            next_segment=max(mark.next_segment, job.number + 1),
            batches=mark.batches - len(job.refs) + len(sealed.batches),
            bytes=mark.bytes - sum(segment.length for segment in job.segments) + sealed.length,
        )
        change.put(shelves.MARKS, uid, exchanged)
        self._withdraw(change, job)
        # Its copy of the mark is no longer the catalog's.
        self._sink.release(uid)
        removed = [segment.number for segment in job.segments]
        entry = Entry(exchanged, refs=sealed.batches, sealed=[job.number], removed=removed)
        log = self._layout.commit_log(job.folder.parent.parent, job.table.name)
        account_for_exchange(change, log, job.table, mark, entry)
        return True

    def _withdraw(self, change: Change, job: _Job) -> None:
        """The file is no longer one that only a link knows. With the commit: whoever waits for it may be cancelled."""
        add_move(change, self._layout.relative(self._layout.new_segment(job.table.uid, job.number)), "")

    def _folder(self, run: Run, table: MetricsTable) -> Path:
        return self._layout.metrics_table(self._layout.run(run.project, run.name), table.name)


def _write(job: _Job, compression: Compression) -> tuple[bytes, SealedFile]:
    table = job.table
    schemas = [read_head(segment.arrow_schema) for segment in job.segments]
    schema = reduce(unify, schemas) if schemas else read_head(table.arrow_schema)
    tables = {table.input_table_id: table.foreign_table_url} if table.foreign_table_url else {}
    head = segment_head(schema, table.columns, tables)
    if not job.segments:
        make_durable_folder(job.folder)
    reader = SegmentReader(job.folder, job.segments)
    try:
        return head, write_sealed(job.path, head, reader.read(job.refs), job.number, compression)
    finally:
        reader.close()


def _merges(snapshot: Snapshot, uid: Uid, *, last: bool) -> Sequence[Merge]:
    states = {keys.number_of(key): state for key, state in snapshot.scan(shelves.OPEN_SEGMENTS, uid)}
    if not any(states.values()):
        return ()
    segments = {segment.number: segment for _, segment in snapshot.scan(shelves.SEGMENTS, uid)}
    return plan_merges(segments, states, (ref for _, ref in snapshot.scan(shelves.BATCHES, uid)), last=last)


def _empty_merge(snapshot: Snapshot, table: MetricsTable) -> Sequence[Merge]:
    """A sealed table without rows still gets its file: other programs learn its columns from it."""
    mark = snapshot.get(shelves.MARKS, table.uid) or TableMark()
    if mark.next_segment or not table.sealed or not table.arrow_schema:
        return ()
    return (Merge((), (), 0),)
