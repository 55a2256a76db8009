"""RunService, one function an RPC: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import metrics_pb2, run_pb2
from rund_pb.v1 import run_service_pb2 as pb

from rund._job_types import OperationInfo
from rund._types import Cause, ProjectUsage, RunEvent, RunInfo, RunStatus, TrashEntry, WriterInfo

from . import convert
from .channel import Transport
from .values import map_to_pb


@dataclass(frozen=True, slots=True)
class NewRun:
    """What CreateRun is asked for; an empty ``run_name`` is generated."""

    project_name: str
    run_name: str = ""
    description: str = ""
    labels: Mapping[str, str] | None = None
    parameters: Mapping[str, object] | None = None
    if_exists: str = "rename"
    launch_id: str = ""
    writer: WriterInfo | None = None


@dataclass(frozen=True, slots=True)
class RunChange:
    """What UpdateRun is asked for; a field that is None is left alone."""

    run_name: str | None = None
    description: str | None = None
    status: RunStatus | None = None
    cause: Cause | None = None
    labels: Mapping[str, str] | None = None
    parameters: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class CopyTarget:
    """Where CopyRun puts the copy; names and root come before the URL."""

    run_name: str = ""
    project_name: str = ""
    root_url: str = ""
    destination_url: str = ""
    if_exists: str = "raise"


@dataclass(frozen=True, slots=True)
class RunQuery:
    """What ListRuns is asked for; an empty ``project_name`` means all projects."""

    project_name: str = ""
    filter: str = ""
    order_by: str = ""
    show_deleted: bool = False
    page_size: int = 0


def create_run(transport: Transport, new: NewRun, request_id: str = "") -> tuple[RunInfo, bool]:
    """Gives the run, and whether it was created rather than joined or reused."""
    request = pb.CreateRunRequest(
        parent=f"projects/{new.project_name}",
        run=run_pb2.Run(
            run_name=new.run_name,
            description=convert.text_to_pb(new.description, "description"),
            labels=convert.labels_to_pb(new.labels),
            parameters=map_to_pb(new.parameters, "parameters") if new.parameters is not None else None,
        ),
        if_exists=convert.if_exists_to_pb(new.if_exists),
        request_id=request_id,
        launch_id=new.launch_id,
        writer=convert.writer_to_pb(new.writer) if new.writer is not None else None,
    )
    answer = transport.call(lambda stubs: stubs.runs.CreateRun, request)
    return convert.run_from_pb(answer.run), answer.created


def get_run(  # its keys
    transport: Transport, *, name: str = "", url: str = "", uid: str = "", deleted: bool = False, full: bool = True
) -> RunInfo:
    """Gives a run by exactly one of its keys; with ``deleted``, from trash too.

    Without ``full``, inputs, outputs and metrics tables are left out: a run may have thousands of them.
    """
    view = run_pb2.RUN_VIEW_FULL if full else run_pb2.RUN_VIEW_BASIC
    request = pb.GetRunRequest(show_deleted=deleted, view=view)
    if uid:
        request.uid = uid
    elif url:
        request.url = url
    else:
        request.name = name
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.GetRun, request).run)


def make_bulk_data_folder(transport: Transport, name: str) -> str:
    """Gives the URL of the run's folder for large side files, which exists then."""
    request = pb.GetRunRequest(name=name, view=run_pb2.RUN_VIEW_BASIC, make_bulk_data_folder=True)
    return transport.call(lambda stubs: stubs.runs.GetRun, request).run.bulk_data_url


def list_runs(transport: Transport, query: RunQuery) -> Iterator[RunInfo]:
    """Gives runs page by page, without inputs, outputs and metrics."""
    request = pb.ListRunsRequest(
        parent=f"projects/{query.project_name or '-'}",
        page_size=query.page_size,
        filter=query.filter,
        order_by=query.order_by,
        show_deleted=query.show_deleted,
    )
    while True:
        answer = transport.call(lambda stubs: stubs.runs.ListRuns, request)
        yield from map(convert.run_from_pb, answer.runs)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def update_run(transport: Transport, name: str, change: RunChange, etag: str = "", request_id: str = "") -> RunInfo:
    """Changes what is given; with an etag only if it is still the run's."""
    message = run_pb2.Run(
        name=name,
        etag=etag,
        run_name=change.run_name or "",
        description=convert.text_to_pb(change.description, "description"),
        status=convert.status_to_pb(change.status or RunStatus.UNSPECIFIED),
        cause=convert.cause_to_pb(change.cause),
        labels=convert.labels_to_pb(change.labels),
        parameters=map_to_pb(change.parameters, "parameters") if change.parameters is not None else None,
    )
    paths = [field for field in RunChange.__slots__ if getattr(change, field) is not None]
    request = pb.UpdateRunRequest(run=message, update_mask=FieldMask(paths=paths), request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.UpdateRun, request).run)


def delete_run(transport: Transport, name: str, etag: str = "", request_id: str = "") -> RunInfo:
    """Moves a run to trash."""
    request = pb.DeleteRunRequest(name=name, etag=etag, request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.DeleteRun, request).run)


def undelete_run(transport: Transport, name: str, uid: str = "", request_id: str = "") -> RunInfo:
    """Takes a run out of trash."""
    request = pb.UndeleteRunRequest(name=name, uid=uid, request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.UndeleteRun, request).run)


def collect_trash(
    transport: Transport, parent: str, min_age_s: float | None, *, validate_only: bool
) -> list[TrashEntry]:
    """Removes for good what is in trash, or says what would be."""
    request = pb.CollectTrashRequest(parent=parent, validate_only=validate_only)
    if min_age_s is not None:
        request.min_age.FromMicroseconds(round(min_age_s * 1_000_000))
    answer = transport.call(lambda stubs: stubs.runs.CollectTrash, request)
    return [
        TrashEntry(
            entry.path,
            entry.size_bytes,
            convert.run_from_pb(entry.run) if entry.HasField("run") else None,
            entry.metrics_table,
        )
        for entry in answer.entries
    ]


def get_usage(transport: Transport, parent: str) -> list[ProjectUsage]:
    """Says what projects hold, and how much they may."""
    answer = transport.call(lambda stubs: stubs.runs.GetUsage, pb.GetUsageRequest(parent=parent))
    return [
        ProjectUsage(
            entry.project_name,
            entry.run_count,
            entry.trashed_run_count,
            entry.held_bytes,
            entry.trashed_bytes,
            entry.quota_bytes,
        )
        for entry in answer.projects
    ]


def copy_run(transport: Transport, name: str, target: CopyTarget, request_id: str = "") -> OperationInfo:
    """Begins a deep copy."""
    request = pb.CopyRunRequest(
        name=name,
        run_name=target.run_name,
        project_name=target.project_name,
        root_url=target.root_url,
        destination_url=target.destination_url,
        if_exists=convert.if_exists_to_pb(target.if_exists),
        request_id=request_id,
    )
    return convert.operation_from_pb(transport.call(lambda stubs: stubs.runs.CopyRun, request).operation)


def import_run(transport: Transport, bundle_url: str, target: CopyTarget, request_id: str = "") -> OperationInfo:
    """Begins to make a run of a bundle."""
    request = pb.ImportRunRequest(
        bundle_url=bundle_url,
        run_name=target.run_name,
        project_name=target.project_name,
        if_exists=convert.if_exists_to_pb(target.if_exists),
        request_id=request_id,
    )
    return convert.operation_from_pb(transport.call(lambda stubs: stubs.runs.ImportRun, request).operation)


def add_input_table(transport: Transport, run: str, table: str, request_id: str = "") -> RunInfo:
    """Adds an input table, by URL or resource name."""
    request = pb.AddInputTableRequest(run=run, table=table, request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.AddInputTable, request).run)


def add_input_value(transport: Transport, run: str, value: Mapping[str, object], request_id: str = "") -> None:
    """Appends a value to the inputs."""
    message = map_to_pb(value, "input_value")
    request = pb.AddInputValueRequest(run=run, value=message, request_id=request_id)
    transport.call(lambda stubs: stubs.runs.AddInputValue, request)


def add_output_value(transport: Transport, run: str, value: Mapping[str, object], request_id: str = "") -> None:
    """Appends a value to the outputs."""
    message = map_to_pb(value, "output_value")
    request = pb.AddOutputValueRequest(run=run, value=message, request_id=request_id)
    transport.call(lambda stubs: stubs.runs.AddOutputValue, request)


def set_parameters(transport: Transport, run: str, parameters: Mapping[str, object], request_id: str = "") -> None:
    """Merges parameters by top-level key."""
    message = map_to_pb(parameters, "parameters")
    request = pb.SetParametersRequest(run=run, parameters=message, request_id=request_id)
    transport.call(lambda stubs: stubs.runs.SetParameters, request)


def update_metrics(transport: Transport, run: str, tables: Iterable[tuple[str, str]], request_id: str = "") -> RunInfo:
    """Registers metrics tables, each given by URL and stream name."""
    infos = [metrics_pb2.MetricsTable(url=url, stream_name=stream_name) for url, stream_name in tables]
    request = pb.UpdateMetricsRequest(run=run, metric_infos=infos, request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.UpdateMetrics, request).run)


def add_metrics_table(transport: Transport, run: str, metrics_table: str, request_id: str = "") -> RunInfo:
    """Registers one existing metrics table, by URL or resource name."""
    request = pb.AddMetricsTableRequest(run=run, metrics_table=metrics_table, request_id=request_id)
    return convert.run_from_pb(transport.call(lambda stubs: stubs.runs.AddMetricsTable, request).run)


def finish_run(
    transport: Transport,
    name: str,
    status: RunStatus,
    cause: Cause | None = None,
    writer_id: str = "",
    *,
    timeout_s: float,
    dropped_rows: int = 0,
    request_id: str = "",
) -> RunInfo:
    """Says that a writer has finished, or without one the whole run."""
    request = pb.FinishRunRequest(
        name=name,
        status=convert.status_to_pb(status),
        cause=convert.cause_to_pb(cause),
        writer_id=writer_id,
        dropped_rows=dropped_rows,
        request_id=request_id,
    )
    answer = transport.call(lambda stubs: stubs.runs.FinishRun, request, timeout_s=timeout_s)
    return convert.run_from_pb(answer.run)


def report_dropped_rows(transport: Transport, name: str, writer_id: str, dropped_rows: int) -> None:
    """Says for a writer whose journal was taken over how many rows it had to drop."""
    request = pb.ReportWriterRequest(name=name, writer_id=writer_id, dropped_rows=dropped_rows)
    transport.call(lambda stubs: stubs.runs.ReportWriter, request)


def watch_runs(transport: Transport, parent: str, after_revision: int | None) -> Iterator[RunEvent]:
    """Gives changes until the caller stops; made once, see ``Transport.stream``."""
    request = pb.WatchRunsRequest(parent=parent, after_revision=after_revision)
    for answer in transport.stream(lambda stubs: stubs.runs.WatchRuns, request):
        for event in answer.events:
            name = pb.RunEvent.Type.Name(event.type)
            yield convert.event_from_pb(name, event.run if event.HasField("run") else None, event.revision)
