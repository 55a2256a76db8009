"""Runs a training script as a user would, and says how it ended: what a tracker must never make worse."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rund import Run

HEAD = """
import atexit, faulthandler, os, signal, sys, threading, time
faulthandler.enable()
import rund
run = rund.init("harmless", sys.argv[2], root_url=sys.argv[1])
run.log({"who": "main"}, 0)
"""
DEADLOCK_S = 100


@dataclass(frozen=True)
class Training:
    """A script that has ended.

    Attributes:
        run: What it recorded.
        code: Its exit code; of a signal, negative.
        out: What it printed.
        error: What stands on stderr.
    """

    run: Run
    code: int
    out: str
    error: str

    def count(self) -> int:
        """How many rows of ``history`` there are."""
        return sum(table.row_count for table in self.run.metrics_tables if table.name == "history")

    def rows(self) -> list[dict[str, Any]]:
        """All rows of ``history``."""
        tables = [table for table in self.run.metrics_tables if table.name == "history"]
        return tables[0].to_arrow().to_pylist() if tables else []


def train(
    root: Path, script: str, *arguments: str, head: str = HEAD, expect: int = 0, deadlock_s: float = DEADLOCK_S
) -> Training:
    """Runs a script on a root. A deadlock ends it with a traceback of every thread."""
    name = f"run {time.monotonic_ns()}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    script = head + textwrap.dedent(script)
    # Long before the test's own timeout, so that the traceback is seen.
    watch = f"import faulthandler; faulthandler.dump_traceback_later({deadlock_s - 20}, exit=True)\n"
    command = [sys.executable, "-W", "error", "-c", watch + script, str(root), name, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=deadlock_s, check=False)
    assert done.returncode == expect, done.stderr[-4000:]
    assert "Segmentation fault" not in done.stderr
    return Training(Run.from_names(name, "harmless", root), done.returncode, done.stdout, done.stderr)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Waits for what happens in other processes."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
