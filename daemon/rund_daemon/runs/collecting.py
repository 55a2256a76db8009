"""Removes what is in trash for good.

A run goes in one transaction: from then on nobody can find or restore it, and its folder is among what is unfinished,
which the next start removes. What was kept for it under its tables' keys may be much; it is removed in small
transactions behind that, so that no writer waits for it, and a mark says that this goes on.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.catalog.shelves import Shelf
from rund_daemon.failpoints import failpoint
from rund_daemon.identity import Clock
from rund_daemon.model import MetricsTable, Micros, Run, Uid
from rund_daemon.quotas import Quotas
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.space import size_of

from .trash import A_MONTH, Retention
from .trashed_tables import tables_in_trash

T = TypeVar("T")

logger = logging.getLogger(__name__)

_PAUSE_SECONDS = 3_600.0
# Of one transaction: a few milliseconds of the catalog's writer.
_KEYS_AT_ONCE = 2_000
# A folder is moved within milliseconds of the commit that says so, unless the disk is full.
_SETTLE_SECONDS = 30.0
_OF_A_TABLE: Sequence[Shelf[Any]] = (
    shelves.BATCHES,
    shelves.SEGMENTS,
    shelves.OPEN_SEGMENTS,
    shelves.STREAMS,
    shelves.MARKS,
)
_BY_UID: Sequence[Shelf[Any]] = (shelves.RUNS, shelves.LIVE_RUNS, shelves.SNAPSHOTS)
_OF_A_RUN: Sequence[Shelf[Any]] = (shelves.VALUES, shelves.LAST_OUTPUTS, shelves.TABLE_NAMES)


@dataclass(frozen=True, slots=True)
class TrashQuery:
    """What of the trash is meant: of a project, or of all if it is empty.

    `age` is for how long it has to lie there; None means until it has expired.
    """

    project: str = ""
    age: Micros | None = None


@dataclass(frozen=True, slots=True)
class Trashed:
    """Something in trash.

    Attributes:
        path: where it lies.
        size: bytes of its files.
        run: the run that it was; None for a table, and for a stray, which `rund fsck --repair` or a restart has put
            there.
        table: the metrics table that it was, and `table_name` its resource name.
    """

    path: Path
    size: int
    run: Run | None
    table: MetricsTable | None = None
    table_name: str = ""


class TrashCollector:
    """Collects the trash of a root."""

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        clock: Clock,
        retention: Retention = A_MONTH,
        quotas: Quotas | None = None,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._clock = clock
        self._retention = retention
        self._quotas = quotas

    async def run(self) -> None:
        """Ends what an earlier daemon has begun, and then collects what has expired, until it is cancelled."""
        await self.finish_begun()
        while True:
            await self.collect(TrashQuery())
            await asyncio.sleep(_PAUSE_SECONDS)

    async def find(self, query: TrashQuery) -> Sequence[Trashed]:
        """Gives what would be collected, those first that were deleted first."""
        return await _off_loop(lambda: self._find(query))

    async def collect(self, query: TrashQuery) -> Sequence[Trashed]:
        """Collects, and gives what is gone. What is restored meanwhile stays."""
        gone = []
        for trashed in await self.find(query):
            if trashed.table is not None:
                if await self._collect_table(trashed.table, query):
                    gone.append(trashed)
            elif trashed.run is None:
                await _off_loop(partial(_remove_stray, trashed.path))
                gone.append(trashed)
            elif await self._collect(trashed.run.uid, query):
                gone.append(trashed)
        if gone:
            if self._quotas is not None:
                self._quotas.forget()
            logger.info("trash_collected", extra={"count": len(gone), "bytes": sum(entry.size for entry in gone)})
        return gone

    async def finish_begun(self) -> int:
        """Ends what an earlier daemon has begun, and gives the number of runs."""
        with self._catalog.snapshot() as snapshot:
            begun = [Uid(key) for key, _ in snapshot.scan(shelves.COLLECTED)]
        for uid in begun:
            await self._finish(uid)
        return len(begun)

    def _find(self, query: TrashQuery) -> list[Trashed]:
        now = self._clock()
        with self._catalog.snapshot() as snapshot:
            runs = [run for run in _runs_in_trash(snapshot, query.project) if _is_due(run, query, now)]
            tables = [entry for entry in _tables_in_trash(snapshot, query.project) if _is_due(entry[1], query, now)]
        places = [(self._layout.trashed(run.uid), run) for run in sorted(runs, key=lambda run: run.delete_time)]
        found = [Trashed(path, size_of(path), run) for path, run in places]
        for name, table in sorted(tables, key=lambda entry: entry[1].delete_time):
            path = self._layout.trashed(table.uid)
            found.append(Trashed(path, size_of(path), None, table, name))
        if query.project:
            return found
        age = self._retention.kept("") if query.age is None else query.age
        strays = [path for path in self._layout.strays() if path.lstat().st_ctime_ns // 1_000 + age <= now]
        return [*found, *(Trashed(path, size_of(path), None) for path in strays)]

    async def _collect(self, uid: Uid, query: TrashQuery) -> bool:
        now = self._clock()

        def begin(change: Change) -> bool:
            run = change.get(shelves.RUNS, uid)
            if run is None or not run.delete_time or not _is_due(run, query, now):
                return False  # it was restored meanwhile
            self._forget(change, run)
            return True

        if not await self._catalog.submit(begin, deletes=True):
            return False
        failpoint("collecting.begun")
        await self._finish(uid)
        return True

    async def _collect_table(self, table: MetricsTable, query: TrashQuery) -> bool:
        now, key = self._clock(), table.run_uid + table.uid

        def begin(change: Change) -> bool:
            trashed = change.get(shelves.TRASH_TABLES, key)
            if trashed is None or not _is_due(trashed, query, now):
                return False  # it was restored meanwhile, or its run collected
            change.delete(shelves.TRASH_TABLES, key)
            change.put(shelves.COLLECTED, table.uid, b"")
            self._give_up(change, self._layout.trashed(table.uid), self._unfinished(table.uid))
            return True

        if not await self._catalog.submit(begin, deletes=True):
            return False
        failpoint("reducing.source_forgotten")
        await self._finish(table.uid)
        return True

    def _forget(self, change: Change, run: Run) -> None:
        uid = run.uid
        change.delete(shelves.TRASH_NAMES, keys.trash_name(run.project, run.name, uid))
        change.delete(shelves.PROJECT_RUNS, keys.project_run(run.project, uid))
        for shelf in _BY_UID:
            change.delete(shelf, uid)
        change.put(shelves.COLLECTED, uid, b"")
        self._give_up(change, self._layout.trashed(uid), self._unfinished(uid))
        for table in tables_in_trash(change, uid):
            self._give_up(change, self._layout.trashed(table.uid), self._unfinished(uid) / "tables" / table.uid.hex())

    def _give_up(self, change: Change, trashed: Path, unfinished: Path) -> None:
        add_move(change, self._layout.relative(trashed), self._layout.relative(unfinished))

    async def _finish(self, uid: Uid) -> None:
        while await self._catalog.submit(lambda change: _forget_some(change, uid), deletes=True):
            failpoint("collecting.some")
        await _off_loop(lambda: self._catalog.wait_until_settled(_SETTLE_SECONDS))
        await _off_loop(lambda: shutil.rmtree(self._unfinished(uid), ignore_errors=True))
        failpoint("collecting.removed")
        await self._catalog.submit(lambda change: change.delete(shelves.COLLECTED, uid), deletes=True)

    def _unfinished(self, uid: Uid) -> Path:
        return self._layout.unfinished(uid)


def _forget_some(change: Change, uid: Uid) -> bool:
    """Removes some of what is kept for a run, and says whether there may be more."""
    left = _KEYS_AT_ONCE
    for home in (shelves.TABLES, shelves.TRASH_TABLES):
        for key, table in change.scan(home, uid):
            for shelf in _OF_A_TABLE:
                left -= change.delete_all(shelf, table.uid, left)
                if left <= 0:
                    return True
            change.delete(shelves.TABLE_UIDS, table.uid)
            change.delete(home, bytes(key))
            return True
    # The uid may be that of a table, too.
    for shelf in (*_OF_A_TABLE, *_OF_A_RUN):
        left -= change.delete_all(shelf, uid, left)
        if left <= 0:
            return True
    return False


def _runs_in_trash(snapshot: Snapshot, project: str) -> Iterator[Run]:
    prefix = keys.names_prefix(project) if project else b""
    for _, uid in snapshot.scan(shelves.TRASH_NAMES, prefix):
        run = snapshot.get(shelves.RUNS, uid)
        if run is not None and run.delete_time:
            yield run


def _tables_in_trash(snapshot: Snapshot, project: str) -> Iterator[tuple[str, MetricsTable]]:
    for table in tables_in_trash(snapshot):
        run = snapshot.get(shelves.RUNS, table.run_uid)
        if run is not None and project in ("", run.project):
            yield f"{run.resource_name}/metrics/{table.name}", table


def _is_due(trashed: Run | MetricsTable, query: TrashQuery, now: Micros) -> bool:
    return trashed.expire_time <= now if query.age is None else trashed.delete_time + query.age <= now


def _remove_stray(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        path.unlink()


async def _off_loop(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
