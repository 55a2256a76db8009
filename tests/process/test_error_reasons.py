"""Every reason that the schema lists is provoked over a real socket, with its code and its class, or excused here."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rund
from rund import MetricTableInfo, Run, Table
from rund._transport import Transport, metrics_calls, run_calls
from rund._transport.run_calls import CopyTarget
from rund._transport.status import CLASS_OF_REASON
from rund_pb.v1 import error_reason_pb2, metrics_pb2, run_pb2
from rund_pb.v1 import metrics_service_pb2 as metrics_pb
from rund_pb.v1 import run_service_pb2 as runs_pb

NOT_PROVOKED_HERE = {
    "WRONG_STATE": "needs a table that is removed while it is read, or a catalog of a newer version",
    "REVISION_GONE": "events are kept for longer than a test lasts; the daemon's own tests shorten it",
    "NO_SPACE": "needs a full disk; the daemon's own tests have one",
    "OVER_QUOTA": "needs a daemon with a quota; see test_quotas.py",
    "STORAGE_FAILED": "needs a disk that fails; the daemon's own tests have one",
    "CORRUPT": "needs a damaged file; the daemon's own tests make one",
    "UNAUTHENTICATED": "needs a daemon on TCP; see test_access.py",
    "PERMISSION_DENIED": "needs a daemon on TCP; see test_access.py",
    "DRAINING": "needs a daemon that stops; see test_daemon_away.py",
    "INTERNAL": "is a fault, and none is known",
    "CANCELLED": "a copy in one root is too quick to be caught; the daemon's own tests have a slow one",
}


@dataclass(frozen=True)
class Place:
    """A run, and the connection to its daemon."""

    run: Run
    transport: Transport

    def write(self, *messages: metrics_pb.WriteMetricsRequest, table: str = "t", stream: str = "s") -> None:
        """Speaks on a write stream as no client of ours would."""
        name = f"{self.run.resource_name}/metrics/{table}"
        opening = metrics_pb.WriteMetricsRequest.Open(metrics_table=name, stream_id=stream, create_missing=True)
        requests = [metrics_pb.WriteMetricsRequest(open=opening), *messages]
        try:
            for _ in self.transport.write_metrics(iter(requests)):
                pass
        except Exception as error:
            raise self.transport.map_error(error) from None  # type: ignore[arg-type]  # gRPC raises nothing else


def batch(sequence: int, **columns: list[int]) -> metrics_pb.WriteMetricsRequest:
    message = metrics_pb2.ColumnBatch()
    for name, values in columns.items():
        message.columns.add(name=name, ints=metrics_pb2.ColumnBatch.Ints(values=values))
    return metrics_pb.WriteMetricsRequest(
        batch=metrics_pb.WriteMetricsRequest.Batch(sequence=sequence, columns=message)
    )


def arrow_bytes(data: bytes) -> metrics_pb.WriteMetricsRequest:
    return metrics_pb.WriteMetricsRequest(batch=metrics_pb.WriteMetricsRequest.Batch(sequence=1, arrow_stream=data))


def arrow_stream(rows: pa.RecordBatch) -> metrics_pb.WriteMetricsRequest:
    return arrow_bytes(rows.schema.serialize().to_pybytes() + rows.serialize().to_pybytes())


def get(place: Place, **fields: Any) -> Any:
    return place.transport.call(lambda stubs: stubs.runs.GetRun, runs_pb.GetRunRequest(**fields))


def update(place: Place, path: str) -> Any:
    request = runs_pb.UpdateRunRequest(run=run_pb2.Run(name=place.run.resource_name))
    request.update_mask.paths.append(path)
    return place.transport.call(lambda stubs: stubs.runs.UpdateRun, request)


def page(place: Place, token: str) -> Any:
    request = runs_pb.ListRunsRequest(parent="projects/-", page_token=token)
    return place.transport.call(lambda stubs: stubs.runs.ListRuns, request)


def repeated_key(place: Place) -> Any:
    request = runs_pb.SetParametersRequest(run=place.run.resource_name)
    request.parameters.entries.add(key="a")
    request.parameters.entries.add(key="a")
    return place.transport.call(lambda stubs: stubs.runs.SetParameters, request)


def reused_id(place: Place) -> None:
    request_id = str(uuid.uuid4())
    for value in ("a", "b"):
        run_calls.add_output_value(place.transport, place.run.resource_name, {"v": value}, request_id)


def foreign(place: Place, **columns: list[int]) -> None:
    """Rows that the daemon itself has to find wrong, because no check of the client's comes before."""
    table = Table.from_dict({"a": [1, 2]}, "two", "rows")
    info = MetricTableInfo("", name="f", foreign_table_url=table.url)
    metrics_calls.create_metrics_table(place.transport, place.run.resource_name, info)
    place.write(batch(1, **columns), table="f")


def sealed(place: Place) -> None:
    place.run.add_metrics({"a": [1]}, name="sealed")
    place.write(batch(1, a=[2]), table="sealed")


def taken_over(place: Place) -> None:
    name = f"{place.run.resource_name}/metrics/t"
    opening = metrics_pb.WriteMetricsRequest(
        open=metrics_pb.WriteMetricsRequest.Open(metrics_table=name, stream_id="s", create_missing=True)
    )

    def open_and_wait() -> Iterator[metrics_pb.WriteMetricsRequest]:
        yield opening
        told.wait(30)

    told = threading.Event()
    first = place.transport.write_metrics(open_and_wait())
    next(first)
    second = place.transport.write_metrics(iter([opening]))
    next(second)
    try:
        next(first)
    except Exception as error:
        raise place.transport.map_error(error) from None  # type: ignore[arg-type]  # gRPC raises nothing else
    finally:
        told.set()


def too_large(place: Place) -> None:
    limit = place.run.daemon.info.limits.max_value_bytes
    place.run.add_output_value({"v": b"x" * (limit + 1)})


PROVOKED: dict[str, Callable[[Place], Any]] = {
    "INVALID_NAME": lambda p: get(p, name="projects/p/runs/.."),
    "INVALID_URL": lambda p: get(p, url="s3://x"),
    "INVALID_FIELD": get,
    "INVALID_VALUE": repeated_key,
    "INVALID_COLUMN": lambda p: p.write(arrow_stream(pa.record_batch({"": [1]}))),
    "COLUMN_LENGTH_MISMATCH": lambda p: p.write(batch(1, a=[1], b=[1, 2])),
    "ROW_COUNT_MISMATCH": lambda p: foreign(p, a=[1]),
    "EXAMPLE_ID_OUT_OF_RANGE": lambda p: foreign(p, example_id=[2]),
    "INVALID_ARROW": lambda p: p.write(arrow_bytes(b"no arrow")),
    "INVALID_FIELD_MASK": lambda p: update(p, "uid"),
    "INVALID_PAGE_TOKEN": lambda p: page(p, "x"),
    "INVALID_FILTER": lambda p: list(rund.Client(p.run.daemon).list_runs(filter="a = (")),
    "INVALID_ORDER_BY": lambda p: list(rund.Client(p.run.daemon).list_runs(order_by="a b c")),
    "REQUEST_ID_REUSED": reused_id,
    "RUN_NOT_FOUND": lambda p: get(p, name="projects/p/runs/none"),
    "METRICS_TABLE_NOT_FOUND": lambda p: p.run.add_metrics_table(f"{p.run.url}/metrics/none"),
    "TABLE_NOT_FOUND": lambda p: Table.from_names("none", "none"),
    "OPERATION_NOT_FOUND": lambda p: rund.Client(p.run.daemon).get_operation(
        "operations/00000000-0000-7000-8000-000000000000"
    ),
    "REDUCER_NOT_FOUND": lambda p: rund.Reducer.from_names("none"),
    "RUN_EXISTS": lambda p: [p.run.copy("twice") for _ in range(2)],
    "METRICS_TABLE_EXISTS": lambda p: [p.run.add_metrics({"a": [1]}, name="x") for _ in range(2)],
    "TABLE_EXISTS": lambda p: [Table.from_dict({"a": [n]}, "x", "d") for n in range(2)],
    "ETAG_MISMATCH": lambda p: p.run.update(description="x", etag="none"),
    "STREAM_TAKEN_OVER": taken_over,
    "TABLE_SEALED": sealed,
    "SEQUENCE_GAP": lambda p: p.write(batch(2, a=[1])),
    "OVER_LIMIT": too_large,
    "NOT_IMPLEMENTED": lambda p: run_calls.copy_run(p.transport, p.run.resource_name, CopyTarget(root_url="/another")),
}


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def place(root: Path) -> Iterator[Place]:
    with rund.init("p", root_url=root) as run:
        yield Place(run, run.daemon.transport)


def test_every_reason_is_provoked_or_excused() -> None:
    listed = {name.removeprefix("ERROR_REASON_") for name, number in error_reason_pb2.ErrorReason.items() if number}
    assert set(PROVOKED) | set(NOT_PROVOKED_HERE) == listed
    assert not set(PROVOKED) & set(NOT_PROVOKED_HERE)


@pytest.mark.parametrize("reason", sorted(PROVOKED))
def test_a_reason_arrives_as_its_class(place: Place, reason: str) -> None:
    kind = CLASS_OF_REASON[reason]
    with pytest.raises(kind) as caught:
        PROVOKED[reason](place)
    assert type(caught.value) is kind
    assert caught.value.reason == reason
    assert caught.value.code == kind.default_code
    assert str(caught.value)
    assert "Traceback" not in str(caught.value)
    assert place.run.description == "", "the run is as it was"
