"""A daemon is found, or started once, however many ask; it belongs to nobody who asked."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import rund
from rund._locate import find_daemon, read_daemon_file

BEGIN_AND_FINISH = """
import rund, sys
with rund.init("p", root_url=sys.argv[1]) as run:
    print(run.daemon.info.instance_id)
"""


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Without anything that names another daemon."""
    for name in [*os.environ]:
        if name.startswith(("RUND_", "XDG_", "SLURM_", "TORCHELASTIC_")):
            monkeypatch.delenv(name)
    return dict(os.environ)


@pytest.fixture
def root(tmp_path: Path, environment: dict[str, str]) -> Iterator[Path]:
    """A root without a daemon; one that is started in the test is ended after it."""
    root = tmp_path / "root"
    yield root
    note = read_daemon_file(root)
    if note is not None and note.process_is_alive:
        os.kill(note.pid, signal.SIGTERM)
        wait_until_gone(note.pid)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 50
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return
        if state == "Z":
            return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def python(script: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", script, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_of_16_that_ask_at_once_one_starts_it(root: Path) -> None:
    callers = [python(BEGIN_AND_FINISH, str(root)) for _ in range(16)]
    results = [caller.communicate(timeout=100) for caller in callers]
    assert [caller.returncode for caller in callers] == [0] * 16, [error for _, error in results if error]
    assert len({out for out, _ in results}) == 1
    # Another one that found nobody answering on a busy machine has said that the root is in use, and ended.
    lines = [line for line in (root / "daemon.log").read_text().splitlines() if line.startswith("{")]
    assert [json.loads(line)["event"] for line in lines].count("ready") == 1
    assert len(list(rund.connect(root).list_runs("p"))) == 16


def test_it_outlives_who_started_it_and_holds_nothing_of_theirs(root: Path, tmp_path: Path) -> None:
    script = (
        """
import os, sys
leak = os.open(sys.argv[2], os.O_CREAT | os.O_WRONLY)
os.set_inheritable(leak, True)
"""
        + BEGIN_AND_FINISH
    )
    caller = python(script, str(root), str(tmp_path / "leak"), start_new_session=True)
    out, error = caller.communicate(timeout=60)  # it ends: nobody holds its pipes
    assert (caller.returncode, error) == (0, "")
    note = read_daemon_file(root)
    assert note is not None
    assert note.process_is_alive
    assert note.instance_id == out.strip()
    opened = set()
    for link in Path(f"/proc/{note.pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the daemon opens and closes files of its own
            opened.add(str(link.readlink()))
    assert str(tmp_path / "leak") not in opened
    with pytest.raises(ProcessLookupError):
        os.killpg(caller.pid, signal.SIGTERM)  # its session has nobody left
    assert os.getsid(note.pid) == note.pid


def test_a_daemon_that_ends_leaves_no_zombie(root: Path) -> None:
    script = """
import os, signal, sys, time, pathlib
import rund
run = rund.init("p", root_url=sys.argv[1])
pid = run.daemon.info.pid
run.finish()
os.kill(pid, signal.SIGTERM)
deadline = time.monotonic() + 50
while pathlib.Path(f"/proc/{pid}").exists():
    assert time.monotonic() < deadline, pathlib.Path(f"/proc/{pid}/stat").read_text()
    time.sleep(0.02)
"""
    caller = python(script, str(root))
    _, error = caller.communicate(timeout=60)
    assert (caller.returncode, error) == (0, "")


def test_one_that_runs_is_found(daemon: Any, environment: dict[str, str]) -> None:
    running = daemon()
    found = find_daemon(running.root)
    assert found is not None
    assert found.info.pid == running.process.pid
    again = find_daemon(running.root)
    assert again is not None
    assert again.transport is found.transport, "there is one channel to an address"


def test_a_daemon_that_was_killed_is_replaced(daemon: Any, environment: dict[str, str]) -> None:
    running = daemon()
    stale = running.address_file()
    running.kill()
    assert find_daemon(running.root) is None
    with rund.init("p", root_url=running.root) as run:
        pid = run.daemon.info.pid
        assert run.daemon.info.instance_id != stale["instance_id"]
    os.kill(pid, signal.SIGTERM)
    wait_until_gone(pid)


def test_an_address_file_of_another_root_is_not_believed(daemon: Any, root: Path) -> None:
    running = daemon()
    root.mkdir()
    (root / "daemon.json").write_text((running.root / "daemon.json").read_text())
    assert find_daemon(root) is None
    forged = {**running.address_file(), "instance_id": "another"}
    (running.root / "daemon.json").write_text(json.dumps(forged))
    assert find_daemon(running.root) is None


@pytest.mark.parametrize("rubbish", ["", "{}", "[]", '{"address": 1, "instance_id": 2, "pid": "x"}'])
def test_rubbish_in_the_address_file_is_replaced(root: Path, rubbish: str) -> None:
    root.mkdir()
    (root / "daemon.json").write_text(rubbish)
    assert rund.connect(root).server_info().root_url == str(root)


def test_a_daemon_that_can_not_start_says_why(root: Path) -> None:
    root.mkdir()
    (root / "rund.toml").write_text("no = [toml")
    with pytest.raises(ConnectionError) as caught:
        rund.connect(root)
    assert isinstance(caught.value, rund.DaemonUnavailableError)
    assert "rund.toml" in str(caught.value)


def test_a_root_that_can_not_be(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectionError, match="can't be used"):
        rund.connect(tmp_path / "file" / "root")


def test_nothing_is_started_where_it_is_not_wanted(root: Path) -> None:
    with pytest.raises(ConnectionError, match="rund serve"):
        rund.connect(root, start=False)
    assert not root.exists()


def test_without_the_daemon_package_the_remedy_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rund._start._DAEMON_MODULES", ("no_such_module",))
    with pytest.raises(ConnectionError, match=r"pip install 'rund\[daemon\]'"):
        rund.connect(root)


def test_the_environment_names_the_daemon(daemon: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    running = daemon()
    monkeypatch.setenv("RUND_ADDRESS", running.address)
    assert rund.connect().server_info().pid == running.process.pid
    assert rund.connect(running.root).server_info().pid == running.process.pid
    with pytest.raises(ConnectionError):
        rund.connect(root, start=False)  # a root that is named comes before the environment
    monkeypatch.delenv("RUND_ADDRESS")
    monkeypatch.setenv("RUND_ROOT", str(running.root))
    assert rund.connect().server_info().pid == running.process.pid


@pytest.mark.parametrize("address", ["nonsense", "tcp:host", "unix:", "http://x:1"])
def test_an_address_that_is_none(address: str, environment: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="unix:PATH"):
        rund.connect(address=address)
