"""Rows that a full journal made a trainer drop: it is told at the end, and whoever looks at the run sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rund import Run

FILL = """
    import os, signal, sys
    import rund
    run = rund.init("full", sys.argv[3], root_url=sys.argv[1])
    if sys.argv[4] == "in a fork":
        if os.fork():
            os.wait()
            os._exit(0)
    daemon = int(sys.argv[2])
    os.kill(daemon, signal.SIGSTOP)
    for step in range(20_000):
        run.log({"text": "x" * 100}, step)
    os.kill(daemon, signal.SIGCONT)
    if sys.argv[4] != "finishes":
        os.kill(os.getpid(), 9)
    run.finish()
"""
DROPPING = {"RUND_JOURNAL_BYTES": "1048576", "RUND_JOURNAL_BLOCK_SECONDS": "0", "RUND_JOURNAL_WHEN_FULL": "drop"}


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def fill(running: Any, name: str, how: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(FILL), str(running.root)]
    done = subprocess.run(
        [*command, str(running.process.pid), name, how],
        env={**kept, **DROPPING},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == (-signal.SIGKILL if how == "is killed" else 0), done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def running(daemon: Any) -> Any:
    return daemon()


def shown(running: Any, name: str) -> dict[str, Any]:
    command = [str(Path(sys.executable).with_name("rund")), "show", f"full/{name}", "--root", str(running.root)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    document = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=60).stdout
    facts = dict(line.split("\t", 1) for line in text.splitlines() if line.count("\t") == 1)
    return {"facts": facts, "document": json.loads(document)}


@pytest.mark.parametrize("how", ["finishes", "is killed", "in a fork"])
def test_dropped_rows_are_counted_in_the_run(running: Any, how: str) -> None:
    error = fill(running, how, how)
    run = Run.from_names(how, "full", running.root)
    wait_until(lambda: not list((running.root / "journals").iterdir()), "the journal stays")
    kept = sum(map(len, run.metrics_tables))
    dropped = sum(writer.dropped_rows for writer in run.info.writers)
    assert 0 < kept < 20_000
    assert kept + dropped == 20_000, "each row is in the run or is counted"
    if how == "finishes":
        assert f"{dropped} rows of {run.url} were dropped" in error
    seen = shown(running, how)
    assert seen["facts"]["dropped rows"] == str(dropped)
    assert sum(writer["dropped_rows"] for writer in seen["document"]["writers"]) == dropped
    running.kill()
    running.start()
    assert sum(writer.dropped_rows for writer in run.info.writers) == dropped
