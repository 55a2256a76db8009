"""The funnel of all calls: deadlines, retries with one request id, and the taking apart of what is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from rund import DaemonUnavailableError, InvalidUrlError, RundError, WaitTimeoutError
from rund._transport import RowRequest, Transport
from rund._transport.channel import CHANNEL_OPTIONS, open_channel
from rund._transport.read_stream import read_batches
from rund._transport.retry import pauses
from rund_pb.v1 import metrics_service_pb2 as metrics_pb
from rund_pb.v1 import run_service_pb2 as runs_pb
from rund_pb.v1 import run_service_pb2_grpc as runs_grpc


class Flaky(runs_grpc.RunServiceServicer):
    """Refuses as often as it is told to, and remembers the ids of the requests."""

    def __init__(self) -> None:
        self.refusals = 0
        self.code = grpc.StatusCode.UNAVAILABLE
        self.pause_s = 0.0
        self.request_ids: list[str] = []

    def SetParameters(  # noqa: N802 - the RPC's own name
        self, request: runs_pb.SetParametersRequest, context: grpc.ServicerContext
    ) -> runs_pb.SetParametersResponse:
        self.request_ids.append(request.request_id)
        time.sleep(self.pause_s)
        if self.refusals:
            self.refusals -= 1
            context.abort(self.code, "not now")
        return runs_pb.SetParametersResponse()


@pytest.fixture
def flaky(tmp_path: Path) -> Iterator[tuple[Flaky, Transport]]:
    server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), Flaky()
    runs_grpc.add_RunServiceServicer_to_server(servicer, server)
    address = f"unix:{tmp_path / 's'}"
    server.add_insecure_port(address)
    server.start()
    transport = Transport(address)
    yield servicer, transport
    transport.close()
    server.stop(0).wait()


def set_parameters(transport: Transport, **options: float) -> None:
    transport.call(lambda stubs: stubs.runs.SetParameters, runs_pb.SetParametersRequest(), **options)


def test_a_daemon_that_is_away_is_asked_again_with_the_same_id(flaky: tuple[Flaky, Transport]) -> None:
    servicer, transport = flaky
    servicer.refusals = 3
    set_parameters(transport)
    assert len(servicer.request_ids) == 4
    assert len(set(servicer.request_ids)) == 1
    set_parameters(transport)
    assert servicer.request_ids[-1] != servicer.request_ids[0]


def test_a_call_that_was_begun_is_answered_or_refused_to_who_waits(flaky: tuple[Flaky, Transport]) -> None:
    servicer, transport = flaky
    servicer.refusals = 1
    waits = [transport.begin(lambda stubs: stubs.runs.SetParameters, runs_pb.SetParametersRequest()) for _ in range(2)]
    assert [wait() for wait in waits] == [runs_pb.SetParametersResponse()] * 2
    assert len(servicer.request_ids) == 3
    servicer.refusals, servicer.code = 1, grpc.StatusCode.RESOURCE_EXHAUSTED
    wait = transport.begin(lambda stubs: stubs.runs.SetParameters, runs_pb.SetParametersRequest())
    with pytest.raises(OSError, match="not now"):
        wait()


def test_other_errors_are_final(flaky: tuple[Flaky, Transport]) -> None:
    servicer, transport = flaky
    servicer.refusals, servicer.code = 1, grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(OSError, match="not now"):
        set_parameters(transport)
    assert len(servicer.request_ids) == 1


def test_patience_and_deadlines_are_bounded(flaky: tuple[Flaky, Transport]) -> None:
    servicer, transport = flaky
    servicer.refusals = 10**6
    with pytest.raises(DaemonUnavailableError):
        set_parameters(transport, unavailable_timeout_s=0.3)
    servicer.pause_s, servicer.refusals = 5.0, 0
    begun = time.monotonic()
    with pytest.raises(WaitTimeoutError) as caught:
        set_parameters(transport, timeout_s=0.2)
    assert isinstance(caught.value, TimeoutError)
    assert time.monotonic() - begun < 4


def test_a_closed_transport_stays_closed(flaky: tuple[Flaky, Transport]) -> None:
    _, transport = flaky
    transport.close()
    transport.close()
    with pytest.raises(RundError):
        set_parameters(transport)


def test_pauses_grow_to_a_bound_and_differ() -> None:
    waits = [pause for _, pause in zip(range(50), pauses(0.1, 2.0), strict=False)]
    assert 0.05 <= waits[0] <= 0.1
    assert all(1.0 <= wait <= 2.0 for wait in waits[10:])
    assert len(set(waits)) > 40


@pytest.mark.parametrize("address", ["unix:/x", "tcp:localhost:1", "tcp://localhost:1", "tcp:[::1]:1", "tls:h:1"])
def test_addresses(address: str) -> None:
    open_channel(address).close()


@pytest.mark.parametrize("address", ["", "unix:", "/x", "tcp:host", "tcp::1", "tcp:host:port", "http://h:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(InvalidUrlError, match="unix:PATH"):
        open_channel(address)


def test_pings_are_no_more_frequent_than_the_daemon_allows() -> None:
    assert dict(CHANNEL_OPTIONS)["grpc.keepalive_time_ms"] > 5_000


@dataclass
class Rows:
    """A table as the daemon reads it: pieces of some rows, and breaks at will."""

    batches: list[pa.RecordBatch]
    breaks_after: list[int] = field(default_factory=list)
    asked: list[RowRequest] = field(default_factory=list)
    reconnects: int = 0

    def ask(self, request: RowRequest) -> Iterator[metrics_pb.ReadMetricsResponse]:
        self.asked.append(request)
        left = self.breaks_after.pop(0) if self.breaks_after else None
        row, schema = 0, None
        for batch in self.batches:
            begin, row = row, row + batch.num_rows
            if row <= request.start_row:
                continue
            if left == 0:
                raise DaemonUnavailableError("away")
            left = None if left is None else left - 1
            message = metrics_pb.ReadMetricsResponse(next_row=row)
            if schema is None or not batch.schema.equals(schema):
                schema = batch.schema
                message.schema = schema.serialize().to_pybytes()
            message.batch = batch.slice(max(0, request.start_row - begin)).serialize().to_pybytes()
            yield message

    def reconnect(self) -> None:
        self.reconnects += 1

    def read(self, request: RowRequest | None = None) -> list[pa.RecordBatch]:
        found = read_batches(self.ask, request or RowRequest(), self.reconnect)
        return [batch for batch in found if batch.num_rows]


def test_a_read_goes_on_after_every_break() -> None:
    batches = [pa.record_batch({"a": [number] * 3}) for number in range(6)]
    rows = Rows(batches, breaks_after=[2, 0, 1])
    assert rows.read() == batches
    assert [request.start_row for request in rows.asked] == [0, 6, 6, 9]
    assert rows.reconnects == 3


def test_a_read_that_had_no_news_for_long_goes_on_after_a_break(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who follows a table may wait for hours. How long the daemon may be away counts from when it went."""
    monkeypatch.setattr("rund._transport.read_stream.UNAVAILABLE_TIMEOUT_S", 1.0)
    asked: list[RowRequest] = []

    def ask(request: RowRequest) -> Iterator[metrics_pb.ReadMetricsResponse]:
        asked.append(request)
        if len(asked) == 1:
            time.sleep(1.5)
            raise DaemonUnavailableError("it went away")
        return iter(())

    assert list(read_batches(ask, RowRequest(follow=True), lambda: None)) == []
    assert len(asked) == 2


def test_what_is_left_of_a_range_is_asked_for() -> None:
    assert RowRequest(start_row=5, row_limit=10).after(9) == RowRequest(start_row=9, row_limit=6)
    assert RowRequest(start_row=5, row_limit=10).after(20).row_limit == 0


def test_schemas_are_announced_once_and_again_when_they_change() -> None:
    batches = [pa.record_batch({"a": [1]}), pa.record_batch({"a": [2]}), pa.record_batch({"a": [3], "b": ["x"]})]
    rows = Rows(batches, breaks_after=[1])
    found = list(read_batches(rows.ask, RowRequest(), rows.reconnect))
    assert [batch.num_rows for batch in found] == [0, 1, 1, 0, 1]
    assert found[3].schema == batches[2].schema


def test_several_batches_in_one_answer() -> None:
    batch = pa.record_batch({"a": [1, 2]})
    data = batch.serialize().to_pybytes()
    answer = metrics_pb.ReadMetricsResponse(schema=batch.schema.serialize().to_pybytes(), batch=data * 3, next_row=6)
    found = list(read_batches(lambda request: iter([answer]), RowRequest(), lambda: None))
    assert pa.Table.from_batches(found).column("a").to_pylist() == [1, 2] * 3


def test_nothing_at_all() -> None:
    assert list(read_batches(lambda request: iter(()), RowRequest(), lambda: None)) == []
