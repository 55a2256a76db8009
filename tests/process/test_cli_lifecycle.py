"""The command line and the daemon as a process: tokens, status, serve and stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rund_daemon.cli.app import run

RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")
TIMEOUT_S = 60.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUND_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    folder: Path = daemon().root
    return folder


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class TestTokens:
    def test_a_daemon_on_tcp_asks_for_one(
        self, daemon: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, free_port: int
    ) -> None:
        root: Path = daemon("--listen", f"tcp:127.0.0.1:{free_port}").root
        address = ["--address", f"tcp:127.0.0.1:{free_port}"]
        assert run(["ls", *address]) == 5
        assert "rund token create" in capsys.readouterr().err
        assert run(["token", "create", "--scope", "read", "--root", str(root)]) == 0
        secret = capsys.readouterr().out.strip()
        assert run(["ls", *address, "--token", secret]) == 0
        monkeypatch.setenv("RUND_TOKEN", secret)
        assert run(["status", *address, "--root", str(root)]) == 0
        assert run(["status", "--root", str(root)]) == 0
        assert run(["call", "CreateRun", '{"parent": "projects/p"}', *address]) == 5
        monkeypatch.setenv("RUND_TOKEN", "nonsense")
        assert run(["ls", *address]) == 5


class TestLifecycle:
    def test_status_of_one_that_runs(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["status", "--root", str(root), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["state"], found["running"], found["root"]) == ("running", True, str(root))
        assert found["daemon"]["pid"] == json.loads((root / "daemon.json").read_text())["pid"]
        assert found["address"] in found["addresses"]
        assert found["daemon"]["run_count"] == 0
        assert run(["status", "--root", str(root)]) == 0
        assert "state\trunning\n" in capsys.readouterr().out

    def test_another_root_than_the_address_has(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        address = json.loads((root / "daemon.json").read_text())["address"]
        assert run(["ls", "--address", address, "--root", str(root)]) == 0
        capsys.readouterr()
        assert run(["ls", "--address", address, "--root", "/nowhere"]) == 1
        assert str(root) in capsys.readouterr().err

    def test_serve_and_stop(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root = tmp_path / "root"
        with subprocess.Popen([*RUND, "serve", "--root", str(root)], stderr=subprocess.PIPE, text=True) as serving:
            assert serving.stderr is not None
            while json.loads(serving.stderr.readline())["event"] != "ready":
                pass
            second = subprocess.run([*RUND, "serve", "--root", str(root)], capture_output=True, text=True, check=False)
            assert second.returncode == 3
            assert f"pid {serving.pid}" in second.stderr
            assert run(["stop", "--root", str(root), "--json"]) == 0
            assert json.loads(capsys.readouterr().out) == {"root": str(root), "stopped": True, "pid": serving.pid}
            assert serving.wait(TIMEOUT_S) == 0
        assert run(["status", "--root", str(root)]) == 4
        assert run(["stop", "--root", str(root)]) == 0

    def test_serve_refuses_bad_flags(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [*RUND, "serve", "--root", str(tmp_path), "--listen", "nonsense"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stderr.startswith("rund: listen")

    def test_what_is_left_of_a_killed_daemon_is_no_daemon(
        self, daemon: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        running = daemon()
        running.kill()
        root = str(running.root)
        assert (running.root / "daemon.json").exists()
        assert run(["status", "--root", root, "--json"]) == 4
        assert json.loads(capsys.readouterr().out)["state"] == "stopped"
        assert run(["ls", "--root", root]) == 4
        assert run(["stop", "--root", root]) == 0
        assert "no daemon runs" in capsys.readouterr().out

    def test_the_pid_of_another_process_is_left_alone(self, daemon: Any, capsys: pytest.CaptureFixture[str]) -> None:
        running = daemon()
        path = running.root / "daemon.json"
        fields = json.loads(path.read_text())
        with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as bystander:
            path.write_text(json.dumps({**fields, "pid": bystander.pid}))
            assert run(["stop", "--root", str(running.root), "--kill"]) == 6
            assert f"pid {bystander.pid}" in capsys.readouterr().err
            assert bystander.poll() is None
            bystander.communicate(b"\n")
        assert running.process.poll() is None

    def test_one_that_does_not_answer_is_ended_only_by_kill(
        self, daemon: Any, capsys: pytest.CaptureFixture[str]
    ) -> None:
        running = daemon()
        root = str(running.root)
        running.process.send_signal(signal.SIGSTOP)
        try:
            assert run(["status", "--root", root, "--json"]) == 4
            found = json.loads(capsys.readouterr().out)
            assert (found["state"], found["pid"]) == ("silent", running.process.pid)
            assert run(["stop", "--root", root]) == 4
            assert "--kill" in capsys.readouterr().err
            assert run(["stop", "--root", root, "--kill"]) == 0
            assert running.process.wait(TIMEOUT_S) == -signal.SIGKILL
        finally:
            running.process.kill()
