"""What RunService refuses, by RPC."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import metrics_pb2, run_pb2

from tests.process.raw_daemon import new_id, values
from tests.process.refusals import (
    BAD,
    FAR_CAUSE,
    GONE,
    INPUT,
    NOBODY,
    OUTSIDE,
    RUN,
    TABLE,
    TRASHED,
    TWICE,
    USED,
    Case,
)

Run = run_pb2.Run
DEMO, ALL = {"parent": "projects/demo"}, {"parent": "projects/-"}


def changing(*paths: str, request_id: str = "", **fields: object) -> dict[str, object]:
    """Fields of an UpdateRunRequest."""
    run = Run(name=RUN, **fields)  # type: ignore[arg-type]
    return {"run": run, "update_mask": FieldMask(paths=paths), "request_id": request_id}


def registering(url: str) -> dict[str, object]:
    """Fields of an UpdateMetricsRequest."""
    return {"run": RUN, "metric_infos": [metrics_pb2.MetricsTable(url=url)]}


CASES: dict[str, list[Case]] = {
    "CreateRun": [
        ("INVALID_NAME", "parent", {"parent": "demo"}),
        ("INVALID_NAME", "parent", {"parent": "projects/catalog"}),
        ("INVALID_NAME", "run.run_name", {**DEMO, "run": Run(run_name="../up")}),
        ("INVALID_FIELD", "run.labels", {**DEMO, "run": Run(labels={"": "x"})}),
        ("INVALID_FIELD", "run.status", {**DEMO, "run": Run(status=99)}),  # type: ignore[arg-type]
        ("INVALID_FIELD", "if_exists", {**DEMO, "if_exists": 99}),
        ("INVALID_FIELD", "writer.writer_id", {**DEMO, "writer": run_pb2.Writer(writer_id="me")}),
        ("INVALID_FIELD", "request_id", {**DEMO, "request_id": "me"}),
        ("INVALID_VALUE", "run.parameters.k", {**DEMO, "run": Run(parameters=TWICE)}),
        ("REQUEST_ID_REUSED", "request_id", {**DEMO, "request_id": USED}),
        ("RUN_EXISTS", "run.run_name", {**DEMO, "run": Run(run_name="run"), "if_exists": run_pb2.IF_EXISTS_RAISE}),
    ],
    "GetRun": [
        ("INVALID_NAME", "name", {"name": BAD}),
        ("INVALID_URL", "url", {"url": "/elsewhere/p/runs/r"}),
        ("INVALID_FIELD", "name", {}),
        ("INVALID_FIELD", "uid", {"uid": "me"}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY}),
        ("RUN_NOT_FOUND", "", {"uid": new_id()}),
    ],
    "ListRuns": [
        ("INVALID_NAME", "parent", {"parent": "projects"}),
        ("INVALID_FILTER", "filter", {**ALL, "filter": "run_name =="}),
        ("INVALID_FILTER", "filter", {**ALL, "filter": "colour = red"}),
        ("INVALID_ORDER_BY", "order_by", {**ALL, "order_by": "colour"}),
        ("INVALID_PAGE_TOKEN", "page_token", {**ALL, "page_token": "x"}),
        ("INVALID_FIELD", "page_size", {**ALL, "page_size": -1}),
    ],
    "UpdateRun": [
        ("INVALID_NAME", "run.name", {"run": Run(name=BAD)}),
        ("INVALID_NAME", "run.run_name", changing("run_name", run_name=".")),
        ("INVALID_FIELD_MASK", "update_mask", changing("uid")),
        ("INVALID_FIELD_MASK", "update_mask", changing("parameters.lr")),
        ("INVALID_FIELD", "run.status", changing("status")),
        ("INVALID_FIELD", "run.labels", changing("labels", labels={"k": "v" * 256})),
        ("INVALID_FIELD", "run.cause.last_heartbeat", changing("cause", cause=FAR_CAUSE)),
        ("INVALID_VALUE", "run.parameters.k", changing("parameters", parameters=TWICE)),
        ("REQUEST_ID_REUSED", "request_id", changing("description", request_id=USED)),
        ("RUN_NOT_FOUND", "", {"run": Run(name=NOBODY)}),
        ("RUN_EXISTS", "run.run_name", changing("run_name", run_name="gone")),
        ("ETAG_MISMATCH", "run.etag", changing("description", etag="0")),
    ],
    "DeleteRun": [
        ("INVALID_NAME", "name", {"name": BAD}),
        ("REQUEST_ID_REUSED", "request_id", {"name": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY}),
        ("ETAG_MISMATCH", "run.etag", {"name": RUN, "etag": "0"}),
    ],
    "UndeleteRun": [
        ("INVALID_NAME", "name", {"name": BAD}),
        ("INVALID_FIELD", "uid", {"name": GONE, "uid": "me"}),
        ("REQUEST_ID_REUSED", "request_id", {"name": GONE, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY}),
        ("RUN_NOT_FOUND", "", {"name": RUN, "uid": TRASHED}),
        ("RUN_EXISTS", "name", {"name": GONE}),
    ],
    "CollectTrash": [
        ("INVALID_NAME", "parent", {"parent": "runs/x"}),
        ("INVALID_FIELD", "min_age", {"parent": "projects/-", "min_age": Duration(seconds=-1)}),
    ],
    "GetUsage": [
        ("INVALID_NAME", "parent", {"parent": "runs/x"}),
    ],
    "CopyRun": [
        ("INVALID_NAME", "name", {"name": BAD}),
        ("INVALID_NAME", "run_name", {"name": RUN, "run_name": "a/b"}),
        ("INVALID_NAME", "project_name", {"name": RUN, "project_name": "trash"}),
        ("INVALID_URL", "root_url", {"name": RUN, "root_url": "relative"}),
        ("INVALID_FIELD", "if_exists", {"name": RUN, "if_exists": run_pb2.IF_EXISTS_REUSE}),
        ("INVALID_FIELD", "run_name", {"name": RUN, "run_name": "run", "if_exists": run_pb2.IF_EXISTS_OVERWRITE}),
        ("REQUEST_ID_REUSED", "request_id", {"name": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY}),
        ("RUN_EXISTS", "run_name", {"name": RUN, "run_name": "gone"}),
        ("INVALID_URL", "destination_url", {"name": RUN, "destination_url": "s3://bucket"}),
        ("INVALID_URL", "destination_url", {"name": RUN, "destination_url": "ftp://elsewhere/run"}),
        ("NOT_IMPLEMENTED", "", {"name": RUN, "root_url": "/elsewhere"}),
    ],
    "ImportRun": [
        ("INVALID_NAME", "run_name", {"bundle_url": "/bundle", "run_name": "a/b"}),
        ("INVALID_NAME", "project_name", {"bundle_url": "/bundle", "project_name": "trash"}),
        ("INVALID_URL", "bundle_url", {"bundle_url": "relative"}),
        ("INVALID_URL", "bundle_url", {"bundle_url": "s3://bucket/path?endpoint_override=elsewhere"}),
        ("INVALID_FIELD", "if_exists", {"bundle_url": "/bundle", "if_exists": run_pb2.IF_EXISTS_REUSE}),
        ("REQUEST_ID_REUSED", "request_id", {"bundle_url": "/bundle", "request_id": USED}),
    ],
    "AddInputTable": [
        ("INVALID_NAME", "run", {"run": BAD, "table": INPUT}),
        ("INVALID_URL", "table", {"run": RUN, "table": "relative.csv"}),
        ("INVALID_URL", "table", {"run": RUN, "table": f"{OUTSIDE}/text.txt"}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "table": INPUT, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY, "table": INPUT}),
        ("TABLE_NOT_FOUND", "", {"run": RUN, "table": f"{INPUT}x"}),
        ("TABLE_NOT_FOUND", "table", {"run": RUN, "table": f"{OUTSIDE}/nowhere.csv"}),
    ],
    "AddInputValue": [
        ("INVALID_NAME", "run", {"run": BAD}),
        ("INVALID_VALUE", "value.k", {"run": RUN, "value": TWICE}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "value": values({"another": 1}), "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY}),
    ],
    "AddOutputValue": [
        ("INVALID_NAME", "run", {"run": BAD}),
        ("INVALID_VALUE", "value.k", {"run": RUN, "value": TWICE}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY}),
    ],
    "SetParameters": [
        ("INVALID_NAME", "run", {"run": BAD}),
        ("INVALID_VALUE", "parameters.k", {"run": RUN, "parameters": TWICE}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY}),
    ],
    "UpdateMetrics": [
        ("INVALID_NAME", "run", {"run": BAD}),
        ("INVALID_NAME", "metric_infos[0].url", registering("metrics/..")),
        ("INVALID_URL", "metric_infos[0].url", registering("relative")),
        ("INVALID_URL", "metric_infos[0].url", registering("/etc/hostname")),
        ("INVALID_FIELD", "request_id", {"run": RUN, "request_id": "me"}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY}),
        ("METRICS_TABLE_NOT_FOUND", "", registering("metrics/nobody")),
        ("METRICS_TABLE_NOT_FOUND", "metric_infos[0].url", registering("/nowhere.parquet")),
    ],
    "AddMetricsTable": [
        ("INVALID_NAME", "run", {"run": BAD, "metrics_table": TABLE}),
        ("INVALID_URL", "metrics_table", {"run": RUN, "metrics_table": "relative"}),
        ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "metrics_table": TABLE, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"run": NOBODY, "metrics_table": TABLE}),
        ("METRICS_TABLE_NOT_FOUND", "", {"run": RUN, "metrics_table": f"{GONE}/metrics/nobody"}),
    ],
    "FinishRun": [
        ("INVALID_NAME", "name", {"name": BAD}),
        ("INVALID_FIELD", "status", {"name": RUN, "status": run_pb2.RUN_STATUS_RUNNING}),
        ("INVALID_FIELD", "writer_id", {"name": RUN, "writer_id": "me"}),
        ("INVALID_FIELD", "cause.last_heartbeat", {"name": RUN, "cause": FAR_CAUSE}),
        ("REQUEST_ID_REUSED", "request_id", {"name": RUN, "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY}),
    ],
    "ReportWriter": [
        ("INVALID_NAME", "name", {"name": BAD, "writer_id": new_id()}),
        ("INVALID_FIELD", "writer_id", {"name": RUN, "writer_id": "me"}),
        ("INVALID_FIELD", "writer_id", {"name": RUN, "writer_id": new_id(), "alive": True}),
        ("RUN_NOT_FOUND", "", {"name": NOBODY, "writer_id": new_id()}),
    ],
    "WatchRuns": [
        ("INVALID_NAME", "parent", {"parent": "demo"}),
        ("INVALID_FIELD", "after_revision", {**ALL, "after_revision": -1}),
        ("INVALID_FIELD", "after_revision", {**ALL, "after_revision": 2**60}),
    ],
}
