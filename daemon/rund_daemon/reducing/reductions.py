"""Reductions from the request to the transaction that puts their tables in place."""

from __future__ import annotations

import asyncio
import pickle
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Snapshot
from rund_daemon.errors import Reason, StateError
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource
from rund_daemon.model import KeptReducer, Micros, RequestKey, Uid
from rund_daemon.names import MAX_NAME_BYTES, MetricsTableName, ReducerName, RunName
from rund_daemon.operations import Reduced
from rund_daemon.progress import Progress
from rund_daemon.quotas import Quotas
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.runs.trash import Retention
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.layout import REDUCER_MODEL, REDUCER_SNAPSHOT, Layout, write_durable_file
from rund_daemon.segments.space import SpaceFloor

from .jobs import Job, order_of, take_files
from .kept import reducers_of, remove_reducer
from .orders import Made, MadeFit, Order
from .planning import ColumnFit, maps_of, new_columns, plan_reduction, plan_transformation, with_files
from .publishing import NewReducer, Published, Publisher, Replacement, reducer_document
from .request import ReductionRequest
from .turns import Share, Turns
from .worker import RESULT

_ATTEMPTS = 5
# A folder is moved within milliseconds of the commit that says so, unless the disk is full.
_SETTLE_SECONDS = 5.0
_NO_NAME = re.compile(r"[^\w.+=-]+")

PlanJob = Callable[[Snapshot], Job]


class Reductions:
    """Carries out reductions."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        floor: SpaceFloor,
        feed: Feed,
        clock: Clock,
        new_uid: UidSource,
        retention: Retention,
        compression: Compression,
        share: Share,
        quotas: Quotas,
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._floor = floor
        self._feed = feed
        self._clock = clock
        self._new_uid = new_uid
        self._publisher = Publisher(layout, retention)
        self._compression = compression
        self._turns = Turns(share)
        self._quotas = quotas

    def check(self, snapshot: Snapshot, name: RunName, request: ReductionRequest) -> None:
        """Refuses at once what can't succeed; raises what `plan_reduction` does."""
        plan_reduction(snapshot, self._layout, name, request)

    def check_transformation(
        self, snapshot: Snapshot, reducer: KeptReducer, tables: Sequence[MetricsTableName]
    ) -> None:
        """Refuses at once what can't succeed; raises what `plan_transformation` does."""
        plan_transformation(snapshot, self._layout, reducer, tables)

    async def reduce(self, name: RunName, request: ReductionRequest, operation: Uid, progress: Progress) -> Reduced:
        """Reduces the embeddings of a run.

        Raises:
            RundError: it can't be done, or was cancelled; nothing was changed.
        """

        def plan(snapshot: Snapshot) -> Job:
            planned = plan_reduction(snapshot, self._layout, name, request)
            parameters = request.with_seed().parameters
            return Job(planned, parameters, request.retain_source, request.delete_sources, wanted=request.wanted())

        return await self._carry_out(plan, operation, progress)

    async def transform(
        self,
        reducer: KeptReducer,
        tables: Sequence[MetricsTableName],
        operation: Uid,
        progress: Progress,
        *,
        delete_sources: bool,
    ) -> Reduced:
        """Maps tables with a kept reducer.

        Raises:
            RundError: it can't be done, or was cancelled; nothing was changed.
        """

        def plan(snapshot: Snapshot) -> Job:
            planned = plan_transformation(snapshot, self._layout, reducer, tables)
            return Job(planned, Parameters.from_json(reducer.parameters), False, delete_sources, reducer)

        return await self._carry_out(plan, operation, progress)

    async def remove(self, name: ReducerName, request: RequestKey) -> None:
        """Removes a kept reducer for good. Raises NotFoundError, InvalidError."""
        now = self._clock()
        uid = await self._catalog.submit(
            lambda change: remove_reducer(change, name, request, now, self._layout), deletes=True
        )
        if uid is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._remove_folder, uid)
            self._quotas.forget()

    def _remove_folder(self, uid: Uid) -> None:
        self._catalog.wait_until_settled(_SETTLE_SECONDS)
        shutil.rmtree(self._layout.unfinished(uid), ignore_errors=True)

    async def stop(self) -> None:
        """Ends the process that carries out jobs, if there is one."""
        await self._turns.stop()

    async def _carry_out(self, plan: PlanJob, operation: Uid, progress: Progress) -> Reduced:
        staging = self._layout.unfinished(operation)
        loop = asyncio.get_running_loop()
        async with self._turns.next(progress):
            try:
                job = await loop.run_in_executor(None, self._stage, plan, staging)
                failpoint("reducing.staged")
                order = self._order(job, staging)
                (staging / "order").write_bytes(pickle.dumps(order))
                await self._turns.carry_out(staging / "order", progress)
                made: Made = pickle.loads((staging / RESULT).read_bytes())  # noqa: S301  # by a process of ours
                failpoint("reducing.made")
                progress.report(0.99, "publishing")
                published, used = await self._publish(job, order, made)
            except Exception:
                # Not when this task is cancelled: the transaction may be on its way then, and the next start removes
                # the files if it was not.
                await loop.run_in_executor(None, shutil.rmtree, staging, True)
                raise
        failpoint("reducing.published")
        self._feed.publish((RUNS_TOPIC,))
        await loop.run_in_executor(None, shutil.rmtree, staging, True)
        return self._result(job, published, used)

    def _stage(self, plan: PlanJob, staging: Path) -> Job:
        for _ in range(_ATTEMPTS):
            with self._catalog.snapshot() as snapshot:
                job = plan(snapshot)
                job = replace(job, plan=with_files(snapshot, job.plan))
            # Without hard links the sources are copied; the new tables are smaller as a rule.
            self._floor.check(sum(source.state.mark.bytes for source in job.plan.sources))
            try:
                take_files(job.plan, staging)
            except FileNotFoundError:
                # Sealed or renamed meanwhile: look again when the files are where the catalog says.
                shutil.rmtree(staging, ignore_errors=True)
                self._catalog.wait_until_settled(_SETTLE_SECONDS)
            else:
                return job
        raise StateError(Reason.WRONG_STATE, "the run changes faster than it can be read; try again")

    def _order(self, job: Job, staging: Path) -> Order:
        model, known = None, dict[bytes, Path]()
        if job.reducer is not None:
            model = self._model(job.reducer)
        else:
            with self._catalog.snapshot() as snapshot:
                kept = reducers_of(snapshot, job.plan.sources[0].run.project)
            for reducer in reversed(kept):
                if reducer.fingerprint.startswith(job.wanted):
                    known[reducer.fingerprint.removeprefix(job.wanted)] = self._model(reducer)
        return order_of(job, staging, model, known, self._compression, self._turns.share.memory)

    def _model(self, reducer: KeptReducer) -> Path:
        return self._layout.reducer(reducer.project, reducer.name) / REDUCER_MODEL

    async def _publish(self, job: Job, order: Order, made: Made) -> tuple[Published, list[str]]:
        """Puts everything in place, and gives that and the names of the reducers that were used again."""
        replacements = []
        for number, source in enumerate(job.plan.sources):
            columns = new_columns(source, maps_of(job.plan, number), job.retain_source, job.parameters)
            table = order.tables[number]
            replacements.append(
                Replacement(source, self._new_uid(), table.new_head, columns, made.tables[number], table.made)
            )
        new, used = list[NewReducer](), list[str]()
        for fit, wanted, done in zip(job.plan.fits, order.fits, made.fits, strict=True):
            if done.used is None:
                reducer = self._reducer(job, fit, done)
                folder = wanted.made.parent
                write_durable_file(folder / REDUCER_SNAPSHOT, reducer_document(reducer))
                new.append(NewReducer(reducer, folder))
            else:
                folder = done.used.parent
                used.append(f"projects/{folder.parts[-3]}/reducers/{folder.name}")
        now, suffix = self._clock(), job.parameters.method
        published = await self._catalog.submit(
            lambda change: self._publisher.publish(
                change, replacements, new, suffix, now, delete_sources=job.delete_sources
            )
        )
        return published, used

    def _reducer(self, job: Job, fit: ColumnFit, done: MadeFit) -> KeptReducer:
        assert fit.fitted_on is not None
        source = job.plan.sources[fit.fitted_on]
        run, method = source.run, job.parameters.method
        return KeptReducer(
            uid=self._new_uid(),
            project=run.project,
            name=reducer_name(run.name, fit.column, method),
            create_time=Micros(0),
            parameters=job.parameters.to_json(),
            source_column=fit.column,
            target_column=fit.target,
            fit_table_url=f"{self._layout.run(run.project, run.name)}/{source.state.table.url}",
            fit_row_count=done.fit_rows,
            input_width=done.width,
            fingerprint=job.wanted + done.vectors,
            library_versions=done.library_versions,
            quality=done.quality,
            warnings=done.warnings,
        )

    def _result(self, job: Job, published: Published, used: Sequence[str]) -> Reduced:
        tables: dict[str, str] = {}
        for (run, old), new in published.tables.items():
            _, project, _, name = run.split("/")
            # Of a named reducer the tables may be of several runs.
            home = f"{self._layout.run(project, name)}/" if job.reducer is not None else ""
            tables[f"{home}{old}"] = f"{home}{new}"
        return Reduced(tables, (*published.reducers, *used))


def reducer_name(run: str, column: str, method: str) -> str:
    """A name that says where a reducer comes from. Whatever a folder can't be called is left out."""
    text = "_".join(_NO_NAME.sub("-", part).strip("-.") for part in (run, column, method))
    return text.encode()[:MAX_NAME_BYTES].decode(errors="ignore")
