"""RunService: what may be done to a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import run_pb2, run_service_pb2_grpc
from rund_pb.v1 import run_service_pb2 as pb

from rund_daemon.bundles.importing import BundleImports
from rund_daemon.bundles.places import Places
from rund_daemon.bundles.writing import BundleCopies
from rund_daemon.catalog.lookup import INPUT, OUTPUT, RunDetails
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.identity import parse_uid, uid_text
from rund_daemon.ingest.sealing import Sealer
from rund_daemon.limits import Limits
from rund_daemon.model import IfExists, Micros, Operation, Revision, Run, RunStatus, Uid
from rund_daemon.names import RunName, check_name, check_project, parse_project, parse_run
from rund_daemon.operations import NO_RUN, Operations
from rund_daemon.progress import Progress
from rund_daemon.quotas import Quotas
from rund_daemon.reading.run_lists import ListQuery, RunLists
from rund_daemon.reading.watch import RunWatch, WatchQuery
from rund_daemon.runs import Ending, NewRun, Runs, RunUpdate
from rund_daemon.runs.collecting import TrashCollector, TrashQuery
from rund_daemon.runs.copying import RunCopies
from rund_daemon.runs.tables_by_url import TablesByUrl
from rund_daemon.segments.layout import Layout, make_durable_folder
from rund_daemon.tables import InputTables
from rund_daemon.urls import run_name_of_url

from .convert import (
    bare,
    cause_from_pb,
    if_exists_from_pb,
    run_to_pb,
    status_from_pb,
    values_from_pb,
    writer_from_pb,
)
from .convert_operations import operation_to_pb
from .copy_target import BundleTarget, copy_target, copying_if_exists
from .interceptor import Context
from .requests import request_key
from .run_events import RunEvents

_FULL = run_pb2.RUN_VIEW_FULL
_UPDATABLE = ("description", "status", "cause", "labels", "parameters", "run_name")


class RunServicer(run_service_pb2_grpc.RunServiceServicer):
    """Each method checks, calls the domain once and translates back."""

    def __init__(
        self,
        *,
        runs: Runs,
        lists: RunLists,
        watch: RunWatch,
        copies: RunCopies,
        bundles: BundleCopies,
        imports: BundleImports,
        places: Places,
        operations: Operations,
        tables: InputTables,
        metrics_by_url: TablesByUrl,
        sealer: Sealer,
        collector: TrashCollector,
        quotas: Quotas,
        layout: Layout,
        limits: Limits,
        silence_seconds: float,
    ) -> None:
        self._runs = runs
        self._lists = lists
        self._watch = watch
        self._copies = copies
        self._bundles = bundles
        self._imports = imports
        self._places = places
        self._operations = operations
        self._tables = tables
        self._metrics_by_url = metrics_by_url
        self._sealer = sealer
        self._collector = collector
        self._quotas = quotas
        self._layout = layout
        self._limits = limits
        self._silence_seconds = silence_seconds
        self._events = RunEvents(layout)

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> pb.CreateRunResponse:
        """Creates a run, or joins or reuses one."""
        if request.run.name:
            raise InvalidError("run.name", "the daemon gives it; set parent and run.run_name")
        new = NewRun(
            project=parse_project(request.parent, "parent"),
            name=check_name(request.run.run_name, "run.run_name") if request.run.run_name else "",
            description=request.run.description,
            status=status_from_pb(request.run.status, "run.status") or RunStatus.RUNNING,
            labels=dict(request.run.labels),
            parameters=values_from_pb(request.run.parameters, "run.parameters", self._limits),
            if_exists=if_exists_from_pb(request.if_exists, IfExists.RENAME),
            launch_id=request.launch_id,
            writer=writer_from_pb(request.writer) if request.HasField("writer") else None,
        )
        creation = await self._runs.create(new, request_key(request, "CreateRun"))
        return pb.CreateRunResponse(run=self._full(creation.run), created=creation.created)

    async def GetRun(self, request: pb.GetRunRequest, context: Context) -> pb.GetRunResponse:
        """Gives a run by name, URL or uid."""
        full = request.view in (run_pb2.RUN_VIEW_UNSPECIFIED, _FULL)
        details = self._find(request, full=full)
        if request.make_bulk_data_folder and not details.run.delete_time:
            folder = self._layout.bulk_data(details.run.project, details.run.name)
            await asyncio.get_running_loop().run_in_executor(None, make_durable_folder, folder)
        return pb.GetRunResponse(run=run_to_pb(details, self._layout, full=full))

    async def ListRuns(self, request: pb.ListRunsRequest, context: Context) -> pb.ListRunsResponse:
        """Gives a page of runs."""
        query = ListQuery(
            parse_project(request.parent, "parent", allow_any=True),
            request.filter,
            request.order_by,
            request.show_deleted,
            request.view == _FULL,
        )
        page = await asyncio.get_running_loop().run_in_executor(
            None, self._lists.page, query, request.page_size, request.page_token
        )
        runs = (run_to_pb(details, self._layout, full=query.full) for details in page.runs)
        return pb.ListRunsResponse(runs=runs, next_page_token=page.next_page_token)

    async def UpdateRun(self, request: pb.UpdateRunRequest, context: Context) -> pb.UpdateRunResponse:
        """Changes fields of a run."""
        mask = request.update_mask if request.HasField("update_mask") else None
        run = await self._runs.update(
            parse_run(request.run.name, "run.name"),
            self._update(request.run, mask),
            request.run.etag,
            request_key(request, "UpdateRun"),
        )
        self._seal_if_ended(run)
        return pb.UpdateRunResponse(run=self._full(run))

    async def DeleteRun(self, request: pb.DeleteRunRequest, context: Context) -> pb.DeleteRunResponse:
        """Moves a run to trash."""
        name = parse_run(request.name, "name")
        run = await self._runs.delete(name, request.etag, request_key(request, "DeleteRun"))
        return pb.DeleteRunResponse(run=self._basic(run))

    async def UndeleteRun(self, request: pb.UndeleteRunRequest, context: Context) -> pb.UndeleteRunResponse:
        """Takes a run out of trash."""
        uid = parse_uid(request.uid, "uid") if request.uid else None
        name = parse_run(request.name, "name")
        run = await self._runs.undelete(name, uid, request_key(request, "UndeleteRun"))
        return pb.UndeleteRunResponse(run=self._full(run))

    async def CollectTrash(self, request: pb.CollectTrashRequest, context: Context) -> pb.CollectTrashResponse:
        """Removes for good what is in trash, or says what would be."""
        project = parse_project(request.parent, "parent", allow_any=True)
        age = Micros(request.min_age.ToMicroseconds()) if request.HasField("min_age") else None
        if age is not None and age < 0:
            raise InvalidError("min_age", "it can't be negative; leave it out for what has expired")
        query = TrashQuery(project, age)
        found = await (self._collector.find(query) if request.validate_only else self._collector.collect(query))
        entries = [
            pb.CollectTrashResponse.Entry(
                path=str(entry.path),
                size_bytes=entry.size,
                run=self._basic(entry.run) if entry.run else None,
                metrics_table=entry.table_name,
            )
            for entry in found
        ]
        return pb.CollectTrashResponse(entries=entries, size_bytes=sum(entry.size for entry in found))

    async def GetUsage(self, request: pb.GetUsageRequest, context: Context) -> pb.GetUsageResponse:
        """Says what projects hold, and how much they may."""
        project = parse_project(request.parent, "parent", allow_any=True)
        usages = [
            pb.ProjectUsage(
                project_name=usage.project,
                run_count=usage.run_count,
                trashed_run_count=usage.trashed_run_count,
                held_bytes=usage.held_bytes,
                trashed_bytes=usage.trashed_bytes,
                quota_bytes=self._quotas.quota_of(usage.project),
            )
            for usage in await self._quotas.usage(project)
        ]
        return pb.GetUsageResponse(projects=usages)

    async def CopyRun(self, request: pb.CopyRunRequest, context: Context) -> pb.CopyRunResponse:
        """Begins a copy."""
        source = parse_run(request.name, "name")
        target = copy_target(request, source, self._layout)
        if isinstance(target, BundleTarget):
            return pb.CopyRunResponse(operation=operation_to_pb(await self._copy_out(request, source, target), None))
        operation = await self._operations.start(
            "CopyRun",
            request.name,
            request_key(request, "CopyRun"),
            lambda uid, progress: self._copies.copy(source, target, uid, progress),
            await self._copies.admission(source, target),
        )
        return pb.CopyRunResponse(operation=operation_to_pb(operation, None))

    async def _copy_out(self, request: pb.CopyRunRequest, source: RunName, target: BundleTarget) -> Operation:
        # An object store may be slow to answer, and its client is slow to load.
        url, store = await asyncio.get_running_loop().run_in_executor(
            None, self._places.destination, target.url, target.if_exists
        )

        async def copy(uid: Uid, progress: Progress) -> Uid:
            await self._bundles.copy(source, store, target.if_exists, uid, progress)
            return NO_RUN

        return await self._operations.start(
            "CopyRun",
            request.name,
            request_key(request, "CopyRun"),
            copy,
            lambda snapshot: self._bundles.check(snapshot, source),
            destination_url=url,
        )

    async def ImportRun(self, request: pb.ImportRunRequest, context: Context) -> pb.ImportRunResponse:
        """Begins to make a run of a bundle."""
        if_exists = copying_if_exists(request.if_exists)
        project = check_project(request.project_name, "project_name") if request.project_name else ""
        name = RunName(project, check_name(request.run_name, "run_name") if request.run_name else "")
        store = await asyncio.get_running_loop().run_in_executor(None, self._places.source, request.bundle_url)
        operation = await self._operations.start(
            "ImportRun",
            request.bundle_url,
            request_key(request, "ImportRun"),
            lambda uid, progress: self._imports.import_run(store, name, if_exists, uid, progress),
            lambda snapshot: None,
        )
        return pb.ImportRunResponse(operation=operation_to_pb(operation, None))

    async def AddInputTable(self, request: pb.AddInputTableRequest, context: Context) -> pb.AddInputTableResponse:
        """Adds an input table's URL to the inputs."""
        name = parse_run(request.run, "run")
        table = await self._tables.resolve(request.table, "table")
        run = await self._runs.add_input_table(name, self._tables.url_of(table), request_key(request, "AddInputTable"))
        return pb.AddInputTableResponse(run=self._full(run))

    async def AddInputValue(self, request: pb.AddInputValueRequest, context: Context) -> pb.AddInputValueResponse:
        """Appends an input."""
        value = values_from_pb(request.value, "value", self._limits)
        key = request_key(request, "AddInputValue")
        run = await self._runs.add_value(parse_run(request.run, "run"), INPUT, value, key)
        return pb.AddInputValueResponse(run=self._basic(run))

    async def AddOutputValue(self, request: pb.AddOutputValueRequest, context: Context) -> pb.AddOutputValueResponse:
        """Appends an output."""
        value = values_from_pb(request.value, "value", self._limits)
        key = request_key(request, "AddOutputValue")
        run = await self._runs.add_value(parse_run(request.run, "run"), OUTPUT, value, key)
        return pb.AddOutputValueResponse(run=self._basic(run))

    async def SetParameters(self, request: pb.SetParametersRequest, context: Context) -> pb.SetParametersResponse:
        """Merges parameters."""
        parameters = values_from_pb(request.parameters, "parameters", self._limits)
        key = request_key(request, "SetParameters")
        run = await self._runs.set_parameters(parse_run(request.run, "run"), parameters, key)
        return pb.SetParametersResponse(run=self._basic(run))

    async def UpdateMetrics(self, request: pb.UpdateMetricsRequest, context: Context) -> pb.UpdateMetricsResponse:
        """Registers metrics tables."""
        name = parse_run(request.run, "run")
        tables = [
            await self._metrics_by_url.find(name, info.url, f"metric_infos[{number}].url", info.stream_name)
            for number, info in enumerate(request.metric_infos)
        ]
        run = await self._runs.register_tables(name, tables, request_key(request, "UpdateMetrics"))
        return pb.UpdateMetricsResponse(run=self._full(run))

    async def AddMetricsTable(self, request: pb.AddMetricsTableRequest, context: Context) -> pb.AddMetricsTableResponse:
        """Registers one metrics table."""
        name = parse_run(request.run, "run")
        table = await self._metrics_by_url.find(name, request.metrics_table, "metrics_table", "")
        run = await self._runs.register_tables(name, [table], request_key(request, "AddMetricsTable"))
        return pb.AddMetricsTableResponse(run=self._full(run))

    async def FinishRun(self, request: pb.FinishRunRequest, context: Context) -> pb.FinishRunResponse:
        """Ends a run, or one writer's part in it."""
        ending = Ending(
            status_from_pb(request.status, "status") or RunStatus.COMPLETED,
            cause_from_pb(request.cause, "cause") if request.HasField("cause") else None,
            uid_text(parse_uid(request.writer_id, "writer_id")) if request.writer_id else "",
            request.dropped_rows,
        )
        run = await self._runs.finish(parse_run(request.name, "name"), ending, request_key(request, "FinishRun"))
        self._seal_if_ended(run)
        return pb.FinishRunResponse(run=self._full(run))

    async def ReportWriter(self, request: pb.ReportWriterRequest, context: Context) -> pb.ReportWriterResponse:
        """Takes a sign of a writer's life."""
        name, writer_id = parse_run(request.name, "name"), uid_text(parse_uid(request.writer_id, "writer_id"))
        await self._runs.report_writer(name, writer_id, request.dropped_rows, alive=request.alive)
        return pb.ReportWriterResponse(silence_seconds=self._silence_seconds)

    async def WatchRuns(self, request: pb.WatchRunsRequest, context: Context) -> AsyncIterator[pb.WatchRunsResponse]:
        """Sends changes until the caller stops."""
        query = replace(_watched(request.parent), full=request.view == _FULL)
        after = Revision(request.after_revision) if request.HasField("after_revision") else None
        async for changes in self._watch.watch(query, after):
            for message in self._events.messages(changes, full=query.full):
                yield message

    def _find(self, request: pb.GetRunRequest, *, full: bool) -> RunDetails:
        match request.WhichOneof("key"):
            case "name":
                name = parse_run(request.name, "name")
            case "url":
                name = run_name_of_url(request.url, self._layout.url, "url")
            case "uid":
                return self._runs.get_by_uid(parse_uid(request.uid, "uid"))
            case _:
                raise InvalidError("name", "no run is named; set name, url or uid")
        return self._runs.get(name, show_deleted=request.show_deleted, full=full)

    def _update(self, run: run_pb2.Run, mask: FieldMask | None) -> RunUpdate:
        paths = _paths(run, mask)
        return RunUpdate(
            description=run.description if "description" in paths else None,
            status=_status(run) if "status" in paths else None,
            cause=cause_from_pb(run.cause, "run.cause") if "cause" in paths and run.HasField("cause") else None,
            labels=dict(run.labels) if "labels" in paths else None,
            parameters=values_from_pb(run.parameters, "run.parameters", self._limits)
            if "parameters" in paths
            else None,
            name=check_name(run.run_name, "run.run_name") if "run_name" in paths else None,
        )

    def _full(self, run: Run) -> run_pb2.Run:
        return run_to_pb(self._runs.get_by_uid(run.uid), self._layout, full=True)

    def _basic(self, run: Run) -> run_pb2.Run:
        return run_to_pb(bare(run), self._layout, full=False)

    def _seal_if_ended(self, run: Run) -> None:
        if run.status.ended:
            self._sealer.request_run(run.uid)


def _paths(run: run_pb2.Run, mask: FieldMask | None) -> frozenset[str]:
    """The fields to change. Without a mask, those that can be changed and are not empty (AIP-134)."""
    if mask is None:
        given = {field.name for field, _ in run.ListFields()}
        return frozenset(given & set(_UPDATABLE))
    for path in mask.paths:
        if path not in (*_UPDATABLE, "*"):
            raise InvalidError(
                "update_mask",
                f"{path[:60]!r} is no field that can be changed; use {', '.join(_UPDATABLE)}, or '*' for all",
                reason=Reason.INVALID_FIELD_MASK,
            )
    return frozenset(_UPDATABLE if "*" in mask.paths else mask.paths)


def _status(run: run_pb2.Run) -> RunStatus:
    status = status_from_pb(run.status, "run.status")
    if status is None:
        raise InvalidError("run.status", "it is in the mask and not given; set a RunStatus")
    return status


def _watched(parent: str) -> WatchQuery:
    if "/runs/" in parent:
        name: RunName = parse_run(parent, "parent")
        return WatchQuery(name.project, name.run)
    return WatchQuery(parse_project(parent, "parent", allow_any=True))
