"""Writers that the daemon can't watch as processes: on other hosts, in other PID namespaces."""

from __future__ import annotations

import os
import queue
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rund import CauseKind, Run, RunStatus
from rund_daemon.authorization import Scope, TokenFile
from rund_pb.v1 import metrics_service_pb2 as ms
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import RawDaemon, create_run, get_run, new_id, running

SILENCE_S = 2.5
SILENCE = ("--writer-silence-seconds", str(SILENCE_S))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def elsewhere(writer_id: str) -> run_pb2.Writer:
    return run_pb2.Writer(writer_id=writer_id, host="elsewhere", boot_id="another", pid=1, start_ticks=1)


@pytest.fixture
def daemon_of_wire(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root", *SILENCE)


def status(daemon: RawDaemon, name: str) -> str:
    return run_pb2.RunStatus.Name(get_run(daemon, name).status).removeprefix("RUN_STATUS_")


def report(daemon: RawDaemon, name: str, writer: str, **fields: Any) -> float:
    request = rs.ReportWriterRequest(name=name, writer_id=writer, **fields)
    return daemon.rpc.ReportWriter(request).silence_seconds


def test_a_writer_that_falls_silent_fails_its_run_and_may_come_back(daemon_of_wire: RawDaemon) -> None:
    daemon, writer = daemon_of_wire, new_id()
    run = create_run(daemon, writer=elsewhere(writer)).name
    for _ in range(int(SILENCE_S * 4)):
        assert report(daemon, run, writer, alive=True) == SILENCE_S
        assert status(daemon, run) == "RUNNING"
        time.sleep(0.5)
    wait_until(lambda: status(daemon, run) == "FAILED", "silence was not noticed")
    failed = get_run(daemon, run)
    assert failed.cause.kind == run_pb2.Cause.KIND_SILENCE
    assert "elsewhere" in failed.cause.message
    assert failed.cause.last_heartbeat.ToMicroseconds() < failed.writers[0].finish_time.ToMicroseconds()
    assert failed.writers[0].cause == failed.cause
    report(daemon, run, writer, alive=True)
    back = get_run(daemon, run)
    assert (back.status, back.HasField("cause")) == (run_pb2.RUN_STATUS_RUNNING, False)
    assert not back.writers[0].HasField("finish_time")
    assert [end.cause for end in back.ends] == [failed.cause]
    finished = daemon.rpc.FinishRun(rs.FinishRunRequest(name=run, writer_id=writer)).run
    assert finished.status == run_pb2.RUN_STATUS_COMPLETED


def test_who_only_finishes_late_has_come_back_too(daemon_of_wire: RawDaemon) -> None:
    daemon, writer = daemon_of_wire, new_id()
    run = create_run(daemon, writer=elsewhere(writer)).name
    wait_until(lambda: status(daemon, run) == "FAILED", "silence was not noticed")
    finished = daemon.rpc.FinishRun(rs.FinishRunRequest(name=run, writer_id=writer)).run
    assert finished.status == run_pb2.RUN_STATUS_COMPLETED
    assert [end.cause.kind for end in finished.ends] == [run_pb2.Cause.KIND_SILENCE]


def test_a_run_goes_on_while_one_of_its_writers_is_heard_of(daemon_of_wire: RawDaemon) -> None:
    daemon, silent, heard = daemon_of_wire, new_id(), new_id()
    run = create_run(daemon, launch_id="l", writer=elsewhere(silent)).name
    create_run(daemon, launch_id="l", writer=elsewhere(heard))

    def one_is_gone() -> bool:
        report(daemon, run, heard, alive=True)
        return get_run(daemon, run).writers[0].HasField("finish_time")

    wait_until(one_is_gone, "silence was not noticed")
    assert status(daemon, run) == "RUNNING"
    report(daemon, run, silent, alive=True)
    assert not get_run(daemon, run).HasField("cause"), "it was the silent writer's"


@pytest.mark.long
def test_an_open_stream_is_a_sign_of_life_and_so_are_scalars(daemon_of_wire: RawDaemon) -> None:
    daemon, streams, calls = daemon_of_wire, new_id(), new_id()
    one = create_run(daemon, writer=elsewhere(streams)).name
    other = create_run(daemon, writer=elsewhere(calls)).name
    messages: queue.Queue[Any] = queue.Queue()
    opening = ms.WriteMetricsRequest.Open(
        metrics_table=f"{one}/metrics/t", stream_id="s", create_missing=True, writer_id=streams
    )
    messages.put(ms.WriteMetricsRequest(open=opening))
    answers = daemon.rpc.WriteMetrics(iter(messages.get, None))
    next(answers)
    for _ in range(int(SILENCE_S * 4)):
        daemon.rpc.LogScalars(ms.LogScalarsRequest(run=other, rows=[ms.LogScalarsRequest.Row()], writer_id=calls))
        time.sleep(0.5)
    assert (status(daemon, one), status(daemon, other)) == ("RUNNING", "RUNNING")
    messages.put(None)
    list(answers)
    wait_until(lambda: status(daemon, one) == "FAILED", "the end of the stream was not noticed")


@pytest.mark.long
def test_a_daemon_that_comes_back_gives_everybody_a_full_period(daemon_of_wire: RawDaemon) -> None:
    daemon, writer = daemon_of_wire, new_id()
    run = create_run(daemon, writer=elsewhere(writer)).name
    daemon.kill()
    time.sleep(SILENCE_S + 1)
    daemon.start()
    assert status(daemon, run) == "RUNNING"
    daemon.process.send_signal(signal.SIGSTOP)
    time.sleep(SILENCE_S + 1)
    daemon.process.send_signal(signal.SIGCONT)
    assert status(daemon, run) == "RUNNING", "it was the daemon that was silent"
    wait_until(lambda: status(daemon, run) == "FAILED", "silence was not noticed")


def test_a_writer_of_whose_host_nothing_is_known_is_left_alone(daemon_of_wire: RawDaemon) -> None:
    daemon, other = daemon_of_wire, new_id()
    left_alone = create_run(daemon, writer=run_pb2.Writer(writer_id=new_id())).name
    awaited = create_run(daemon, writer=elsewhere(other)).name
    wait_until(lambda: status(daemon, awaited) == "FAILED", "silence was not noticed")
    assert status(daemon, left_alone) == "RUNNING"


def test_a_writer_of_an_earlier_boot_died_with_the_host(daemon_of_wire: RawDaemon) -> None:
    daemon, writer = daemon_of_wire, new_id()
    here = run_pb2.Writer(writer_id=writer, host=socket.gethostname(), boot_id="before", pid=1, start_ticks=1)
    run = create_run(daemon, writer=here).name
    assert status(daemon, run) == "RUNNING", "it was heard of in this boot: another host of the same name"
    daemon.kill()
    daemon.start()
    wait_until(lambda: status(daemon, run) == "FAILED", "the restart was not noticed")
    assert get_run(daemon, run).cause.kind == run_pb2.Cause.KIND_HOST_RESTART


def test_a_process_id_that_is_used_again_is_another_process(daemon_of_wire: RawDaemon) -> None:
    daemon = daemon_of_wire
    boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    here = run_pb2.Writer(
        writer_id=new_id(), host=socket.gethostname(), boot_id=boot_id, pid=os.getpid(), start_ticks=1
    )
    run = create_run(daemon, writer=here).name
    wait_until(lambda: status(daemon, run) == "FAILED", "a process that has its id was taken for it")


# --- with the client of Python ---

TRAINER = """
    import os, socket, sys, time
    socket.gethostname = lambda: "elsewhere"
    import rund
    run = rund.init("silence", "far", address=sys.argv[1])
    print("begun", flush=True)
    for line in sys.stdin:
        run.log({"loss": 1.0})
    run.finish()
"""


@contextmanager
def trainer(program: str, *arguments: str, prefix: tuple[str, ...] = (), **environment: str) -> Iterator[Any]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    command = [*prefix, sys.executable, "-Wignore", "-c", textwrap.dedent(program), *arguments]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, env={**kept, **environment}, **pipes) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            yield process
        finally:
            process.kill()


@pytest.mark.long
def test_a_frozen_trainer_on_another_host_fails_and_goes_on_when_it_thaws(daemon: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        tcp = f"tcp:127.0.0.1:{free.getsockname()[1]}"
    running = daemon("--listen", f"unix:{tmp_path / 's'}", "--listen", tcp, *SILENCE)
    token = TokenFile(running.root).add(Scope.WRITE, "silence")[1]
    state = str(tmp_path / "state")
    with trainer(TRAINER, tcp, RUND_TOKEN=token, XDG_STATE_HOME=state, XDG_DATA_HOME=state) as process:
        run = Run.from_names("far", "silence", address=running.address)
        time.sleep(2 * SILENCE_S)
        assert run.status == RunStatus.RUNNING, "it has logged nothing, and is heard of all the same"
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: run.status == RunStatus.FAILED, "silence was not noticed")
        assert run.cause is not None
        assert run.cause.kind == CauseKind.SILENCE
        assert run.cause.last_heartbeat is not None
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: run.status == RunStatus.RUNNING, "its return was not noticed")
        process.stdin.write("log\n" * 100)
        process.stdin.close()
        assert process.wait(60) == 0
    assert run.status == RunStatus.COMPLETED
    assert [end.cause.kind for end in run.info.ends if end.cause] == [CauseKind.SILENCE]
    assert [len(table) for table in run.metrics_tables] == [100]


CONTAINED = """
    import os, sys, time
    import rund
    run = rund.init("silence", "contained", root_url=sys.argv[1])
    print("begun", flush=True)
    assert os.getpid() < 100, "a namespace of its own"
    for step, line in enumerate(sys.stdin):
        run.log({"loss": 1.0}, step)
    print("logged", flush=True)
    time.sleep(600)
"""
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def may_unshare() -> bool:
    try:
        return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="this user may not make PID namespaces")
@pytest.mark.long
def test_a_writer_in_another_pid_namespace_is_not_mistaken_for_a_dead_one(daemon: Any) -> None:
    running = daemon(*SILENCE)
    with trainer(CONTAINED, str(running.root), prefix=NAMESPACE) as process:
        run = Run.from_names("contained", "silence", running.root)
        process.stdin.write("log\n" * 50)
        wait_until(lambda: sum(map(len, run.metrics_tables)) == 50, "rows are missing")
        time.sleep(2 * SILENCE_S)
        assert run.status == RunStatus.RUNNING
        process.stdin.write("log\n" * 50)
        process.stdin.close()
        assert process.stdout.readline() == "logged\n"
        process.kill()  # and with it, all of the namespace
        wait_until(lambda: run.status == RunStatus.FAILED, "its end was not noticed")
    wait_until(lambda: sum(map(len, run.metrics_tables)) == 100, "rows of the dead writer are missing")
    assert run.cause is not None
    assert run.cause.kind == CauseKind.SILENCE
