"""Every RPC that changes something, repeated with its request id: at once, side by side, and after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import metrics_pb2, run_pb2
from rund_pb.v1 import metrics_service_pb2 as ms
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import reduction_service_pb2 as rd
from rund_pb.v1 import run_service_pb2 as rs
from rund_pb.v1 import server_service_pb2 as ss
from rund_pb.v1 import table_service_pb2 as ts

from tests.process.raw_daemon import (
    RawDaemon,
    create_run,
    create_table,
    new_id,
    read,
    running,
    stream_bytes,
    values,
    wait,
    write_batches,
    write_table,
)

PROJECT = "projects/demo"
INPUT = f"{PROJECT}/datasets/d/tables/input"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    folder = tmp_path_factory.mktemp("repeats")
    (folder / "file.csv").write_text("a,b\n1,2\n")
    for daemon in running(folder / "root"):
        write_table(daemon, pa.record_batch({"label": [0, 1]}), table_id="input")
        daemon.rpc.RegisterTable(ts.RegisterTableRequest(url=csv(daemon)))  # as it is when a test before has done it
        yield daemon


def fresh(daemon: RawDaemon) -> str:
    """A run of one's own, with a table that has rows."""
    name = create_run(daemon).name
    create_table(daemon, name, "t")
    write_batches(daemon, f"{name}/metrics/t", pa.record_batch({"x": [1]}))
    return name


def bundled(daemon: RawDaemon) -> str:
    """URL of a bundle of one's own."""
    url = f"{daemon.root}.bundles/{new_id()}"
    request = rs.CopyRunRequest(name=fresh(daemon), destination_url=url, request_id=new_id())
    return wait(daemon, daemon.rpc.CopyRun(request).operation.name).bundle_url


def deleted(daemon: RawDaemon) -> str:
    name = fresh(daemon)
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name, request_id=new_id()))
    return name


def with_vectors(daemon: RawDaemon) -> str:
    name = create_run(daemon).name
    create_table(daemon, name, "v", foreign_table_url=INPUT)
    rows = pa.record_batch({"example_id": [0, 1], "e": pa.array([[0, 1], [1, 0]], pa.list_(pa.float32(), 2))})
    write_batches(daemon, f"{name}/metrics/v", rows, seal=True)
    return name


def reduced(daemon: RawDaemon) -> str:
    name = with_vectors(daemon)
    request = rd.ReduceEmbeddingsPerDatasetRequest(run=name)
    wait(daemon, daemon.rpc.ReduceEmbeddingsPerDataset(request).operation.name)
    return name


def csv(daemon: RawDaemon) -> str:
    return str(daemon.root.parent / "file.csv")


def put_table(daemon: RawDaemon, name: str, request_id: str) -> Any:
    opened = ts.WriteTableRequest.Open(parent=f"{PROJECT}/datasets/d", table_id=name[-8:], request_id=request_id)
    data = stream_bytes(pa.record_batch({"y": [1, 2, 3]}))
    return daemon.rpc.WriteTable(iter([ts.WriteTableRequest(open=opened), ts.WriteTableRequest(arrow_stream=data)]))


def fitted(daemon: RawDaemon) -> str:
    """A reducer."""
    reduced(daemon)
    listed = daemon.rpc.ListReducers(rd.ListReducersRequest(parent=PROJECT)).reducers
    return str(listed[0].name)


Request = Callable[[RawDaemon, str, str], Any]
"""Sends a request about a run (or with a name of its own) under a request id."""

RENAMED = FieldMask(paths=["run_name", "description", "labels"])
ROW = ms.LogScalarsRequest.Row(step=1, values=values({"loss": 0.5}))

REQUESTS: dict[str, tuple[Callable[[RawDaemon], str], Request]] = {
    "CreateRun": (
        lambda _: f"run-{new_id()}",
        lambda d, name, i: d.rpc.CreateRun(
            rs.CreateRunRequest(parent=PROJECT, run=run_pb2.Run(run_name=name), request_id=i)
        ),
    ),
    "UpdateRun": (
        fresh,
        lambda d, name, i: d.rpc.UpdateRun(
            rs.UpdateRunRequest(
                run=run_pb2.Run(name=name, run_name=f"new-{name[-9:]}", description="d", labels={"a": "b"}),
                update_mask=RENAMED,
                request_id=i,
            )
        ),
    ),
    "DeleteRun": (fresh, lambda d, name, i: d.rpc.DeleteRun(rs.DeleteRunRequest(name=name, request_id=i))),
    "UndeleteRun": (deleted, lambda d, name, i: d.rpc.UndeleteRun(rs.UndeleteRunRequest(name=name, request_id=i))),
    "CopyRun": (
        fresh,
        lambda d, name, i: wait(
            d,
            d.rpc.CopyRun(
                rs.CopyRunRequest(name=name, run_name=f"copy-of-{name[-20:].replace('/', '')}", request_id=i)
            ).operation.name,
        ),
    ),
    "ImportRun": (
        bundled,
        lambda d, name, i: wait(
            d, d.rpc.ImportRun(rs.ImportRunRequest(bundle_url=name, run_name=name[-20:], request_id=i)).operation.name
        ),
    ),
    "AddInputTable": (
        fresh,
        lambda d, name, i: d.rpc.AddInputTable(rs.AddInputTableRequest(run=name, table=INPUT, request_id=i)),
    ),
    "AddInputValue": (
        fresh,
        lambda d, name, i: d.rpc.AddInputValue(
            rs.AddInputValueRequest(run=name, value=values({"in": 1}), request_id=i)
        ),
    ),
    "AddOutputValue": (
        fresh,
        lambda d, name, i: d.rpc.AddOutputValue(
            rs.AddOutputValueRequest(run=name, value=values({"epoch": 1, "loss": 0.5}), request_id=i)
        ),
    ),
    "SetParameters": (
        fresh,
        lambda d, name, i: d.rpc.SetParameters(
            rs.SetParametersRequest(run=name, parameters=values({"lr": 0.1}), request_id=i)
        ),
    ),
    "UpdateMetrics": (
        fresh,
        lambda d, name, i: d.rpc.UpdateMetrics(
            rs.UpdateMetricsRequest(
                run=name, metric_infos=[metrics_pb2.MetricsTable(url=csv(d), stream_name="s")], request_id=i
            )
        ),
    ),
    "AddMetricsTable": (
        fresh,
        lambda d, name, i: d.rpc.AddMetricsTable(
            rs.AddMetricsTableRequest(run=name, metrics_table=csv(d), request_id=i)
        ),
    ),
    "FinishRun": (fresh, lambda d, name, i: d.rpc.FinishRun(rs.FinishRunRequest(name=name, request_id=i))),
    "CreateMetricsTable": (
        fresh,
        lambda d, name, i: d.rpc.CreateMetricsTable(ms.CreateMetricsTableRequest(parent=name, request_id=i)),
    ),
    "LogScalars": (
        fresh,
        lambda d, name, i: d.rpc.LogScalars(ms.LogScalarsRequest(run=name, rows=[ROW, ROW], request_id=i)),
    ),
    "WriteTable": (lambda _: new_id(), put_table),
    "RegisterTable": (
        lambda _: "",
        lambda d, _, i: d.rpc.RegisterTable(ts.RegisterTableRequest(url=csv(d), request_id=i)),
    ),
    "ReduceEmbeddingsPerDataset": (
        with_vectors,
        lambda d, name, i: wait(
            d,
            d.rpc.ReduceEmbeddingsPerDataset(
                rd.ReduceEmbeddingsPerDatasetRequest(run=name, request_id=i)
            ).operation.name,
        ),
    ),
    "DeleteReducer": (
        fitted,
        lambda d, name, i: d.rpc.DeleteReducer(rd.DeleteReducerRequest(name=name, request_id=i)),
    ),
    "UndeleteMetricsTable": (
        reduced,
        lambda d, name, i: d.rpc.UndeleteMetricsTable(
            ms.UndeleteMetricsTableRequest(name=f"{name}/metrics/v", request_id=i)
        ),
    ),
}


def settled(answer: Any) -> Any:
    """An answer without what sealing, which comes when it comes, changes."""
    run = getattr(answer, "run", answer)
    for table in getattr(run, "metrics", ()):
        table.ClearField("file_size")
    if hasattr(answer, "metrics_table"):
        answer.metrics_table.ClearField("file_size")
    return answer


def state_of(daemon: RawDaemon) -> dict[str, Any]:
    """All that a caller can see of the root."""
    listed = rs.ListRunsRequest(parent="projects/-", page_size=1000, show_deleted=True, view=run_pb2.RUN_VIEW_FULL)
    runs = [settled(run) for run in daemon.rpc.ListRuns(listed).runs]
    tables = daemon.rpc.ListTables(ts.ListTablesRequest(parent="projects/-/datasets/-", page_size=1000)).tables
    operations = daemon.rpc.ListOperations(ops.ListOperationsRequest(page_size=1000)).operations
    every = rd.ListReducersRequest(parent="projects/-", page_size=1000)
    return {
        "revision": daemon.rpc.GetServerInfo(ss.GetServerInfoRequest()).server_info.revision,
        "runs": {run.uid: run for run in runs},
        "tables": {table.uid: table for table in tables},
        "operations": {operation.name: operation.metadata.target for operation in operations},
        "reducers": {reducer.name for reducer in daemon.rpc.ListReducers(every).reducers},
        "rows": {
            table.name: read(daemon, table.name).to_pylist()
            for run in runs
            if not run.HasField("delete_time")
            for table in run.metrics
            if table.name
        },
    }


@pytest.mark.parametrize("rpc", REQUESTS)
def test_a_repeated_request_changes_nothing_and_gives_the_same(daemon: RawDaemon, rpc: str) -> None:
    prepare, request = REQUESTS[rpc]
    name, request_id = prepare(daemon), new_id()
    before = state_of(daemon)
    first = request(daemon, name, request_id)
    once = state_of(daemon)
    assert once != before or rpc == "RegisterTable"
    assert settled(request(daemon, name, request_id.upper())) == settled(first), "a UUID is the same in capitals"
    assert state_of(daemon) == once


@pytest.mark.parametrize("rpc", REQUESTS)
def test_the_same_request_from_many_sides_is_carried_out_once(daemon: RawDaemon, rpc: str) -> None:
    prepare, request = REQUESTS[rpc]
    name, request_id = prepare(daemon), new_id()
    before = state_of(daemon)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: request(daemon, name, request_id), range(6)))
    after = state_of(daemon)
    for kind in ("runs", "tables", "operations"):
        made = 1 if (rpc, kind) in MAKES else 0
        assert len(after[kind]) - len(before[kind]) == made
    assert len({str(settled(answer)) for answer in answers}) == 1
    request(daemon, name, request_id)
    assert state_of(daemon) == after


MAKES = {
    ("CreateRun", "runs"),
    ("CopyRun", "runs"),
    ("CopyRun", "operations"),
    ("ImportRun", "runs"),
    ("ImportRun", "operations"),
    ("WriteTable", "tables"),
    ("ReduceEmbeddingsPerDataset", "operations"),
}


def test_requests_are_known_again_after_the_daemon_was_killed(daemon: RawDaemon) -> None:
    sent = {rpc: (prepare(daemon), new_id(), request) for rpc, (prepare, request) in REQUESTS.items()}
    answers = {rpc: request(daemon, name, request_id) for rpc, (name, request_id, request) in sent.items()}
    before = state_of(daemon)
    daemon.restart()
    assert state_of(daemon) == before
    for rpc, (name, request_id, request) in sent.items():
        assert settled(request(daemon, name, request_id)) == settled(answers[rpc])
    assert state_of(daemon) == before


def test_a_file_that_is_gone_does_not_hinder_a_repeat(daemon: RawDaemon, tmp_path: Path) -> None:
    path = tmp_path / "short-lived.csv"
    path.write_text("a\n1\n")
    request = ts.RegisterTableRequest(url=str(path), request_id=new_id())
    first = daemon.rpc.RegisterTable(request).table
    path.unlink()
    assert daemon.rpc.RegisterTable(request).table == first
