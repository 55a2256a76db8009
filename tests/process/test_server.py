"""The daemon as a process: its address, its doors, its health, its exit codes and its one line for each refusal."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from rund_daemon.authorization import Scope, TokenFile
from rund_pb.v1 import run_service_pb2 as rs
from rund_pb.v1 import server_service_pb2 as ss
from rund_pb.v1 import table_service_pb2 as ts

from tests.process.raw_daemon import RawDaemon, RefusedError, create_run, new_id, running

INFO = ss.GetServerInfoRequest()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("server") / "root")


@pytest.fixture(scope="module")
def tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    """A daemon that listens on a port of its own choice, and on a socket."""
    root = tmp_path_factory.mktemp("tcp") / "root"
    yield from running(root, "--listen", "tcp:127.0.0.1:0", "--listen", f"unix:{root.parent}/s.sock")


def serve(root: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rund_daemon", "serve", "--root", str(root), *flags]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, timeout=60)


# --- who it is ---


def test_it_says_who_it_is(daemon: RawDaemon) -> None:
    info = daemon.rpc.GetServerInfo(INFO).server_info
    address = daemon.address_file()
    assert (info.pid, info.root_url, info.instance_id) == (daemon.process.pid, str(daemon.root), address["instance_id"])
    assert (info.version, address["root"]) == (address["version"], str(daemon.root))
    assert info.limits.max_batch_bytes == 64 << 20
    assert info.limits.max_message_bytes > info.limits.max_batch_bytes
    assert set(info.capabilities) >= {"copy", "watch"}
    runs = info.run_count
    create_run(daemon)
    assert daemon.rpc.GetServerInfo(INFO).server_info.run_count == runs + 1


def test_the_address_file_names_this_very_process(daemon: RawDaemon) -> None:
    address = daemon.address_file()
    ticks = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    assert (address["pid"], address["start_ticks"]) == (daemon.process.pid, int(ticks))
    socket = Path(address["address"].removeprefix("unix:"))
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_it_is_live_and_ready(daemon: RawDaemon) -> None:
    assert (daemon.health(""), daemon.health("rund.v1")) == ("SERVING", "SERVING")


def test_a_client_without_the_protos_can_look_around(daemon: RawDaemon) -> None:
    channel = daemon.new_channel()
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    answers = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=60)
    names = {service.name for service in next(answers).list_services_response.service}
    channel.close()
    assert names >= {
        f"rund.v1.{name}Service" for name in ("Run", "Metrics", "Table", "Operation", "Reduction", "Server")
    }


# --- doors ---


def test_tcp_needs_a_token_and_its_scope_decides(tcp: RawDaemon) -> None:
    tokens = TokenFile(tcp.root)
    _, reader = tokens.add(Scope.READ, "")
    _, bound = tokens.add(Scope.WRITE, "mine")
    tcp_address, unix_address = tcp.address_file()["addresses"]
    assert tcp_address.startswith("tcp:127.0.0.1:")
    assert not tcp_address.endswith(":0")
    channel = tcp.new_channel(tcp_address)
    for token in ("", "wrong"):
        with pytest.raises(RefusedError) as refused:
            tcp.rpc_over(channel, token).GetServerInfo(INFO)
        assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    reading, writing = tcp.rpc_over(channel, reader), tcp.rpc_over(channel, bound)
    assert reading.GetServerInfo(INFO).server_info.pid == writing.GetServerInfo(INFO).server_info.pid
    assert list(reading.ListRuns(rs.ListRunsRequest(parent="projects/-")).runs) == []
    mine = rs.CreateRunRequest(parent="projects/mine")
    for rpcs, request in ((reading, mine), (writing, rs.CreateRunRequest(parent="projects/other"))):
        with pytest.raises(RefusedError) as refused:
            rpcs.CreateRun(request)
        assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    run = writing.CreateRun(mine).run
    with pytest.raises(RefusedError):
        writing.CopyRun(rs.CopyRunRequest(name=run.name, project_name="other"))
    with pytest.raises(RefusedError):
        list(writing.WatchRuns(rs.WatchRunsRequest(parent="projects/-")))
    channel.close()
    by_socket = tcp.new_channel(unix_address)
    assert tcp.rpc_over(by_socket).GetRun(rs.GetRunRequest(name=run.name)).run == run
    by_socket.close()


def test_with_tcp_only_configured_folders_may_be_named(tcp: RawDaemon, tmp_path: Path) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    with pytest.raises(RefusedError) as refused:
        tcp.rpc.RegisterTable(ts.RegisterTableRequest(url=str(tmp_path / "secret.csv")))
    assert (refused.value.code, refused.value.reason) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    channel = tcp.new_channel(tcp.address_file()["addresses"][1])
    with pytest.raises(RefusedError) as refused:
        tcp.rpc_over(channel).RegisterTable(ts.RegisterTableRequest(url=str(tmp_path / "secret.csv")))
    channel.close()
    assert (refused.value.code, refused.value.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert refused.value.field == "url"


# --- exit codes ---


def test_a_second_daemon_is_told_who_has_the_root(daemon: RawDaemon) -> None:
    second = serve(daemon.root)
    assert second.returncode == 3
    assert f"pid {daemon.process.pid}, listening on {daemon.address}" in second.stderr
    assert daemon.rpc.GetServerInfo(INFO).server_info.pid == daemon.process.pid
    assert not (daemon.root / "daemon.error").exists()


def newer_format(root: Path) -> None:
    import lmdb

    (root / "catalog").mkdir(parents=True)
    with lmdb.open(str(root / "catalog"), max_dbs=1, lib_version=0) as environment:
        meta = environment.open_db(b"meta")
        with environment.begin(write=True) as txn:
            txn.put(b"format", (99).to_bytes(4, "big"), db=meta)


def no_catalog(root: Path) -> None:
    (root / "catalog").mkdir(parents=True)
    (root / "catalog" / "data.mdb").write_bytes(b"garbage" * 1000)


FAILURES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int, str]] = {
    "flag": (lambda _: None, ("--listen", "http://x"), 2, "neither unix:PATH nor tcp:HOST:PORT"),
    "open to all": (lambda _: None, ("--listen", "tcp:0.0.0.0:0"), 2, "tls_certificate"),
    "file": (lambda root: (root.mkdir(), (root / "rund.toml").write_text("x = 1")), (), 2, "no setting"),
    "root is a file": (lambda root: root.touch(), (), 4, "--root"),
    "newer": (newer_format, (), 4, "format 99"),
    "no catalog": (no_catalog, (), 4, "catalog"),
    "no folder": (lambda _: None, ("--listen", "unix:/proc/nowhere/x.sock"), 5, "can't listen"),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_start_has_its_code_and_its_reason(tmp_path: Path, failure: str) -> None:
    prepare, flags, code, says = FAILURES[failure]
    root = tmp_path / "root"
    prepare(root)
    ended = serve(root, *flags)
    assert (ended.returncode, says in ended.stderr) == (code, True), ended.stderr
    if code != 2 and root.is_dir():
        assert says in (root / "daemon.error").read_text()
    assert not (root / "daemon.json").exists()


def test_a_port_that_is_taken(daemon: RawDaemon, tcp: RawDaemon, tmp_path: Path) -> None:
    taken = next(address for address in tcp.address_file()["addresses"] if address.startswith("tcp:"))
    ended = serve(tmp_path / "root", "--listen", taken)
    assert ended.returncode == 5
    assert "in use" in ended.stderr


def test_usage() -> None:
    command = [sys.executable, "-m", "rund_daemon", "nonsense"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 2


# --- living and ending ---


def test_stopping_and_starting_again(tmp_path: Path) -> None:
    for daemon in running(tmp_path / "root"):
        run = create_run(daemon, "kept").name
        first = daemon.address_file()["instance_id"]
        assert daemon.stop() == 0
        assert not (daemon.root / "daemon.json").exists()
        daemon.start()
        assert daemon.address_file()["instance_id"] != first
        assert daemon.rpc.GetRun(rs.GetRunRequest(name=run)).run.run_name == "kept"
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(60) == 0
        daemon.start()
        daemon.kill()
        assert (daemon.root / "daemon.json").exists(), "what a killed daemon leaves does not hinder the next"
        (daemon.root / "daemon.error").write_text("of an earlier start")
        daemon.start()
        assert not (daemon.root / "daemon.error").exists()
        assert daemon.stop() == 0
        events = [line["event"] for line in daemon.log()]
        assert events[-2:] == ["draining", "stopped"]


def test_of_many_that_start_at_once_one_serves(tmp_path: Path) -> None:
    daemons = [RawDaemon(tmp_path / "root") for _ in range(5)]
    for daemon in daemons:
        daemon.spawn()
    try:
        deadline = time.monotonic() + 60
        while (
            sum(daemon.process.poll() is None for daemon in daemons) > 1 or not (tmp_path / "root/daemon.json").exists()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        codes = [daemon.process.poll() for daemon in daemons]
        assert sorted(codes, key=str) == [3, 3, 3, 3, None]
        winner = daemons[codes.index(None)]
        assert winner.rpc.GetServerInfo(INFO).server_info.pid == winner.process.pid
    finally:
        for daemon in daemons:
            daemon.end()


def test_the_log_is_one_json_object_a_line(daemon: RawDaemon) -> None:
    for _ in range(3):
        with pytest.raises(RefusedError):
            daemon.rpc.GetRun(rs.GetRunRequest(name="projects/p/runs/nobody\n"))
    lines = daemon.log_path.read_text().splitlines()
    parsed = [json.loads(line) for line in lines]
    assert all({"time", "level", "logger", "event"} <= set(line) for line in parsed)
    refused = [line for line in parsed if line["event"] == "request_refused"]
    assert refused[-1]["method"] == "/rund.v1.RunService/GetRun"


def test_a_thousand_callers_at_once(daemon: RawDaemon) -> None:
    """More than LMDB has readers or a loop has patience: all are answered."""
    channel = daemon.new_channel()
    call = channel.unary_unary(
        "/rund.v1.RunService/CreateRun", rs.CreateRunRequest.SerializeToString, rs.CreateRunResponse.FromString
    )
    done = threading.Semaphore(0)
    futures = []
    for _ in range(1_000):
        future = call.future(rs.CreateRunRequest(parent="projects/many", request_id=new_id()), timeout=60)
        future.add_done_callback(lambda _: done.release())
        futures.append(future)
    for _ in futures:
        assert done.acquire(timeout=60)
    assert all(future.code() is grpc.StatusCode.OK for future in futures)
    channel.close()
    assert len({future.result().run.name for future in futures}) == 1_000
