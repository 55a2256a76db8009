"""Turns open segments that nobody writes to any more into sealed ones, in the background.

A table's sealed segments always hold its first rows and its open ones the rest, so sealing takes all open ones of a
table together: their rows go, in the order of their commits and with one schema, into one new file. The records are
exchanged in one transaction; the old files are removed after it. If rows came meanwhile, nothing is exchanged.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import RundError
from rund_daemon.model import BatchRef, MetricsTable, Segment, TableMark, Uid
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.reader import SegmentReader
from rund_daemon.segments.schemas import unify
from rund_daemon.segments.seal import SealedFile, write_sealed

from .sink import SegmentSink

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    table: MetricsTable
    mark: TableMark
    folder: Path
    segments: tuple[Segment, ...]
    refs: tuple[BatchRef, ...]

    @property
    def first_row(self) -> int:
        return self.refs[0].first_row if self.refs else self.mark.rows


class Sealer:
    """Seals what it is told to, one table at a time."""

    def __init__(self, catalog: Catalog, layout: Layout, sink: SegmentSink) -> None:
        self._catalog = catalog
        self._layout = layout
        self._sink = sink
        self._pending: dict[Uid, None] = {}
        self._wake = asyncio.Event()

    def request(self, table: Uid) -> None:
        """Has a table's open segments sealed soon."""
        self._pending[table] = None
        self._wake.set()

    def request_ended(self) -> None:
        """Has everything sealed that an earlier daemon left open although nobody writes to it."""
        with self._catalog.snapshot() as snapshot:
            for uid in _open_tables(snapshot):
                table = _table(snapshot, uid)
                run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
                if table and run and (table.sealed or run.status.ended):
                    self.request(uid)

    def request_all(self) -> None:
        """Has every open segment of the root sealed: the daemon stops."""
        with self._catalog.snapshot() as snapshot:
            for uid in _open_tables(snapshot):
                self.request(uid)

    async def run(self) -> None:
        """Seals until it is cancelled."""
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
            except (OSError, RundError):
                # The open segments stay, are read as before, and are tried again at the next start.
                logger.exception("seal_failed", extra={"table": uid.hex()})

    async def _seal(self, uid: Uid) -> None:
        job = self._plan(uid)
        if job is None:
            return
        number = job.mark.next_segment
        path = job.folder / f"{number:06d}.arrow"
        loop = asyncio.get_running_loop()
        head, sealed = await loop.run_in_executor(None, _write, job, path, number)
        exchanged = await self._catalog.submit(lambda change: self._exchange(change, job, head, sealed))
        if not exchanged:
            path.unlink(missing_ok=True)

    def _plan(self, uid: Uid) -> _Job | None:
        with self._catalog.snapshot() as snapshot:
            table = _table(snapshot, uid)
            run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
            if table is None or run is None or run.delete_time:
                return None
            mark = snapshot.get(shelves.MARKS, uid) or TableMark()
            segments = tuple(_open_segments(snapshot, uid))
            if not segments and (mark.next_segment or not table.arrow_schema):
                return None
            numbers = {segment.number for segment in segments}
            refs = tuple(ref for _, ref in snapshot.scan(shelves.BATCHES, uid) if ref.segment in numbers)
        folder = self._layout.metrics_table(self._layout.run(run.project, run.name), table.name)
        return _Job(table, mark, folder, segments, refs)

    def _exchange(self, change: Change, job: _Job, head: bytes, sealed: SealedFile) -> bool:
        uid = job.table.uid
        mark = change.get(shelves.MARKS, uid) or TableMark()
        run = change.get(shelves.RUNS, job.table.run_uid)
        home = self._layout.metrics_table(self._layout.run(run.project, run.name), job.table.name) if run else None
        if mark != job.mark or home != job.folder or (run and run.delete_time):
            return False
        self._sink.release(uid)
        number = mark.next_segment
        record = Segment(number, sealed=True, length=sealed.length, rows=sealed.rows, arrow_schema=head)
        for segment in job.segments:
            key = keys.numbered(uid, segment.number)
            change.delete(shelves.SEGMENTS, key)
            change.delete(shelves.OPEN_SEGMENTS, key)
            add_move(change, self._layout.relative(job.folder / segment.file_name), "")
        for ref in job.refs:
            change.delete(shelves.BATCHES, keys.batch(uid, ref.first_row))
        for ref in sealed.batches:
            change.put(shelves.BATCHES, keys.batch(uid, ref.first_row), ref)
        change.put(shelves.SEGMENTS, keys.numbered(uid, number), record)
        change.put(
            shelves.MARKS,
            uid,
            replace(
                mark,
                next_segment=number + 1,
                batches=mark.batches - len(job.refs) + len(sealed.batches),
                bytes=mark.bytes - sum(segment.length for segment in job.segments) + sealed.length,
            ),
        )
        return True


def _write(job: _Job, path: Path, number: int) -> tuple[bytes, SealedFile]:
    table = job.table
    schemas = [read_head(segment.arrow_schema) for segment in job.segments]
    schema = reduce(unify, schemas) if schemas else read_head(table.arrow_schema)
    tables = {table.input_table_id: table.foreign_table_url} if table.foreign_table_url else {}
    head = segment_head(schema, table.columns, tables)
    reader = SegmentReader(job.folder, job.segments)
    try:
        batches = (stored.decode() for stored in reader.read(job.refs))
        return head, write_sealed(path, head, batches, number, job.first_row)
    finally:
        reader.close()


def _open_tables(snapshot: Snapshot) -> list[Uid]:
    return list(dict.fromkeys(Uid(key[:16]) for key, _ in snapshot.scan(shelves.OPEN_SEGMENTS)))


def _open_segments(snapshot: Snapshot, uid: Uid) -> list[Segment]:
    found = (snapshot.get(shelves.SEGMENTS, key) for key, _ in snapshot.scan(shelves.OPEN_SEGMENTS, uid))
    return [segment for segment in found if segment is not None]


def _table(snapshot: Snapshot, uid: Uid) -> MetricsTable | None:
    key = snapshot.get(shelves.TABLE_UIDS, uid)
    return snapshot.get(shelves.TABLES, key) if key else None
