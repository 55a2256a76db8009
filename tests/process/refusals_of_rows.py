"""What MetricsService, TableService and the others refuse, by RPC."""

from __future__ import annotations

import pyarrow as pa
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rund_pb.v1 import metrics_pb2, metrics_service_pb2, run_pb2

from tests.process.raw_daemon import Write, arrow_stream, new_id, opening, schema_bytes, stream_bytes, values
from tests.process.refusals import (
    BAD,
    FAR,
    FOREIGN,
    INPUT,
    NOBODY,
    OUTSIDE,
    RUN,
    SEALED,
    TABLE,
    TWICE,
    UNION,
    USED,
    Case,
    batch,
    beginning,
    both,
    logging_into_a_sealed_history,
    plain,
    putting,
    rows,
    sending,
    taking_over,
)

Row = metrics_service_pb2.LogScalarsRequest.Row
Table = metrics_pb2.MetricsTable
ONE, OTHER = pa.record_batch({"x": [1]}), pa.record_batch({"x": [2]})
ANY_DATASET = {"parent": "projects/-/datasets/-"}
NO_OPERATION = {"name": f"operations/{new_id()}"}
Y = metrics_service_pb2.ColumnSelection(names=["y"])


def named(*names: str) -> list[metrics_pb2.ColumnSchema]:
    """Column schemas."""
    return [metrics_pb2.ColumnSchema(name=name) for name in names]


def making(**fields: object) -> dict[str, object]:
    """Fields of a CreateMetricsTableRequest; the arguments are those of the table."""
    return {"parent": RUN, "metrics_table": Table(**fields)}  # type: ignore[arg-type]


def logging(**fields: object) -> dict[str, object]:
    """Fields of a LogScalarsRequest of one row."""
    return {"run": RUN, "rows": [Row(**fields)]}  # type: ignore[arg-type]


CASES: dict[str, list[Case]] = {
    "CreateMetricsTable": [
        ("INVALID_NAME", "parent", {"parent": BAD}),
        ("INVALID_NAME", "table_id", {"parent": RUN, "table_id": "a/b"}),
        ("INVALID_NAME", "base_name", {"parent": RUN, "base_name": ".hidden"}),
        ("INVALID_URL", "metrics_table.foreign_table_url", making(foreign_table_url="ftp://x/y")),
        ("INVALID_URL", "metrics_table.foreign_table_url", making(foreign_table_url="/etc/hostname")),
        ("INVALID_COLUMN", "metrics_table.columns", making(columns=named(""))),
        ("INVALID_COLUMN", "metrics_table.columns", making(columns=named("a", "a"))),
        (
            "INVALID_COLUMN",
            "metrics_table.arrow_schema",
            making(arrow_schema=schema_bytes(pa.schema({"u": UNION.type}))),
        ),
        ("INVALID_VALUE", "metrics_table.constants.k", making(constants=TWICE)),
        ("INVALID_ARROW", "metrics_table.arrow_schema", making(arrow_schema=b"x")),
        ("REQUEST_ID_REUSED", "request_id", {"parent": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"parent": NOBODY}),
        ("TABLE_NOT_FOUND", "", making(foreign_table_url=f"{INPUT}x")),
        ("TABLE_NOT_FOUND", "metrics_table.foreign_table_url", making(foreign_table_url="/nowhere.csv")),
        ("METRICS_TABLE_EXISTS", "table_id", {"parent": RUN, "table_id": "table"}),
    ],
    "WriteMetrics": [
        ("INVALID_NAME", "open.metrics_table", sending(table=RUN)),
        ("INVALID_FIELD", "open", beginning()),
        ("INVALID_FIELD", "open", beginning(batch())),
        ("INVALID_FIELD", "open", sending(opening(TABLE))),
        ("INVALID_FIELD", "open.stream_id", beginning(opening(TABLE, ""))),
        ("INVALID_FIELD", "open.stream_id", beginning(opening(TABLE, "x" * 65))),
        ("INVALID_FIELD", "open.stream_id", beginning(opening(TABLE, "a\nb"))),
        ("INVALID_FIELD", "message", sending(Write())),
        ("INVALID_FIELD", "batch", sending(batch())),
        ("INVALID_FIELD", "batch.sequence", sending(batch(0))),
        ("INVALID_FIELD", "batch.sequence", sending(batch(-(2**63)))),
        ("INVALID_FIELD", "batch.arrow_batch", sending(batch(arrow_batch=b"x"))),
        ("INVALID_ARROW", "batch.arrow_stream", sending(batch(arrow_stream=b"x"))),
        ("INVALID_ARROW", "batch.arrow_stream", sending(batch(arrow_stream=b""))),
        (
            "INVALID_ARROW",
            "batch.arrow_stream",
            sending(batch(arrow_stream=stream_bytes(ONE, options=pa.ipc.IpcWriteOptions(compression="zstd")))),
        ),
        (
            "INVALID_ARROW",
            "open.arrow_schema",
            beginning(Write(open=Write.Open(metrics_table=TABLE, stream_id="s", arrow_schema=b"x"))),
        ),
        ("INVALID_ARROW", "schema.arrow_schema", sending(Write(schema=Write.Schema(arrow_schema=b"x")))),
        ("INVALID_COLUMN", "batch.arrow_stream", sending(rows(u=UNION))),
        ("INVALID_COLUMN", "batch.arrow_stream", sending(rows(d=pa.array(["a"]).dictionary_encode()))),
        ("INVALID_COLUMN", "batch.arrow_stream", sending(arrow_stream(1, pa.record_batch([[1], [2]], ["x", "x"])))),
        ("INVALID_COLUMN", "batch.columns", sending(plain(("", [1])))),
        ("INVALID_COLUMN", "batch.columns", sending(plain(("a", [1]), ("a", [1])))),
        ("COLUMN_LENGTH_MISMATCH", "batch.columns", sending(plain(("a", [1]), ("b", [1, 2])))),
        ("ROW_COUNT_MISMATCH", "batch.arrow_stream", sending(rows(x=[1]), table=FOREIGN)),
        ("EXAMPLE_ID_OUT_OF_RANGE", "batch.arrow_stream", sending(rows(example_id=[3]), table=FOREIGN)),
        ("EXAMPLE_ID_OUT_OF_RANGE", "batch.arrow_stream", sending(rows(example_id=[0, None]), table=FOREIGN)),
        ("EXAMPLE_ID_OUT_OF_RANGE", "batch.columns", sending(plain(("example_id", [-1])), table=FOREIGN)),
        ("RUN_NOT_FOUND", "", sending(table=f"{NOBODY}/metrics/t")),
        ("METRICS_TABLE_NOT_FOUND", "", sending(table=f"{RUN}/metrics/nobody")),
        ("TABLE_SEALED", "metrics_table", sending(rows(x=[1]), table=SEALED)),
        ("SEQUENCE_GAP", "batch.sequence", sending(arrow_stream(2, ONE))),
        ("STREAM_TAKEN_OVER", "", taking_over),
    ],
    "LogScalars": [
        ("INVALID_NAME", "run", {"run": BAD, "rows": [Row()]}),
        ("INVALID_FIELD", "rows", {"run": RUN}),
        ("INVALID_FIELD", "rows[0].time", logging(time=FAR)),
        ("INVALID_FIELD", "rows[0].time", logging(time=Timestamp(nanos=-1))),
        ("INVALID_FIELD", "request_id", {**logging(step=1), "request_id": "me"}),
        ("INVALID_COLUMN", "rows", logging(values=values({"step": 1}))),
        ("INVALID_COLUMN", "rows", logging(values=values({"": 1}))),
        ("INVALID_COLUMN", "rows", logging(values=values({"k" * 256: 1}))),
        ("INVALID_VALUE", "rows", logging(values=values({"k": [1]}))),
        ("INVALID_VALUE", "rows[0].values.k", logging(values=TWICE)),
        ("REQUEST_ID_REUSED", "request_id", {**logging(step=1), "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY, "rows": [Row()]}),
        ("TABLE_SEALED", "metrics_table", logging_into_a_sealed_history),
    ],
    "ReadMetrics": [
        ("INVALID_NAME", "metrics_table", {"metrics_table": RUN}),
        ("INVALID_FIELD", "start_row", {"metrics_table": TABLE, "start_row": -1}),
        ("INVALID_FIELD", "uid", {"metrics_table": TABLE, "uid": "no-uuid"}),
        ("INVALID_COLUMN", "columns", {"metrics_table": TABLE, "columns": Y}),
        ("INVALID_FILTER", "filter", {"metrics_table": TABLE, "filter": "y = 1"}),
        ("RUN_NOT_FOUND", "", {"metrics_table": f"{NOBODY}/metrics/t"}),
        ("METRICS_TABLE_NOT_FOUND", "", {"metrics_table": f"{RUN}/metrics/nobody"}),
        ("METRICS_TABLE_NOT_FOUND", "", {"metrics_table": TABLE, "uid": "0192d3a0-0000-7000-8000-000000000000"}),
    ],
    "ListMetricsTables": [
        ("INVALID_NAME", "parent", {"parent": BAD}),
        ("INVALID_FIELD", "page_size", {"parent": RUN, "page_size": -1}),
        ("INVALID_PAGE_TOKEN", "page_token", {"parent": RUN, "page_token": "x"}),
        ("RUN_NOT_FOUND", "", {"parent": NOBODY}),
    ],
    "GetMetricsTable": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("RUN_NOT_FOUND", "", {"name": f"{NOBODY}/metrics/t"}),
        ("METRICS_TABLE_NOT_FOUND", "", {"name": f"{RUN}/metrics/nobody"}),
    ],
    "WriteTable": [
        ("INVALID_NAME", "open.parent", putting(ONE, parent="projects/demo")),
        ("INVALID_NAME", "open.table_id", putting(ONE, table_id="a/b")),
        ("INVALID_FIELD", "open", lambda w: w.daemon.rpc.WriteTable(iter([]))),
        ("INVALID_FIELD", "open.if_exists", putting(ONE, if_exists=run_pb2.IF_EXISTS_OVERWRITE)),
        ("INVALID_FIELD", "arrow_stream", putting()),
        ("INVALID_FIELD", "arrow_stream", putting(ONE, pa.record_batch({"y": [1]}))),
        ("INVALID_COLUMN", "open.columns", putting(ONE, columns=named(""))),
        ("INVALID_COLUMN", "arrow_stream", putting(pa.record_batch({"u": UNION}))),
        ("INVALID_ARROW", "arrow_stream", putting(ONE, data=b"x")),
        ("REQUEST_ID_REUSED", "request_id", putting(ONE, table_id="x", request_id=USED)),
        (
            "REQUEST_ID_REUSED",
            "request_id",
            both(*(putting(part, table_id="y", request_id=NO_OPERATION["name"][11:]) for part in (ONE, OTHER))),
        ),
        ("TABLE_EXISTS", "open.table_id", both(putting(ONE, table_id="z"), putting(OTHER, table_id="z"))),
    ],
    "RegisterTable": [
        ("INVALID_NAME", "parent", {"url": "/x.csv", "parent": "projects/p"}),
        ("INVALID_NAME", "table_id", {"url": "/x.csv", "table_id": "."}),
        ("INVALID_URL", "url", {"url": "relative.csv"}),
        ("INVALID_URL", "url", {"url": "<NONE>/x.csv"}),
        ("INVALID_URL", "url", {"url": "s3://bucket/x.csv"}),
        ("INVALID_URL", "url", {"url": f"{OUTSIDE}/text.txt"}),
        ("INVALID_COLUMN", "columns", {"url": "/x.csv", "columns": named("")}),
        ("INVALID_COLUMN", "url", {"url": f"{OUTSIDE}/union.arrow"}),
        ("TABLE_NOT_FOUND", "url", {"url": f"{OUTSIDE}/nowhere.csv"}),
        ("REQUEST_ID_REUSED", "request_id", {"url": f"{OUTSIDE}/reused.csv", "request_id": USED}),
        (
            "TABLE_EXISTS",
            "table_id",
            {"url": f"{OUTSIDE}/taken.csv", "parent": "projects/demo/datasets/d", "table_id": "input"},
        ),
    ],
    "GetTable": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("INVALID_URL", "url", {"url": "x"}),
        ("INVALID_FIELD", "name", {}),
        ("TABLE_NOT_FOUND", "", {"name": f"{INPUT}x"}),
        ("TABLE_NOT_FOUND", "url", {"url": "/nowhere.csv"}),
    ],
    "ListTables": [
        ("INVALID_NAME", "parent", {"parent": "projects/demo"}),
        ("INVALID_FIELD", "page_size", {**ANY_DATASET, "page_size": -1}),
        ("INVALID_PAGE_TOKEN", "page_token", {**ANY_DATASET, "page_token": "x"}),
    ],
    "ReadTable": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("INVALID_FIELD", "start_row", {"name": INPUT, "row_limit": -1}),
        ("INVALID_COLUMN", "columns", {"name": INPUT, "columns": Y}),
        ("INVALID_FILTER", "filter", {"name": INPUT, "filter": "y = 1"}),
        ("TABLE_NOT_FOUND", "", {"name": f"{INPUT}x"}),
    ],
    "GetOperation": [
        ("OPERATION_NOT_FOUND", "", NO_OPERATION),
        ("OPERATION_NOT_FOUND", "name", {"name": "me"}),
    ],
    "ListOperations": [
        ("INVALID_PAGE_TOKEN", "page_token", {"page_token": "x"}),
        ("INVALID_FIELD", "page_size", {"page_size": -1}),
    ],
    "CancelOperation": [("OPERATION_NOT_FOUND", "", NO_OPERATION)],
    "WaitOperation": [
        ("OPERATION_NOT_FOUND", "", NO_OPERATION),
        ("INVALID_FIELD", "timeout", {**NO_OPERATION, "timeout": Duration(seconds=-1)}),
    ],
}
