"""A request that is sent again with its id changes nothing a second time; its id is no good for another request."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund._start import connect
from rund._transport import Transport, daemon_calls, metrics_calls, run_calls, table_calls
from rund._transport.run_calls import CopyTarget, NewRun, RunChange
from rund._types import Cause, CauseKind, MetricTableInfo, RunStatus, TableInfo
from rund_pb.v1 import metrics_service_pb2
from rund_pb.v1 import run_service_pb2 as runs_pb
from rund_pb.v1 import table_service_pb2 as tables_pb


@dataclass(frozen=True)
class Place:
    """A project with what the requests need, made anew for each test."""

    transport: Transport
    project: str
    run: str
    other: str
    trashed: str
    table: str
    file: Path

    def state(self) -> tuple[Any, ...]:
        """Everything of the project that a request could change."""
        query = run_calls.RunQuery(self.project, show_deleted=True)
        runs = [
            run_calls.get_run(self.transport, uid=info.uid, deleted=True)
            for info in run_calls.list_runs(self.transport, query)
        ]
        tables = [
            [table.info() for table in metrics_calls.list_metrics_tables(self.transport, run.resource_name)]
            for run in runs
            if not run.deleted
        ]
        inputs = list(table_calls.list_tables(self.transport, self.project))
        operations = [(job.name, job.done) for job in daemon_calls.list_operations(self.transport)]
        return runs, tables, inputs, operations


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def place(root: Path) -> Place:
    transport, project = connect(root).transport, uuid.uuid4().hex
    run, other, trashed = (
        run_calls.create_run(transport, NewRun(project, name))[0].resource_name for name in ("run", "other", "trashed")
    )
    run_calls.delete_run(transport, trashed)
    metrics_calls.create_metrics_table(transport, run, MetricTableInfo("", name="m"))
    new = TableInfo("", "table", project_name=project, dataset_name="d")
    table = table_calls.write_table(transport, new, ROWS).url
    file = root / f"{project}.csv"
    file.write_text("a\n1\n")
    return Place(transport, project, run, other, trashed, table, file)


ROWS = [pa.record_batch({"a": [1, 2]})]


def log_scalars(place: Place, request_id: str, step: int) -> int:
    request = metrics_service_pb2.LogScalarsRequest(run=place.run, request_id=request_id)
    request.rows.add(step=step)
    return place.transport.call(lambda stubs: stubs.metrics.LogScalars, request).row_count


def copied(place: Place, request_id: str, name: str) -> Any:
    operation = run_calls.copy_run(place.transport, place.run, CopyTarget(run_name=name), request_id)
    return daemon_calls.wait_operation(place.transport, operation.name)


def imported(place: Place, request_id: str, name: str) -> Any:
    bundle = str(place.file.parent.parent / f"{place.project}.bundle")
    if not Path(bundle).exists():
        operation = run_calls.copy_run(place.transport, place.run, CopyTarget(destination_url=bundle))
        daemon_calls.wait_operation(place.transport, operation.name)
    operation = run_calls.import_run(place.transport, bundle, CopyTarget(run_name=f"imported {name}"), request_id)
    return daemon_calls.wait_operation(place.transport, operation.name)


def written(place: Place, request_id: str, name: str) -> Any:
    new = TableInfo("", name, project_name=place.project, dataset_name="d")
    return table_calls.write_table(place.transport, new, ROWS, if_exists="rename", request_id=request_id)


def registered(place: Place, request_id: str, name: str) -> Any:
    new = TableInfo(str(place.file), name, project_name=place.project, dataset_name="d")
    return table_calls.register_table(place.transport, new, request_id)


def restored(place: Place, request_id: str, name: str) -> Any:
    resource_name = f"projects/{place.project}/runs/of {name}"
    try:
        run_calls.get_run(place.transport, name=resource_name)
    except rund.RunNotFoundError:
        replace_a_table(place, f"of {name}")
    return metrics_calls.undelete_metrics_table(place.transport, f"{resource_name}/metrics/v", request_id)


def replace_a_table(place: Place, name: str) -> None:
    run, _ = run_calls.create_run(place.transport, NewRun(place.project, name))
    writer = rund.Run.from_url(run.url)
    writer.add_metrics({"v": np.eye(2, dtype=np.float32)}, foreign_table_url=place.table, name="v")
    # What is sealed later would be a change, too.
    while not list(Path(run.url, "metrics", "v").glob("*.arrow")):
        time.sleep(0.01)
    writer.reduce_embeddings_per_dataset()


Call = Callable[[Place, str, str], Any]

# Each takes a text that makes it one request or another.
CALLS: dict[str, Call] = {
    "RunService.CreateRun": lambda p, i, x: run_calls.create_run(p.transport, NewRun(p.project, f"new {x}"), i)[0].uid,
    "RunService.UpdateRun": lambda p, i, x: run_calls.update_run(
        p.transport, p.run, RunChange(description=x), request_id=i
    ),
    "RunService.DeleteRun": lambda p, i, x: run_calls.delete_run(
        p.transport, p.run if x == "one" else p.other, request_id=i
    ),
    "RunService.UndeleteRun": lambda p, i, x: run_calls.undelete_run(
        p.transport, p.trashed if x == "one" else p.other, request_id=i
    ),
    "RunService.CopyRun": copied,
    "RunService.ImportRun": imported,
    "RunService.AddInputTable": lambda p, i, x: run_calls.add_input_table(
        p.transport, p.run, p.table if x == "one" else str(p.file), i
    ),
    "RunService.AddInputValue": lambda p, i, x: run_calls.add_input_value(p.transport, p.run, {"v": x}, i),
    "RunService.AddOutputValue": lambda p, i, x: run_calls.add_output_value(p.transport, p.run, {"v": x}, i),
    "RunService.SetParameters": lambda p, i, x: run_calls.set_parameters(p.transport, p.run, {"v": x}, i),
    "RunService.UpdateMetrics": lambda p, i, x: run_calls.update_metrics(p.transport, p.run, [("metrics/m", x)], i),
    "RunService.AddMetricsTable": lambda p, i, x: run_calls.add_metrics_table(
        p.transport, p.other, f"{p.run}/metrics/m" if x == "one" else "metrics/m", i
    ),
    "RunService.FinishRun": lambda p, i, x: run_calls.finish_run(
        p.transport, p.run, RunStatus.FAILED, Cause(CauseKind.REQUEST, x), timeout_s=10, request_id=i
    ),
    "MetricsService.CreateMetricsTable": lambda p, i, x: (
        metrics_calls.create_metrics_table(p.transport, p.run, MetricTableInfo("", stream_name=x), request_id=i).uid
    ),
    "MetricsService.UndeleteMetricsTable": lambda p, i, x: restored(p, i, x).uid,
    "MetricsService.LogScalars": lambda p, i, x: log_scalars(p, i, len(x)),
    "TableService.WriteTable": lambda p, i, x: written(p, i, x).uid,
    "TableService.RegisterTable": lambda p, i, x: registered(p, i, x).uid,
}


def test_every_method_with_a_request_id_is_here() -> None:
    files = (runs_pb, metrics_service_pb2, tables_pb)
    methods = {
        f"{service.name}.{method.name}"
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if "request_id" in method.input_type.fields_by_name
    }
    # Its id is in the first message of its stream.
    assert methods | {"TableService.WriteTable"} == set(CALLS)


@pytest.mark.parametrize("method", sorted(CALLS))
def test_a_repeated_request_changes_nothing(place: Place, method: str) -> None:
    call, request_id = CALLS[method], str(uuid.uuid4())
    before = place.state()
    first = call(place, request_id, "one")
    after = place.state()
    assert after != before
    for _ in range(2):
        assert call(place, request_id, "one") == first
        assert place.state() == after


@pytest.mark.parametrize("method", sorted(CALLS))
def test_an_id_is_no_good_for_another_request(place: Place, method: str) -> None:
    call, request_id = CALLS[method], str(uuid.uuid4())
    call(place, request_id, "one")
    with pytest.raises(rund.RequestIdReusedError) as caught:
        call(place, request_id, "another")
    assert isinstance(caught.value, ValueError)
    assert caught.value.reason == "REQUEST_ID_REUSED"


def test_the_client_sends_an_id_with_every_request(place: Place) -> None:
    request = runs_pb.AddInputValueRequest(run=place.run)
    place.transport.call(lambda stubs: stubs.runs.AddInputValue, request)
    assert uuid.UUID(request.request_id)
