"""SIGTERM while others write, read and wait: what was acked is there, and everybody is told."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rund_pb.v1 import metrics_service_pb2 as ms
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import run_service_pb2 as rs
from rund_pb.v1 import server_service_pb2 as ss

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    Write,
    arrow_stream,
    closing,
    create_run,
    create_table,
    get_run,
    new_id,
    opening,
    read,
    running,
    write,
)

pytestmark = pytest.mark.chaos


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    """A daemon that ends within four seconds, whoever hangs on."""
    yield from running(tmp_path / "root", RUND_GRACE_SECONDS="4")


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[RawDaemon]:
    """A daemon that would wait for a long time: if it ends soon, then for another reason."""
    yield from running(tmp_path / "root", RUND_GRACE_SECONDS="300")


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


def write_for_ever(daemon: RawDaemon, table: str, acked: threading.Event) -> tuple[list[Any], RefusedError]:
    """Sends batches of ten rows until the call ends; gives the answers and the error it ended with.

    It goes on sending after the daemon has said that it stops, as a caller does that has not read that yet.
    """
    end = threading.Event()

    def messages() -> Iterator[Write]:
        yield opening(table)
        sequence = 0
        while not end.wait(0.001):
            sequence += 1
            yield arrow_stream(sequence, numbers(sequence * 10 - 10, sequence * 10))

    answers = []
    try:
        for answer in daemon.rpc.WriteMetrics(messages()):
            answers.append(answer)
            if answer.HasField("ack"):
                acked.set()
    except RefusedError as refused:
        return answers, refused
    finally:
        end.set()
    raise AssertionError("the call did not end with an error")


def test_writers_are_told_and_every_acked_batch_is_kept(patient: RawDaemon) -> None:
    daemon = patient
    tables = [create_table(daemon, create_run(daemon).name, "t").name for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        acked = [threading.Event() for _ in tables]
        writing = [pool.submit(write_for_ever, daemon, *each) for each in zip(tables, acked, strict=True)]
        assert all(event.wait(30) for event in acked)
        daemon.process.send_signal(signal.SIGTERM)
        ended = [writer.result(60) for writer in writing]
    assert daemon.process.wait(60) == 0
    daemon.stop()
    daemon.start()
    for table, (answers, refused) in zip(tables, ended, strict=True):
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "DRAINING")
        assert refused.retry_after_s is not None
        assert answers[-1].HasField("draining"), "the last word says what is durable"
        durable = answers[-1].draining.committed_sequence
        acked = [answer.ack.committed_sequence for answer in answers if answer.HasField("ack")]
        assert acked == sorted(acked)
        assert 0 < max(acked) <= durable
        assert refused.metadata["committed_sequence"] == str(durable)
        assert read(daemon, table).column("x").to_pylist() == list(range(durable * 10))
    assert daemon.log("recovered")[-1]["cut"] == 0
    assert not daemon.log("request_failed")


def test_those_who_wait_are_told(patient: RawDaemon) -> None:
    daemon = patient
    run = create_run(daemon).name
    table = create_table(daemon, run, "t").name
    write(daemon, opening(table), arrow_stream(1, numbers(0, 10)), closing())
    answered = threading.Barrier(3, timeout=60)

    def wait_in(answers: Iterator[object]) -> RefusedError:
        next(answers)
        answered.wait()
        with pytest.raises(RefusedError) as refused:
            list(answers)
        return refused.value

    with ThreadPoolExecutor(2) as pool:
        follow = ms.ReadMetricsRequest(metrics_table=table, follow=True)
        watch = rs.WatchRunsRequest(parent="projects/-")
        waiting = [
            pool.submit(wait_in, daemon.rpc.ReadMetrics(follow)),
            pool.submit(wait_in, daemon.rpc.WatchRuns(watch)),
        ]
        answered.wait()
        daemon.process.send_signal(signal.SIGTERM)
        refusals = [waiter.result(60) for waiter in waiting]
    assert daemon.process.wait(60) == 0
    assert [(refused.code, refused.reason) for refused in refusals] == [("UNAVAILABLE", "DRAINING")] * 2


def test_it_says_not_serving_while_it_drains_and_takes_nothing_new(daemon: RawDaemon) -> None:
    table = create_table(daemon, create_run(daemon).name, "t").name
    slow = slow_reader(daemon, table)
    channel = daemon.new_channel()
    statuses = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service="rund.v1"))
    serving = health_pb2.HealthCheckResponse
    assert next(statuses).status == serving.SERVING
    daemon.process.send_signal(signal.SIGTERM)
    assert next(statuses).status == serving.NOT_SERVING
    codes = [""]
    while daemon.process.poll() is None:
        try:
            create_run(daemon)
            codes.append("")
        except RefusedError as refused:
            codes.append(refused.code)
        time.sleep(0.05)
    assert set(codes) <= {"", "UNAVAILABLE", "CANCELLED"}
    assert codes == sorted(codes, key=bool), "once it refuses it takes nothing more"
    assert codes[-1]
    slow.cancel()
    channel.close()
    assert daemon.process.returncode == 0
    assert not (daemon.root / "daemon.json").exists()


def slow_reader(daemon: RawDaemon, table: str) -> grpc.Future:
    """A caller that reads one piece and no more: a stop must not wait for it for ever."""
    batch = pa.record_batch({"x": np.zeros(1 << 20)})
    list(daemon.rpc.WriteMetrics(iter([opening(table, "large"), *(arrow_stream(s, batch) for s in range(1, 9))])))
    call = daemon.new_channel().unary_stream(
        "/rund.v1.MetricsService/ReadMetrics",
        ms.ReadMetricsRequest.SerializeToString,
        ms.ReadMetricsResponse.FromString,
    )(ms.ReadMetricsRequest(metrics_table=table))
    next(call)
    return call


def test_a_stop_seals_what_is_open_and_the_next_start_has_nothing_to_do(patient: RawDaemon) -> None:
    daemon = patient
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    list(daemon.rpc.WriteMetrics(iter([opening(table), arrow_stream(1, numbers(0, 10))])))
    assert daemon.stop() == 0
    (path,) = (daemon.root / "demo" / "runs" / "run" / "metrics" / "t").iterdir()
    assert path.suffix == ".arrow"
    with pa.ipc.open_file(path) as file:
        assert file.read_all().column("x").to_pylist() == list(range(10))
    assert (daemon.root / "demo" / "runs" / "run" / "run.json").exists()
    daemon.start()
    assert daemon.log("recovered")[-1]["segments"] == 0
    list(daemon.rpc.WriteMetrics(iter([opening(table), arrow_stream(2, numbers(10, 20))])))
    assert read(daemon, table).column("x").to_pylist() == list(range(20))


def test_a_second_signal_ends_it_at_once(patient: RawDaemon) -> None:
    daemon = patient
    table = create_table(daemon, create_run(daemon).name, "t").name
    slow = slow_reader(daemon, table)
    daemon.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while not daemon.log("draining") and time.monotonic() < deadline:
        time.sleep(0.005)
    assert daemon.process.poll() is None, "it waits for the reader"
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) == 0
    slow.cancel()
    daemon.stop()
    daemon.start()
    assert read(daemon, table, columns=[]).num_rows == 8 << 20


def test_requests_that_come_while_it_drains_are_answered_or_unavailable(daemon: RawDaemon) -> None:
    """Never an internal error, never silence; and whatever was answered is there afterwards."""
    created: list[str] = []
    codes: list[str] = []

    def keep_calling() -> None:
        while True:
            try:
                created.append(create_run(daemon).name)
            except RefusedError as refused:
                codes.append(refused.code)
                return

    threads = [threading.Thread(target=keep_calling) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    daemon.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    assert daemon.process.wait(60) == 0
    assert set(codes) <= {"UNAVAILABLE", "CANCELLED"}
    daemon.stop()
    daemon.start()
    assert all(get_run(daemon, name).name == name for name in created)
    assert not daemon.log("request_failed")


def test_an_operation_that_is_waited_for(daemon: RawDaemon) -> None:
    run = create_run(daemon).name
    operation = daemon.rpc.CopyRun(rs.CopyRunRequest(name=run, request_id=new_id())).operation
    assert daemon.stop() == 0
    daemon.start()
    done = daemon.rpc.GetOperation(ops.GetOperationRequest(name=operation.name)).operation
    assert done.done
    assert daemon.rpc.GetServerInfo(ss.GetServerInfoRequest()).server_info.pid == daemon.process.pid
