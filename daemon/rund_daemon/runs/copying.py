"""Deep copies of runs within a root: metadata, metrics tables and bulk data, in one stroke.

The copy is built in trash, where nobody looks, and appears with one transaction; an overwritten run goes to trash in
the same one.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import INPUT, OUTPUT, RunDetails, find_run
from rund_daemon.catalog.moves import add_move
from rund_daemon.catalog.run_values import put_value
from rund_daemon.errors import InvalidError
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource
from rund_daemon.model import IfExists, Micros, Run, RunStatus, Uid
from rund_daemon.names import RunName
from rund_daemon.progress import Progress
from rund_daemon.quotas import Quotas
from rund_daemon.segments.layout import Layout

from .capture import CapturedRun, CapturedTable, RunCapture
from .creation import free_name, insert_run, name_taken, take_name
from .trash import Retention


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where the copy goes. An empty run name asks for a free one made of the source's."""

    project: str
    name: str
    if_exists: IfExists


class RunCopies:
    """Copies runs."""

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        capture: RunCapture,
        feed: Feed,
        clock: Clock,
        new_uid: UidSource,
        *,
        quotas: Quotas,
        retention: Retention,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._capture = capture
        self._feed = feed
        self._clock = clock
        self._new_uid = new_uid
        self._quotas = quotas
        self._retention = retention

    async def admission(self, source: RunName, target: CopyTarget) -> Callable[[Snapshot], None]:
        """Gives what refuses at once what can't succeed, or has no room in its project.

        It raises NotFoundError, ExistsError, InvalidError, ExhaustedError.
        """
        allowance = await self._quotas.allowance(target.project)
        size = await self._quotas.size_of(source) if allowance.quota else 0

        def check(snapshot: Snapshot) -> None:
            self.check(snapshot, source, target)
            allowance.check(size)

        return check

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
            copy = await loop.run_in_executor(None, self._capture.take, source, staging, progress)
            failpoint("copying.copied")
            progress.report(0.99, "publishing")
            await self._catalog.submit(lambda change: self._publish(change, copy, target, staging, uid, now))
            size = sum(table.state.mark.bytes for table in copy.tables)
        except Exception:
            # Not when this task is cancelled: the transaction may be on its way then, and the next start removes the
            # files if it was not.
            await loop.run_in_executor(None, shutil.rmtree, staging, True)
            raise
        failpoint("copying.published")
        self._quotas.grow(target.project, size)
        self._feed.publish((RUNS_TOPIC,))
        return uid

    def _publish(
        self, change: Change, copy: CapturedRun, target: CopyTarget, staging: Path, uid: Uid, now: Micros
    ) -> Run:
        source = copy.details.run
        wanted = target.name or free_name(change, target.project, source.name)
        name, _ = take_name(
            change, RunName(target.project, wanted), target.if_exists, now, self._layout, self._retention
        )
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


def _put_table(change: Change, copy: CapturedTable, run: Uid) -> None:
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
