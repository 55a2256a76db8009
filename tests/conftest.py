"""A real daemon for whoever needs one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 60.0

# How long an example takes is the machine's affair.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@dataclass
class RunningDaemon:
    """A daemon as a process of its own, with a root of its own."""

    root: Path
    flags: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return self.address_file()["address"]

    def address_file(self) -> dict[str, str]:
        """What `daemon.json` says."""
        return json.loads((self.root / "daemon.json").read_text())

    def start(self) -> None:
        """Starts it, again if it was killed, and returns when it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
        environment.pop("XDG_RUNTIME_DIR", None)
        command = [sys.executable, "-m", "rund_daemon", "serve", "--root", str(self.root), *self.flags]
        with (self.root / "stderr.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=environment, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            assert self.process.poll() is None, (self.root / "stderr.log").read_text()
            assert time.monotonic() < deadline, "the daemon was not ready in time"
            time.sleep(0.02)

    def stop(self) -> int:
        """Ends it as a service manager does, and gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Ends it as a power cut does."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)

    def _is_ready(self) -> bool:
        try:
            return self.address_file()["pid"] == self.process.pid
        except (FileNotFoundError, ValueError):
            return False


StartDaemon = Callable[..., RunningDaemon]


@pytest.fixture(scope="session")
def started_daemons() -> Iterator[list[RunningDaemon]]:
    """All that were started in this session, in order. Those that fixtures of the session have started end with it."""
    started: list[RunningDaemon] = []
    yield started
    for running in started:
        if running.process.poll() is None:
            running.kill()


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory, started_daemons: list[RunningDaemon]) -> StartDaemon:
    """Starts daemons, each on a new root: `daemon()` or `daemon("--listen", "tcp:127.0.0.1:0")`.

    They end with the test or the module whose fixtures have started them.
    """

    def start(*flags: str) -> RunningDaemon:
        started_daemons.append(RunningDaemon(tmp_path_factory.mktemp("root"), flags))
        return started_daemons[-1]

    return start


@pytest.fixture(scope="module", autouse=True)
def daemons_end_with_the_module(started_daemons: list[RunningDaemon]) -> Iterator[None]:
    """Dozens of idle daemons would take a tenth of the processors from the tests that follow."""
    yield from end_daemons(started_daemons)


@pytest.fixture(autouse=True)
def daemons_end_with_the_test(started_daemons: list[RunningDaemon]) -> Iterator[None]:
    """A fixture of this scope comes after those of the module, and before the others of the test."""
    yield from end_daemons(started_daemons)


def end_daemons(started: list[RunningDaemon]) -> Iterator[None]:
    """Kills, afterwards, those that were started meanwhile."""
    before = len(started)
    yield
    while len(started) > before:
        running = started.pop()
        if running.process.poll() is None:
            running.kill()
