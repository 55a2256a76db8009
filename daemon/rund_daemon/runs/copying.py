"""Deep copies of runs within a root: metadata, metrics tables and bulk data, in one stroke.

The copy is built in trash, where nobody looks, and appears with one transaction; an overwritten run goes to trash in
the same one. Sealed segments never change, so they are hard-linked; open ones are copied up to their committed mark.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import INPUT, OUTPUT, RunDetails, TableState, details_of, find_run
from rund_daemon.catalog.moves import add_move
from rund_daemon.catalog.run_values import put_value
from rund_daemon.errors import CorruptError, InvalidError, Reason, StateError
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource
from rund_daemon.model import BatchRef, IfExists, Micros, Run, RunStatus, Segment, Uid
from rund_daemon.names import RunName
from rund_daemon.progress import Progress
from rund_daemon.segments.layout import Layout, make_durable_folder, sync_folder
from rund_daemon.segments.space import SpaceFloor

from .creation import free_name, insert_run, name_taken, take_name

_BUFFER = 8 * 1024 * 1024
_ATTEMPTS = 5
# A folder is moved within milliseconds of the commit that says so, unless the disk is full.
_SETTLE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where the copy goes. An empty run name asks for a free one made of the source's."""

    project: str
    name: str
    if_exists: IfExists


@dataclass(frozen=True, slots=True)
class _TableCopy:
    state: TableState
    uid: Uid
    segments: tuple[Segment, ...]
    states: tuple[tuple[int, bytes], ...]
    refs: tuple[BatchRef, ...]


@dataclass(frozen=True, slots=True)
class _RunCopy:
    details: RunDetails
    tables: tuple[_TableCopy, ...]


class RunCopies:
    """Copies runs."""

    def __init__(
        self, catalog: Catalog, layout: Layout, floor: SpaceFloor, feed: Feed, clock: Clock, new_uid: UidSource
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._floor = floor
        self._feed = feed
        self._clock = clock
        self._new_uid = new_uid

    @staticmethod
    def check(snapshot: Snapshot, source: RunName, target: CopyTarget) -> None:
        """Refuses at once what can't succeed. Raises NotFoundError, ExistsError, InvalidError."""
        find_run(snapshot, source)
        if (target.project, target.name) == source and target.if_exists is IfExists.OVERWRITE:
            raise InvalidError("run_name", "the copy would replace its source; give it another name")
        taken = target.name and snapshot.has(shelves.RUN_NAMES, keys.names(target.project, target.name))
        if taken and target.if_exists is IfExists.RAISE:
            raise name_taken(RunName(target.project, target.name), "run_name")

    async def copy(self, source: RunName, target: CopyTarget, operation: Uid, progress: Progress) -> Uid:
        """Copies a run and gives the uid of the copy. Raises ExistsError, OperationCancelledError."""
        staging = self._layout.unfinished(operation)
        loop = asyncio.get_running_loop()
        uid, now = self._new_uid(), self._clock()
        try:
            copy = await loop.run_in_executor(None, self._copy_files, source, staging, progress)
            failpoint("copying.copied")
            progress.report(0.99, "publishing")
            await self._catalog.submit(lambda change: self._publish(change, copy, target, staging, uid, now))
        except Exception:
            # Not when this task is cancelled: the transaction may be on its way then, and the next start removes the
            # files if it was not.
            await loop.run_in_executor(None, shutil.rmtree, staging, True)
            raise
        failpoint("copying.published")
        self._feed.publish((RUNS_TOPIC,))
        return uid

    def _copy_files(self, source: RunName, staging: Path, progress: Progress) -> _RunCopy:
        for _ in range(_ATTEMPTS):
            copy = self._plan(source)
            run = copy.details.run
            folder = self._layout.run(run.project, run.name)
            try:
                self._copy_tables(copy, folder, staging, progress)
                self._copy_bulk_data(folder / "bulk_data", staging / "bulk_data", progress)
            except FileNotFoundError:
                # Sealed or renamed meanwhile: look again when the files are where the catalog says.
                self._catalog.wait_until_settled(_SETTLE_SECONDS)
            else:
                if self._is_still(run):
                    return copy
            shutil.rmtree(staging, ignore_errors=True)
        raise StateError(Reason.WRONG_STATE, f"name: {source.run!r} changes faster than it can be copied; try again")

    def _is_still(self, copied: Run) -> bool:
        """Whether the folder that was copied has been the run's all the time."""
        with self._catalog.snapshot() as snapshot:
            run = snapshot.get(shelves.RUNS, copied.uid)
        return run is not None and (run.project, run.name, run.delete_time) == (copied.project, copied.name, 0)

    def _plan(self, source: RunName) -> _RunCopy:
        with self._catalog.snapshot() as snapshot:
            details = details_of(snapshot, find_run(snapshot, source))
            tables = [
                _TableCopy(
                    state,
                    self._new_uid(),
                    tuple(segment for _, segment in snapshot.scan(shelves.SEGMENTS, state.table.uid)),
                    tuple(
                        (keys.number_of(key), value)
                        for key, value in snapshot.scan(shelves.OPEN_SEGMENTS, state.table.uid)
                    ),
                    tuple(ref for _, ref in snapshot.scan(shelves.BATCHES, state.table.uid)),
                )
                for state in details.tables
            ]
        return _RunCopy(details, tuple(tables))

    def _copy_tables(self, copy: _RunCopy, folder: Path, staging: Path, progress: Progress) -> None:
        make_durable_folder(staging)
        for done, table in enumerate(copy.tables):
            progress.report(0.9 * done / len(copy.tables), f"table {table.state.table.url}")
            origin = self._layout.metrics_table(folder, table.state.table.name)
            target = self._layout.metrics_table(staging, table.state.table.name)
            for segment in table.segments:
                make_durable_folder(target)
                self._copy_segment(origin / segment.file_name, target / segment.file_name, segment, progress)
            if table.segments:
                sync_folder(target)

    def _copy_segment(self, origin: Path, target: Path, segment: Segment, progress: Progress) -> None:
        if segment.sealed:
            try:
                os.link(origin, target)
                return
            except FileNotFoundError:
                raise
            except OSError:
                pass  # the file system has no hard links, or too many of this file: copy as below
        with origin.open("rb") as source, target.open("xb") as sink:
            left = segment.length
            while left:
                progress.report(progress.share, progress.message)
                self._floor.check(min(left, _BUFFER))
                data = source.read(min(left, _BUFFER))
                if not data:
                    raise CorruptError(f"{origin} is {left} bytes shorter than committed; restore it from a copy")
                sink.write(data)
                left -= len(data)
            sink.flush()
            os.fdatasync(sink.fileno())

    def _copy_bulk_data(self, origin: Path, target: Path, progress: Progress) -> None:
        """Copies the caller's files; they may change later, so they are never linked."""
        if not origin.is_dir():
            return

        def copy(source: str, destination: str) -> str:
            progress.report(0.95, "bulk data")
            self._floor.check(Path(source).stat().st_size)
            shutil.copy2(source, destination)
            with Path(destination).open("rb") as file:
                os.fsync(file.fileno())
            return destination

        try:
            shutil.copytree(origin, target, copy_function=copy, symlinks=True)
        except shutil.Error as error:
            # It gathers the errors of all files; if the folder itself has gone elsewhere, it is looked for again.
            if origin.is_dir():
                raise
            raise FileNotFoundError(origin) from error

    def _publish(self, change: Change, copy: _RunCopy, target: CopyTarget, staging: Path, uid: Uid, now: Micros) -> Run:
        source = copy.details.run
        wanted = target.name or free_name(change, target.project, source.name)
        name, _ = take_name(change, RunName(target.project, wanted), target.if_exists, now, self._layout)
        run = replace(
            source,
            uid=uid,
            project=target.project,
            name=name,
            create_time=now,
            update_time=now,
            # Nobody writes to a copy.
            status=source.status if source.status.ended else RunStatus.PAUSED,
            writers=(),
        )
        add_move(
            change,
            self._layout.relative(staging),
            self._layout.relative(self._layout.run(run.project, run.name)),
        )
        self._put_values(change, copy.details, uid)
        for table in copy.tables:
            _put_table(change, table, uid)
        return insert_run(change, run, now)

    @staticmethod
    def _put_values(change: Change, details: RunDetails, uid: Uid) -> None:
        for kind, values in ((INPUT, details.inputs), (OUTPUT, details.outputs)):
            for number, value in enumerate(values):
                put_value(change, uid, kind, number, value)


def _put_table(change: Change, copy: _TableCopy, run: Uid) -> None:
    table = replace(copy.state.table, uid=copy.uid, run_uid=run)
    key = keys.numbered(run, table.number)
    change.put(shelves.TABLES, key, table)
    change.put(shelves.TABLE_UIDS, table.uid, key)
    if table.name:
        change.put(shelves.TABLE_NAMES, keys.named(run, table.name), table.number)
    change.put(shelves.MARKS, table.uid, copy.state.mark)
    for segment in copy.segments:
        change.put(shelves.SEGMENTS, keys.numbered(table.uid, segment.number), segment)
    for number, state in copy.states:
        # A segment that was closed stays so: rows that came after it may lie in sealed ones.
        change.put(shelves.OPEN_SEGMENTS, keys.numbered(table.uid, number), state)
    for ref in copy.refs:
        change.put(shelves.BATCHES, keys.batch(table.uid, ref.first_row), ref)
