"""Every reason that an RPC's comment lists is provoked here, and nothing is answered that a comment does not list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp
from rund_pb.v1 import metrics_pb2, run_pb2, value_pb2
from rund_pb.v1 import metrics_service_pb2 as ms
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import reduction_service_pb2 as reductions
from rund_pb.v1 import run_service_pb2 as rs
from rund_pb.v1 import table_service_pb2 as ts

from tests.process import contract
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    Write,
    arrow_stream,
    create_run,
    create_table,
    new_id,
    opening,
    running,
    schema_bytes,
    stream_bytes,
    values,
    write_batches,
    write_table,
)

RUN, GONE = "projects/demo/runs/run", "projects/demo/runs/gone"
NOBODY, BAD = "projects/demo/runs/nobody", "projects/demo/runs/.."
TABLE, SEALED = f"{RUN}/metrics/table", f"{RUN}/metrics/sealed"
INPUT = "projects/demo/datasets/d/tables/input"
UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
TWICE = value_pb2.MapValue(entries=[value_pb2.MapEntry(key="k")] * 2)


@dataclass
class World:
    """A daemon with one of everything."""

    daemon: RawDaemon
    used_id: str
    trashed_uid: str
    outside: Path

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        return getattr(self.daemon.rpc, rpc)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    (folder / "text.txt").write_text("no table")
    with pa.ipc.new_file(folder / "union.arrow", pa.schema({"u": UNION.type})):
        pass
    for daemon in running(folder / "root"):
        create_run(daemon, "run")
        trashed = create_run(daemon, "gone")
        daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=GONE, request_id=new_id()))
        create_run(daemon, "gone")
        create_table(daemon, RUN, "table")
        create_table(daemon, RUN, "sealed")
        write_batches(daemon, TABLE, pa.record_batch({"x": [1, 2, 3]}))
        write_batches(daemon, SEALED, pa.record_batch({"x": [1]}), seal=True)
        write_table(daemon, pa.record_batch({"label": [0, 1, 2]}), table_id="input")
        create_table(daemon, RUN, "foreign", foreign_table_url=INPUT)
        used = new_id()
        daemon.rpc.AddInputValue(rs.AddInputValueRequest(run=RUN, request_id=used))
        yield World(daemon, used, trashed.uid, folder)


def send(w: World, *messages: Write, table: str = TABLE, **fields: Any) -> list[Any]:
    return list(w.WriteMetrics(iter([opening(table, new_id(), **fields), *messages])))


def batch(sequence: int = 1, **payload: Any) -> Write:
    return Write(batch=Write.Batch(sequence=sequence, **payload))


def columns(*named: tuple[str, list[int]]) -> Write:
    made = [metrics_pb2.ColumnBatch.Column(name=n, ints=metrics_pb2.ColumnBatch.Ints(values=v)) for n, v in named]
    return batch(columns=metrics_pb2.ColumnBatch(columns=made))


def rows(*batches: pa.RecordBatch) -> Write:
    return arrow_stream(1, *batches)


def taken_over(w: World) -> None:
    first, second = (w.WriteMetrics(iter_forever(opening(TABLE, "taken"))) for _ in range(2))
    next(first)
    next(second)
    second.close()
    list(first)


def iter_forever(*messages: Write) -> Iterator[Write]:
    """A caller that stays: its side of the stream ends with the call."""
    yield from messages
    import threading

    threading.Event().wait(20)


def log(w: World, run: str = RUN, **fields: Any) -> Any:
    fields.setdefault("rows", [ms.LogScalarsRequest.Row(step=1)])
    return w.LogScalars(ms.LogScalarsRequest(run=run, **fields))


def log_into_sealed(w: World) -> None:
    create_run(w.daemon, "ended")
    ended = "projects/demo/runs/ended"
    create_table(w.daemon, ended, "history")
    write_batches(w.daemon, f"{ended}/metrics/history", seal=True)
    log(w, ended)


def read(w: World, table: str = TABLE, **fields: Any) -> list[Any]:
    return list(w.ReadMetrics(ms.ReadMetricsRequest(metrics_table=table, **fields)))


def make_table(w: World, parent: str = RUN, table_id: str = "", request_id: str = "", **fields: Any) -> Any:
    described = metrics_pb2.MetricsTable(**fields)
    return w.CreateMetricsTable(
        ms.CreateMetricsTableRequest(parent=parent, table_id=table_id, metrics_table=described, request_id=request_id)
    )


def put_table(w: World, *batches: pa.RecordBatch, data: bytes = b"", **fields: Any) -> Any:
    fields.setdefault("parent", "projects/demo/datasets/d")
    messages = [ts.WriteTableRequest(open=ts.WriteTableRequest.Open(**fields))]
    messages += [ts.WriteTableRequest(arrow_stream=stream_bytes(part)) for part in batches]
    messages += [ts.WriteTableRequest(arrow_stream=data)] if data else []
    return w.WriteTable(iter(messages))


def put_twice(w: World, first: pa.RecordBatch, second: pa.RecordBatch, **fields: Any) -> None:
    put_table(w, first, **fields)
    put_table(w, second, **fields)


def watch(w: World, **fields: Any) -> Any:
    return next(w.WatchRuns(rs.WatchRunsRequest(**fields)))


def column(name: str) -> metrics_pb2.ColumnSchema:
    return metrics_pb2.ColumnSchema(name=name)


ONE = pa.record_batch({"x": [1]})
OTHER = pa.record_batch({"x": [2]})

Case = tuple[str, str, Callable[[World], Any]]
"""The reason, the field that is to blame, and what provokes it."""

CASES: dict[str, list[Case]] = {
    "CreateRun": [
        ("INVALID_NAME", "parent", lambda w: w.CreateRun(rs.CreateRunRequest(parent="demo"))),
        ("INVALID_NAME", "run.run_name", lambda w: create_run(w.daemon, "../up")),
        ("INVALID_FIELD", "run.labels", lambda w: create_run(w.daemon, run=run_pb2.Run(labels={"": "x"}))),
        ("INVALID_FIELD", "if_exists", lambda w: create_run(w.daemon, if_exists=99)),
        ("INVALID_FIELD", "run.status", lambda w: create_run(w.daemon, run=run_pb2.Run(status=99))),
        ("INVALID_FIELD", "writer.writer_id", lambda w: create_run(w.daemon, writer=run_pb2.Writer(writer_id="me"))),
        ("INVALID_VALUE", "run.parameters.k", lambda w: create_run(w.daemon, run=run_pb2.Run(parameters=TWICE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: create_run(w.daemon, "other", request_id=w.used_id)),
        ("RUN_EXISTS", "run.run_name", lambda w: create_run(w.daemon, "run", if_exists=run_pb2.IF_EXISTS_RAISE)),
    ],
    "GetRun": [
        ("INVALID_NAME", "name", lambda w: w.GetRun(rs.GetRunRequest(name=BAD))),
        ("INVALID_URL", "url", lambda w: w.GetRun(rs.GetRunRequest(url="/elsewhere/p/runs/r"))),
        ("INVALID_FIELD", "name", lambda w: w.GetRun(rs.GetRunRequest())),
        ("INVALID_FIELD", "uid", lambda w: w.GetRun(rs.GetRunRequest(uid="me"))),
        ("RUN_NOT_FOUND", "", lambda w: w.GetRun(rs.GetRunRequest(name=NOBODY))),
        ("RUN_NOT_FOUND", "", lambda w: w.GetRun(rs.GetRunRequest(uid=new_id()))),
    ],
    "ListRuns": [
        ("INVALID_NAME", "parent", lambda w: w.ListRuns(rs.ListRunsRequest(parent="projects"))),
        ("INVALID_FILTER", "filter", lambda w: w.ListRuns(rs.ListRunsRequest(parent="projects/-", filter="a =="))),
        ("INVALID_ORDER_BY", "order_by", lambda w: w.ListRuns(rs.ListRunsRequest(parent="projects/-", order_by="x y"))),
        ("INVALID_PAGE_TOKEN", "page_token", lambda w: w.ListRuns(rs.ListRunsRequest(parent="projects/-", page_token="x"))),
        ("INVALID_FIELD", "page_size", lambda w: w.ListRuns(rs.ListRunsRequest(parent="projects/-", page_size=-1))),
    ],
    "UpdateRun": [
        ("INVALID_NAME", "run.name", lambda w: w.UpdateRun(rs.UpdateRunRequest(run=run_pb2.Run(name=BAD)))),
        ("INVALID_NAME", "run.run_name", lambda w: update(w, "run_name", run_name=".")),
        ("INVALID_FIELD_MASK", "update_mask", lambda w: update(w, "uid")),
        ("INVALID_FIELD", "run.status", lambda w: update(w, "status")),
        ("INVALID_FIELD", "run.labels", lambda w: update(w, "labels", labels={"k": "v" * 256})),
        ("INVALID_FIELD", "run.cause.last_heartbeat", lambda w: update(w, "cause", cause=FAR_CAUSE)),
        ("INVALID_VALUE", "run.parameters.k", lambda w: update(w, "parameters", parameters=TWICE)),
        ("REQUEST_ID_REUSED", "request_id", lambda w: update(w, "description", request_id=w.used_id)),
        ("RUN_NOT_FOUND", "", lambda w: w.UpdateRun(rs.UpdateRunRequest(run=run_pb2.Run(name=NOBODY)))),
        ("RUN_EXISTS", "run.run_name", lambda w: update(w, "run_name", run_name="gone")),
        ("ETAG_MISMATCH", "run.etag", lambda w: update(w, "description", etag="0")),
    ],
    "DeleteRun": [
        ("INVALID_NAME", "name", lambda w: w.DeleteRun(rs.DeleteRunRequest(name=BAD))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.DeleteRun(rs.DeleteRunRequest(name=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.DeleteRun(rs.DeleteRunRequest(name=NOBODY))),
        ("ETAG_MISMATCH", "run.etag", lambda w: w.DeleteRun(rs.DeleteRunRequest(name=RUN, etag="0"))),
    ],
    "UndeleteRun": [
        ("INVALID_NAME", "name", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=BAD))),
        ("INVALID_FIELD", "uid", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=GONE, uid="me"))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=GONE, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=NOBODY))),
        ("RUN_NOT_FOUND", "", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=RUN, uid=w.trashed_uid))),
        ("RUN_EXISTS", "name", lambda w: w.UndeleteRun(rs.UndeleteRunRequest(name=GONE))),
    ],
    "CopyRun": [
        ("INVALID_NAME", "name", lambda w: w.CopyRun(rs.CopyRunRequest(name=BAD))),
        ("INVALID_NAME", "run_name", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, run_name="a/b"))),
        ("INVALID_NAME", "project_name", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, project_name="trash"))),
        ("INVALID_URL", "root_url", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, root_url="relative"))),
        ("INVALID_FIELD", "if_exists", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, if_exists=run_pb2.IF_EXISTS_REUSE))),
        ("INVALID_FIELD", "run_name", lambda w: w.CopyRun(
            rs.CopyRunRequest(name=RUN, run_name="run", if_exists=run_pb2.IF_EXISTS_OVERWRITE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.CopyRun(rs.CopyRunRequest(name=NOBODY))),
        ("RUN_EXISTS", "run_name", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, run_name="gone"))),
        ("NOT_IMPLEMENTED", "", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, destination_url="s3://bucket/run"))),
        ("NOT_IMPLEMENTED", "", lambda w: w.CopyRun(rs.CopyRunRequest(name=RUN, root_url="/elsewhere"))),
    ],
    "AddInputTable": [
        ("INVALID_NAME", "run", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=BAD, table=INPUT))),
        ("INVALID_URL", "table", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=RUN, table="relative.csv"))),
        ("INVALID_URL", "table", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=RUN, table=f"{w.outside}/text.txt"))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.AddInputTable(
            rs.AddInputTableRequest(run=RUN, table=INPUT, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=NOBODY, table=INPUT))),
        ("TABLE_NOT_FOUND", "", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=RUN, table=INPUT + "x"))),
        ("TABLE_NOT_FOUND", "table", lambda w: w.AddInputTable(rs.AddInputTableRequest(run=RUN, table="/nowhere.csv"))),
    ],
    "AddInputValue": [
        ("INVALID_NAME", "run", lambda w: w.AddInputValue(rs.AddInputValueRequest(run=BAD))),
        ("INVALID_VALUE", "value.k", lambda w: w.AddInputValue(rs.AddInputValueRequest(run=RUN, value=TWICE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.AddInputValue(
            rs.AddInputValueRequest(run=RUN, value=values({"a": 1}), request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.AddInputValue(rs.AddInputValueRequest(run=NOBODY))),
    ],
    "AddOutputValue": [
        ("INVALID_NAME", "run", lambda w: w.AddOutputValue(rs.AddOutputValueRequest(run=BAD))),
        ("INVALID_VALUE", "value.k", lambda w: w.AddOutputValue(rs.AddOutputValueRequest(run=RUN, value=TWICE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.AddOutputValue(rs.AddOutputValueRequest(run=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.AddOutputValue(rs.AddOutputValueRequest(run=NOBODY))),
    ],
    "SetParameters": [
        ("INVALID_NAME", "run", lambda w: w.SetParameters(rs.SetParametersRequest(run=BAD))),
        ("INVALID_VALUE", "parameters.k", lambda w: w.SetParameters(rs.SetParametersRequest(run=RUN, parameters=TWICE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.SetParameters(rs.SetParametersRequest(run=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.SetParameters(rs.SetParametersRequest(run=NOBODY))),
    ],
    "UpdateMetrics": [
        ("INVALID_NAME", "run", lambda w: w.UpdateMetrics(rs.UpdateMetricsRequest(run=BAD))),
        ("INVALID_NAME", "metric_infos[0].url", lambda w: register(w, "metrics/..")),
        ("INVALID_URL", "metric_infos[0].url", lambda w: register(w, "relative")),
        ("INVALID_URL", "metric_infos[0].url", lambda w: register(w, f"{w.outside}/text.txt")),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.UpdateMetrics(rs.UpdateMetricsRequest(run=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.UpdateMetrics(rs.UpdateMetricsRequest(run=NOBODY))),
        ("METRICS_TABLE_NOT_FOUND", "", lambda w: register(w, "metrics/nobody")),
        ("METRICS_TABLE_NOT_FOUND", "metric_infos[0].url", lambda w: register(w, "/nowhere.parquet")),
    ],
    "AddMetricsTable": [
        ("INVALID_NAME", "run", lambda w: w.AddMetricsTable(rs.AddMetricsTableRequest(run=BAD, metrics_table=TABLE))),
        ("INVALID_URL", "metrics_table", lambda w: w.AddMetricsTable(rs.AddMetricsTableRequest(run=RUN, metrics_table="x"))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.AddMetricsTable(
            rs.AddMetricsTableRequest(run=RUN, metrics_table=TABLE, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.AddMetricsTable(rs.AddMetricsTableRequest(run=NOBODY, metrics_table=TABLE))),
        ("METRICS_TABLE_NOT_FOUND", "", lambda w: w.AddMetricsTable(
            rs.AddMetricsTableRequest(run=RUN, metrics_table=f"{GONE}/metrics/nobody"))),
    ],
    "FinishRun": [
        ("INVALID_NAME", "name", lambda w: w.FinishRun(rs.FinishRunRequest(name=BAD))),
        ("INVALID_FIELD", "status", lambda w: w.FinishRun(rs.FinishRunRequest(name=RUN, status=run_pb2.RUN_STATUS_RUNNING))),
        ("INVALID_FIELD", "writer_id", lambda w: w.FinishRun(rs.FinishRunRequest(name=RUN, writer_id="me"))),
        ("INVALID_FIELD", "cause.last_heartbeat", lambda w: w.FinishRun(rs.FinishRunRequest(name=RUN, cause=FAR_CAUSE))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.FinishRun(rs.FinishRunRequest(name=RUN, request_id=w.used_id))),
        ("RUN_NOT_FOUND", "", lambda w: w.FinishRun(rs.FinishRunRequest(name=NOBODY))),
    ],
    "WatchRuns": [
        ("INVALID_NAME", "parent", lambda w: watch(w, parent="demo")),
        ("INVALID_FIELD", "after_revision", lambda w: watch(w, parent="projects/-", after_revision=-1)),
        ("INVALID_FIELD", "after_revision", lambda w: watch(w, parent="projects/-", after_revision=2**60)),
    ],
    "CreateMetricsTable": [
        ("INVALID_NAME", "parent", lambda w: make_table(w, BAD)),
        ("INVALID_NAME", "table_id", lambda w: make_table(w, table_id="a/b")),
        ("INVALID_URL", "metrics_table.foreign_table_url", lambda w: make_table(w, foreign_table_url="ftp://x/y")),
        ("INVALID_URL", "metrics_table.foreign_table_url", lambda w: make_table(
            w, foreign_table_url=f"{w.outside}/text.txt")),
        ("INVALID_COLUMN", "metrics_table.columns", lambda w: make_table(w, columns=[column("")])),
        ("INVALID_COLUMN", "metrics_table.columns", lambda w: make_table(w, columns=[column("a"), column("a")])),
        ("INVALID_COLUMN", "metrics_table.arrow_schema", lambda w: make_table(
            w, arrow_schema=schema_bytes(pa.schema({"u": UNION.type})))),
        ("INVALID_VALUE", "metrics_table.constants.k", lambda w: make_table(w, constants=TWICE)),
        ("INVALID_ARROW", "metrics_table.arrow_schema", lambda w: make_table(w, arrow_schema=b"x")),
        ("REQUEST_ID_REUSED", "request_id", lambda w: make_table(w, request_id=w.used_id)),
        ("RUN_NOT_FOUND", "", lambda w: make_table(w, NOBODY)),
        ("TABLE_NOT_FOUND", "", lambda w: make_table(w, foreign_table_url=INPUT + "x")),
        ("TABLE_NOT_FOUND", "metrics_table.foreign_table_url", lambda w: make_table(w, foreign_table_url="/nowhere.csv")),
        ("METRICS_TABLE_EXISTS", "table_id", lambda w: make_table(w, table_id="table")),
    ],
    "WriteMetrics": [
        ("INVALID_NAME", "open.metrics_table", lambda w: send(w, table=RUN)),
        ("INVALID_FIELD", "open", lambda w: list(w.WriteMetrics(iter([batch()])))),
        ("INVALID_FIELD", "open", lambda w: list(w.WriteMetrics(iter([])))),
        ("INVALID_FIELD", "open", lambda w: send(w, opening(TABLE))),
        ("INVALID_FIELD", "open.stream_id", lambda w: list(w.WriteMetrics(iter([opening(TABLE, "x" * 65)])))),
        ("INVALID_FIELD", "open.stream_id", lambda w: list(w.WriteMetrics(iter([opening(TABLE, "")])))),
        ("INVALID_FIELD", "message", lambda w: send(w, Write())),
        ("INVALID_FIELD", "batch", lambda w: send(w, batch())),
        ("INVALID_FIELD", "batch.sequence", lambda w: send(w, batch(0))),
        ("INVALID_FIELD", "batch.arrow_batch", lambda w: send(w, batch(arrow_batch=b"x"))),
        ("INVALID_ARROW", "batch.arrow_stream", lambda w: send(w, batch(arrow_stream=b"x"))),
        ("INVALID_ARROW", "open.arrow_schema", lambda w: list(w.WriteMetrics(iter([Write(open=Write.Open(
            metrics_table=TABLE, stream_id="s", arrow_schema=b"x"))])))),
        ("INVALID_ARROW", "schema.arrow_schema", lambda w: send(w, Write(schema=Write.Schema(arrow_schema=b"x")))),
        ("INVALID_COLUMN", "batch.arrow_stream", lambda w: send(w, rows(pa.record_batch({"u": UNION})))),
        ("INVALID_COLUMN", "batch.arrow_stream", lambda w: send(w, rows(pa.record_batch([[1], [2]], ["x", "x"])))),
        ("INVALID_COLUMN", "batch.columns", lambda w: send(w, columns(("", [1])))),
        ("INVALID_COLUMN", "batch.columns", lambda w: send(w, columns(("a", [1]), ("a", [1])))),
        ("COLUMN_LENGTH_MISMATCH", "batch.columns", lambda w: send(w, columns(("a", [1]), ("b", [1, 2])))),
        ("ROW_COUNT_MISMATCH", "batch.arrow_stream", lambda w: send(w, rows(ONE), table=f"{RUN}/metrics/foreign")),
        ("EXAMPLE_ID_OUT_OF_RANGE", "batch.arrow_stream", lambda w: send(
            w, rows(pa.record_batch({"example_id": [3]})), table=f"{RUN}/metrics/foreign")),
        ("EXAMPLE_ID_OUT_OF_RANGE", "batch.columns", lambda w: send(
            w, columns(("example_id", [-1])), table=f"{RUN}/metrics/foreign")),
        ("RUN_NOT_FOUND", "", lambda w: send(w, table=f"{NOBODY}/metrics/t")),
        ("METRICS_TABLE_NOT_FOUND", "", lambda w: send(w, table=f"{RUN}/metrics/nobody")),
        ("TABLE_SEALED", "metrics_table", lambda w: send(w, rows(ONE), table=SEALED)),
        ("SEQUENCE_GAP", "batch.sequence", lambda w: send(w, arrow_stream(2, ONE))),
        ("STREAM_TAKEN_OVER", "", taken_over),
    ],
    "LogScalars": [
        ("INVALID_NAME", "run", lambda w: log(w, BAD)),
        ("INVALID_FIELD", "rows", lambda w: log(w, rows=[])),
        ("INVALID_FIELD", "rows[0].time", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(time=Timestamp(seconds=2**62))])),
        ("INVALID_FIELD", "rows[0].time", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(time=Timestamp(nanos=-1))])),
        ("INVALID_COLUMN", "rows", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(values=values({"step": 1}))])),
        ("INVALID_COLUMN", "rows", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(values=values({"k" * 256: 1}))])),
        ("INVALID_VALUE", "rows", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(values=values({"k": [1]}))])),
        ("INVALID_VALUE", "rows[0].values.k", lambda w: log(w, rows=[ms.LogScalarsRequest.Row(values=TWICE)])),
        ("REQUEST_ID_REUSED", "request_id", lambda w: log(w, request_id=w.used_id)),
        ("RUN_NOT_FOUND", "", lambda w: log(w, NOBODY)),
        ("TABLE_SEALED", "metrics_table", log_into_sealed),
    ],
    "ReadMetrics": [
        ("INVALID_NAME", "metrics_table", lambda w: read(w, RUN)),
        ("INVALID_FIELD", "start_row", lambda w: read(w, start_row=-1)),
        ("INVALID_COLUMN", "columns", lambda w: read(w, columns=ms.ColumnSelection(names=["y"]))),
        ("INVALID_FILTER", "filter", lambda w: read(w, filter="y = 1")),
        ("RUN_NOT_FOUND", "", lambda w: read(w, f"{NOBODY}/metrics/t")),
        ("METRICS_TABLE_NOT_FOUND", "", lambda w: read(w, f"{RUN}/metrics/nobody")),
    ],
    "ListMetricsTables": [
        ("INVALID_NAME", "parent", lambda w: w.ListMetricsTables(ms.ListMetricsTablesRequest(parent=BAD))),
        ("INVALID_FIELD", "page_size", lambda w: w.ListMetricsTables(ms.ListMetricsTablesRequest(parent=RUN, page_size=-1))),
        ("INVALID_PAGE_TOKEN", "page_token", lambda w: w.ListMetricsTables(
            ms.ListMetricsTablesRequest(parent=RUN, page_token="x"))),
        ("RUN_NOT_FOUND", "", lambda w: w.ListMetricsTables(ms.ListMetricsTablesRequest(parent=NOBODY))),
    ],
    "GetMetricsTable": [
        ("INVALID_NAME", "name", lambda w: w.GetMetricsTable(ms.GetMetricsTableRequest(name=RUN))),
        ("RUN_NOT_FOUND", "", lambda w: w.GetMetricsTable(ms.GetMetricsTableRequest(name=f"{NOBODY}/metrics/t"))),
        ("METRICS_TABLE_NOT_FOUND", "", lambda w: w.GetMetricsTable(ms.GetMetricsTableRequest(name=f"{RUN}/metrics/no"))),
    ],
    "WriteTable": [
        ("INVALID_NAME", "open.parent", lambda w: put_table(w, ONE, parent="projects/demo")),
        ("INVALID_NAME", "open.table_id", lambda w: put_table(w, ONE, table_id="a/b")),
        ("INVALID_FIELD", "open", lambda w: w.WriteTable(iter([ts.WriteTableRequest(arrow_stream=b"x")]))),
        ("INVALID_FIELD", "open", lambda w: w.WriteTable(iter([]))),
        ("INVALID_FIELD", "open.if_exists", lambda w: put_table(w, ONE, if_exists=run_pb2.IF_EXISTS_OVERWRITE)),
        ("INVALID_FIELD", "arrow_stream", lambda w: put_table(w)),
        ("INVALID_FIELD", "arrow_stream", lambda w: put_table(w, ONE, pa.record_batch({"y": [1]}))),
        ("INVALID_COLUMN", "open.columns", lambda w: put_table(w, ONE, columns=[column("")])),
        ("INVALID_COLUMN", "arrow_stream", lambda w: put_table(w, pa.record_batch({"u": UNION}))),
        ("INVALID_ARROW", "arrow_stream", lambda w: put_table(w, ONE, data=b"x")),
        ("REQUEST_ID_REUSED", "request_id", lambda w: put_table(w, ONE, table_id="x", request_id=w.used_id)),
        ("REQUEST_ID_REUSED", "request_id", lambda w: put_twice(w, ONE, OTHER, table_id="y", request_id=new_id())),
        ("TABLE_EXISTS", "open.table_id", lambda w: put_twice(w, ONE, OTHER, table_id="z")),
    ],
    "RegisterTable": [
        ("INVALID_NAME", "parent", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="/x.csv", parent="projects/p"))),
        ("INVALID_NAME", "table_id", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="/x.csv", table_id="."))),
        ("INVALID_URL", "url", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="x.csv"))),
        ("INVALID_URL", "url", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="<NONE>/x.csv"))),
        ("INVALID_URL", "url", lambda w: w.RegisterTable(ts.RegisterTableRequest(url=f"{w.outside}/text.txt"))),
        ("INVALID_COLUMN", "columns", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="/x.csv", columns=[column("")]))),
        ("INVALID_COLUMN", "url", lambda w: w.RegisterTable(ts.RegisterTableRequest(url=f"{w.outside}/union.arrow"))),
        ("TABLE_NOT_FOUND", "url", lambda w: w.RegisterTable(ts.RegisterTableRequest(url="/nowhere.csv"))),
        ("REQUEST_ID_REUSED", "request_id", lambda w: w.RegisterTable(
            ts.RegisterTableRequest(url=csv(w, "reused"), request_id=w.used_id))),
        ("TABLE_EXISTS", "table_id", lambda w: w.RegisterTable(
            ts.RegisterTableRequest(url=csv(w, "taken"), parent="projects/demo/datasets/d", table_id="input"))),
    ],
    "GetTable": [
        ("INVALID_NAME", "name", lambda w: w.GetTable(ts.GetTableRequest(name=RUN))),
        ("INVALID_URL", "url", lambda w: w.GetTable(ts.GetTableRequest(url="x"))),
        ("INVALID_FIELD", "name", lambda w: w.GetTable(ts.GetTableRequest())),
        ("TABLE_NOT_FOUND", "", lambda w: w.GetTable(ts.GetTableRequest(name=INPUT + "x"))),
        ("TABLE_NOT_FOUND", "url", lambda w: w.GetTable(ts.GetTableRequest(url="/nowhere.csv"))),
    ],
    "ListTables": [
        ("INVALID_NAME", "parent", lambda w: w.ListTables(ts.ListTablesRequest(parent="projects/demo"))),
        ("INVALID_FIELD", "page_size", lambda w: w.ListTables(ts.ListTablesRequest(parent=ANY_DATASET, page_size=-1))),
        ("INVALID_PAGE_TOKEN", "page_token", lambda w: w.ListTables(ts.ListTablesRequest(parent=ANY_DATASET, page_token="x"))),
    ],
    "ReadTable": [
        ("INVALID_NAME", "name", lambda w: list(w.ReadTable(ts.ReadTableRequest(name=RUN)))),
        ("INVALID_FIELD", "start_row", lambda w: list(w.ReadTable(ts.ReadTableRequest(name=INPUT, row_limit=-1)))),
        ("INVALID_COLUMN", "columns", lambda w: list(w.ReadTable(
            ts.ReadTableRequest(name=INPUT, columns=ms.ColumnSelection(names=["y"]))))),
        ("INVALID_FILTER", "filter", lambda w: list(w.ReadTable(ts.ReadTableRequest(name=INPUT, filter="y = 1")))),
        ("TABLE_NOT_FOUND", "", lambda w: list(w.ReadTable(ts.ReadTableRequest(name=INPUT + "x")))),
    ],
    "GetOperation": [
        ("OPERATION_NOT_FOUND", "", lambda w: w.GetOperation(ops.GetOperationRequest(name=f"operations/{new_id()}"))),
        ("OPERATION_NOT_FOUND", "name", lambda w: w.GetOperation(ops.GetOperationRequest(name="me"))),
    ],
    "ListOperations": [
        ("INVALID_PAGE_TOKEN", "page_token", lambda w: w.ListOperations(ops.ListOperationsRequest(page_token="x"))),
        ("INVALID_FIELD", "page_size", lambda w: w.ListOperations(ops.ListOperationsRequest(page_size=-1))),
    ],
    "CancelOperation": [
        ("OPERATION_NOT_FOUND", "", lambda w: w.CancelOperation(ops.CancelOperationRequest(name=f"operations/{new_id()}"))),
    ],
    "WaitOperation": [
        ("OPERATION_NOT_FOUND", "", lambda w: w.WaitOperation(ops.WaitOperationRequest(name=f"operations/{new_id()}"))),
        ("INVALID_FIELD", "timeout", lambda w: w.WaitOperation(ops.WaitOperationRequest(
            name=f"operations/{new_id()}", timeout=Duration(seconds=-1)))),
    ],
    "ReduceEmbeddingsByForeignTable": [
        ("NOT_IMPLEMENTED", "", lambda w: w.ReduceEmbeddingsByForeignTable(
            reductions.ReduceEmbeddingsByForeignTableRequest(run=RUN))),
    ],
    "ReduceEmbeddingsPerDataset": [
        ("NOT_IMPLEMENTED", "", lambda w: w.ReduceEmbeddingsPerDataset(
            reductions.ReduceEmbeddingsPerDatasetRequest(run=RUN))),
    ],
    "ListReducers": [("NOT_IMPLEMENTED", "", lambda w: w.ListReducers(reductions.ListReducersRequest(parent="projects/-")))],
    "GetReducer": [("NOT_IMPLEMENTED", "", lambda w: w.GetReducer(reductions.GetReducerRequest(name="x")))],
    "TransformMetrics": [("NOT_IMPLEMENTED", "", lambda w: w.TransformMetrics(reductions.TransformMetricsRequest()))],
}  # fmt: skip

# What takes more than one request to provoke, and the module that does.
ELSEWHERE = {
    ("WriteMetrics", "DRAINING"): "tests.chaos.test_drain",
    ("WriteMetrics", "NO_SPACE"): "tests.chaos.test_disk_full",
    ("ReadMetrics", "DRAINING"): "tests.chaos.test_drain",
    ("ReadMetrics", "CORRUPT"): "tests.chaos.test_damage",
    ("WatchRuns", "DRAINING"): "tests.chaos.test_drain",
    ("WatchRuns", "REVISION_GONE"): "tests.daemon.test_runs",
    ("RegisterTable", "PERMISSION_DENIED"): "tests.process.test_server",
    ("GetServerInfo", "UNAUTHENTICATED"): "tests.process.test_server",
}

ANY_DATASET = "projects/-/datasets/-"
FAR_CAUSE = run_pb2.Cause(last_heartbeat=Timestamp(seconds=2**62))


def update(w: World, *paths: str, request_id: str = "", **fields: Any) -> Any:
    run = run_pb2.Run(name=RUN, **fields)
    return w.UpdateRun(rs.UpdateRunRequest(run=run, update_mask=FieldMask(paths=paths), request_id=request_id))


def register(w: World, url: str) -> Any:
    return w.UpdateMetrics(rs.UpdateMetricsRequest(run=RUN, metric_infos=[metrics_pb2.MetricsTable(url=url)]))


def csv(w: World, name: str) -> str:
    path = w.outside / f"{name}.csv"
    path.write_text("a,b\n1,2\n")
    return str(path)


def all_cases() -> list[Any]:
    return [
        pytest.param(rpc, *case, id=f"{rpc}-{case[0]}-{number}")
        for rpc, cases in CASES.items()
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("rpc", "reason", "field", "provoke"), all_cases())
def test_a_refusal_says_why_and_what_is_to_blame(
    world: World, rpc: str, reason: str, field: str, provoke: Callable[[World], Any]
) -> None:
    before = len(world.daemon.log("request_refused"))
    with pytest.raises(RefusedError) as caught:
        provoke(world)
    refused = caught.value
    assert (refused.rpc, refused.reason, refused.field) == (rpc, reason, field)
    assert refused.code == contract.codes()[reason]
    assert reason in contract.listed_reasons()[rpc], "the RPC's comment does not list it"
    assert len(refused.details) < 4096
    assert refused.message
    assert len(world.daemon.log("request_refused")) == before + 1, "the log has one line of it"
    assert not world.daemon.log("request_failed")


def test_every_listed_reason_is_provoked() -> None:
    provoked = {(rpc, case[0]) for rpc, cases in CASES.items() for case in cases}
    listed = {(rpc, reason) for rpc, reasons in contract.listed_reasons().items() for reason in reasons}
    assert listed - provoked == set(ELSEWHERE)


def test_the_run_is_as_it_was(world: World) -> None:
    """After all the refusals: what they named has not changed by them."""
    run = world.GetRun(rs.GetRunRequest(name=RUN)).run
    tables = {table.name.rpartition("/")[2]: table.row_count for table in run.metrics}
    assert tables["table"] == 3
    assert tables["sealed"] == 1
    assert (run.run_name, list(run.inputs), list(run.outputs)) == ("run", [value_pb2.MapValue()], [])
    assert run.parameters == value_pb2.MapValue()
