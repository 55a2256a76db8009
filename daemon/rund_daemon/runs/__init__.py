"""What may be done to a run: no gRPC, no LMDB, no files.

Each method checks and changes in one transaction, which is durable when it returns, and is safe to repeat with the same
request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from rund_daemon.catalog import Catalog, Change, shelves
from rund_daemon.catalog.lookup import (
    RunDetails,
    TableState,
    details_of,
    find_run,
    find_table,
    run_by_uid,
    summary_of,
    table_by_uid,
    tables_of,
    with_mark,
)
from rund_daemon.catalog.requests import find_request, keep_request, once
from rund_daemon.errors import InvalidError, NotFoundError, Reason
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource
from rund_daemon.limits import Limits
from rund_daemon.model import KeptRequest, MetricsTable, RequestKey, Run, Uid, Values
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.quotas import Quotas
from rund_daemon.segments.layout import Layout

from . import changes, metrics_tables, trash, trashed_tables, writers
from .changes import RunUpdate
from .creation import Creation, NewRun, create_run
from .metrics_tables import NewTable, Reference
from .presence import Presence
from .trash import A_MONTH, Retention
from .writers import Ending

__all__ = [
    "Creation",
    "Ending",
    "NewRun",
    "NewTable",
    "Presence",
    "Reference",
    "RunDetails",
    "RunUpdate",
    "Runs",
    "StreamNames",
    "TableState",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StreamNames:
    """A table to register, by its URL, and the stream name to give it; empty leaves it as it is."""

    own_name: str
    reference: Reference | None
    stream_name: str


class Runs:
    """The runs of a root."""

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        limits: Limits,
        feed: Feed,
        clock: Clock,
        new_uid: UidSource,
        *,
        presence: Presence,
        quotas: Quotas,
        retention: Retention = A_MONTH,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._limits = limits
        self._feed = feed
        self._clock = clock
        self._new_uid = new_uid
        self.presence = presence
        self._quotas = quotas
        self._retention = retention

    def get(self, name: RunName, *, show_deleted: bool = False, full: bool = True) -> RunDetails:
        """Gives a run by name, without its values and tables unless `full`. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            run = find_run(snapshot, name, show_deleted=show_deleted)
            return details_of(snapshot, run) if full else summary_of(snapshot, run)

    def find(self, name: RunName) -> Run:
        """Gives a run by name, without its values and tables: it may have thousands. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            return find_run(snapshot, name)

    def find_by_uid(self, uid: Uid) -> Run:
        """The same by uid, in trash or not. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            return run_by_uid(snapshot, uid)

    def find_tables(self, name: RunName, begin: int, count: int) -> tuple[Run, list[TableState]]:
        """Gives a run, and so many of its tables in order of writing, from a number on. Raises NotFoundError.

        Those that others have replaced are not listed.
        """
        with self._catalog.snapshot() as snapshot:
            run = find_run(snapshot, name)
            listed = (state for state in tables_of(snapshot, run.uid, begin) if not state.table.replaced)
            return run, list(islice(listed, count))

    def get_by_uid(self, uid: Uid) -> RunDetails:
        """Gives a run by uid, in trash or not. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            return details_of(snapshot, run_by_uid(snapshot, uid))

    def get_table(self, name: MetricsTableName) -> TableState:
        """Gives one of a run's own metrics tables. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            return find_table(snapshot, name)

    def get_table_by_uid(self, uid: Uid, project: str | None = None) -> TableState:
        """Gives a metrics table by uid, whatever its run is called and if it is in trash. Raises NotFoundError.

        Args:
            uid: its uid.
            project: where it has to be.
        """
        with self._catalog.snapshot() as snapshot:
            table = table_by_uid(snapshot, uid)
            run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
            if table is None or (project is not None and (run is None or run.project != project)):
                raise NotFoundError(Reason.METRICS_TABLE_NOT_FOUND, "the metrics table is gone")
            return with_mark(snapshot, table)

    async def create(self, new: NewRun, request: RequestKey) -> Creation:
        """Creates a run, joins its launch's, or does what `if_exists` says. Raises ExistsError, ExhaustedError."""
        allowance = await self._quotas.allowance(new.project)
        uid, now = self._new_uid(), self._clock()

        def mutation(change: Change) -> Creation:
            kept = find_request(change, request)
            if kept is not None:
                # Whoever repeats a request has not seen that it was the one that created the run.
                return Creation(run_by_uid(change, kept.result_uid), kept.created)
            creation = create_run(change, new, uid, now, self._layout, self._limits, self._retention, allowance)
            done = KeptRequest(request.method, request.fingerprint, creation.run.uid, now, creation.created)
            keep_request(change, request, done)
            return creation

        if new.writer is not None:
            self.presence.hear(new.writer.writer_id)
        return await self._submit(mutation)

    async def update(self, name: RunName, update: RunUpdate, etag: str, request: RequestKey) -> Run:
        """Changes the fields given. Raises NotFoundError, ExistsError, ConflictError."""
        now = self._clock()
        return await self._change(
            request,
            lambda change: changes.update_run(
                change, name, update, etag, now=now, layout=self._layout, limits=self._limits
            ),
        )

    async def delete(self, name: RunName, etag: str, request: RequestKey) -> Run:
        """Moves a run to trash. Raises NotFoundError, ConflictError."""
        now = self._clock()

        def mutation(change: Change) -> Run:
            run = find_run(change, name)
            changes.check_etag(run, etag)
            return trash.move_to_trash(change, run, now, self._layout, self._retention)

        return await self._change(request, mutation, deletes=True)

    async def undelete(self, name: RunName, uid: Uid | None, request: RequestKey) -> Run:
        """Takes a run out of trash. Raises NotFoundError, ExistsError."""
        now = self._clock()
        return await self._change(request, lambda change: trash.restore(change, name, uid, now, self._layout))

    async def set_parameters(self, name: RunName, parameters: Values, request: RequestKey) -> Run:
        """Merges parameters by top-level key. Raises NotFoundError, ExhaustedError."""
        now = self._clock()
        return await self._change(
            request, lambda change: changes.set_parameters(change, name, parameters, now, self._limits)
        )

    async def add_value(self, name: RunName, kind: bytes, value: Values, request: RequestKey) -> Run:
        """Appends an input or an output. Raises NotFoundError."""
        now = self._clock()
        return await self._change(request, lambda change: changes.add_value(change, name, kind, value, now))

    async def add_input_table(self, name: RunName, url: str, request: RequestKey) -> Run:
        """Adds an input table's URL, once. Raises NotFoundError."""
        now = self._clock()
        return await self._change(request, lambda change: changes.add_input_table(change, name, url, now))

    async def finish(self, name: RunName, ending: Ending, request: RequestKey) -> Run:
        """Ends a run, or one writer's part in it. Raises NotFoundError, InvalidError."""
        now = self._clock()
        return await self._change(request, lambda change: writers.finish_run(change, name, ending, now))

    async def report_writer(self, name: RunName, writer_id: str, dropped_rows: int, *, alive: bool) -> None:
        """Notes what a writer says of itself, or who took its journal over. Raises NotFoundError, InvalidError."""
        with self._catalog.snapshot() as snapshot:
            run = find_run(snapshot, name)
        if alive and writers.writer_of(run, writer_id) is None:
            raise InvalidError("writer_id", f"{writer_id} is no writer of the run; CreateRun makes one")
        await self._note(run, writer_id, dropped_rows, alive=alive)

    async def hear(self, uid: Uid, writer_id: str) -> bool:
        """Takes a call for a sign of life of its writer; says whether the run has that writer. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            run = run_by_uid(snapshot, uid)
        if writers.writer_of(run, writer_id) is None:
            return False
        await self._note(run, writer_id, 0, alive=True)
        return True

    async def _note(self, run: Run, writer_id: str, dropped_rows: int, *, alive: bool) -> None:
        now, writer = self._clock(), writers.writer_of(run, writer_id)
        is_back = alive and writer is not None and writers.is_taken_for_dead(writer)
        if writer is not None and alive and (is_back or not writer.finish_time):
            self.presence.hear(writer_id)
        # Most reports say nothing new, and cost no commit.
        if is_back or dropped_rows > (writer.dropped_rows if writer else 0):
            await self._submit(
                lambda change: writers.report_writer(change, run.uid, writer_id, dropped_rows, alive, now)
            )

    async def register_tables(self, name: RunName, tables: Sequence[StreamNames], request: RequestKey) -> Run:
        """Registers metrics tables that are there, all or none of them. Raises NotFoundError."""
        now = self._clock()
        uids = [self._new_uid() for _ in tables]

        def mutation(change: Change) -> Run:
            run = find_run(change, name)
            for table, uid in zip(tables, uids, strict=True):
                if table.reference is None:
                    run = metrics_tables.register_own(change, name, table.own_name, table.stream_name, now)
                else:
                    run = metrics_tables.register_reference(change, name, table.reference, uid, now)
            return run

        return await self._change(request, mutation)

    async def create_table(self, name: RunName, new: NewTable, request: RequestKey) -> TableState:
        """Creates an empty metrics table. Raises NotFoundError, ExistsError."""
        metrics_tables.check_columns(new.columns, "metrics_table.columns")
        uid, now = self._new_uid(), self._clock()

        def mutation(change: Change) -> TableState:
            table, _ = once(
                change,
                request,
                now,
                lambda: metrics_tables.create_table(change, name, new, uid, now),
                lambda result: result.uid,
                lambda kept: table_by_uid(change, kept),
            )
            return metrics_tables.state_of(change, table)

        return await self._submit(mutation)

    async def undelete_table(self, name: MetricsTableName, uid: Uid | None, request: RequestKey) -> TableState:
        """Takes a metrics table out of trash. Raises NotFoundError, ExistsError."""
        now = self._clock()

        def mutation(change: Change) -> TableState:
            table, _ = once(
                change,
                request,
                now,
                lambda: trashed_tables.restore_table(change, name, uid, now, self._layout).table,
                lambda result: result.uid,
                lambda kept: table_by_uid(change, kept),
            )
            return metrics_tables.state_of(change, table)

        return await self._submit(mutation)

    async def ensure_table(self, name: MetricsTableName) -> MetricsTable:
        """Gives a metrics table, made now if the run has none of this name. Raises NotFoundError."""
        uid, now = self._new_uid(), self._clock()
        run_name = RunName(name.project, name.run)
        return await self._submit(lambda change: metrics_tables.ensure_table(change, run_name, name.table, uid, now))

    async def seal_table(self, table: MetricsTable) -> TableState:
        """Lets a table take no more rows. Raises NotFoundError."""
        now = self._clock()
        state = await self._submit(
            lambda change: metrics_tables.state_of(change, metrics_tables.seal_table(change, table, now))
        )
        # Whoever follows the table waits for rows that won't come.
        self._feed.publish((table.uid,))
        return state

    async def _change(self, request: RequestKey, carry_out: Callable[[Change], Run], *, deletes: bool = False) -> Run:
        now = self._clock()

        def mutation(change: Change) -> Run:
            run, _ = once(
                change,
                request,
                now,
                lambda: carry_out(change),
                lambda result: result.uid,
                lambda kept: run_by_uid(change, kept),
            )
            return run

        return await self._submit(mutation, deletes=deletes)

    async def _submit(self, mutation: Callable[[Change], T], *, deletes: bool = False) -> T:
        result = await self._catalog.submit(mutation, deletes=deletes)
        self._feed.publish((RUNS_TOPIC,))
        return result
