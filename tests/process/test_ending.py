"""How a run ends when its process does, in processes that really end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rund
from rund import Cause, CauseKind, Run, RunStatus

HEAD = """
import os, signal, sys, time
import rund
run = rund.init("p", sys.argv[2], root_url=sys.argv[1])
run.log({"loss": 1.0})
"""


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


def end(root: Path, script: str, *, stdin: str | None = None, interactive: bool = False) -> tuple[Run, int, str]:
    name = f"run {time.monotonic_ns()}"
    flags = ["-i"] if interactive else []
    command = [sys.executable, "-W", "error", *flags, "-c", HEAD + script, str(root), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, input=stdin, check=False)
    return Run.from_names(name, "p", root), done.returncode, done.stderr


def rows(run: Run) -> int:
    return sum(len(table) for table in run.metrics_tables)


def test_the_end_of_the_script_completes_it(root: Path) -> None:
    run, code, error = end(root, "")
    assert (code, error) == (0, "")
    assert run.status is RunStatus.COMPLETED
    assert rows(run) == 1


def test_an_exception_that_nobody_catches_fails_it(root: Path) -> None:
    run, code, _ = end(root, "raise ValueError('lost')")
    assert code == 1
    assert run.status is RunStatus.FAILED
    assert run.cause == Cause(CauseKind.EXCEPTION, "ValueError: lost")
    assert rows(run) == 1


def test_an_exception_that_was_caught_does_not(root: Path) -> None:
    run, _, _ = end(root, "try: 1 / 0\nexcept ZeroDivisionError: pass")
    assert run.status is RunStatus.COMPLETED


def test_an_exception_in_the_block_fails_it(root: Path) -> None:
    run, code, _ = end(root, "with run: raise KeyError('k')")
    assert code == 1
    assert run.status is RunStatus.FAILED
    assert run.cause == Cause(CauseKind.EXCEPTION, "KeyError: 'k'")


def test_an_exit_code_fails_it_if_it_leaves_the_block(root: Path) -> None:
    run, code, _ = end(root, "with run: sys.exit(3)")
    assert code == 3
    assert run.status is RunStatus.FAILED
    assert run.cause == Cause(CauseKind.EXIT_CODE, "exit code 3", exit_code=3)
    run, code, _ = end(root, "with run: sys.exit()")
    assert (code, run.status) == (0, RunStatus.COMPLETED)


@pytest.mark.parametrize("block", ["with run: ", ""])
def test_ctrl_c_cancels_it(root: Path, block: str) -> None:
    run, code, _ = end(root, f"{block}signal.raise_signal(signal.SIGINT)")
    assert code in (1, 130, -signal.SIGINT)
    assert run.status is RunStatus.CANCELLED
    assert rows(run) == 1


def test_an_error_at_the_prompt_does_not_fail_it(root: Path) -> None:
    run, _, _ = end(root, "", stdin="1 / 0\nprint('on')\n", interactive=True)
    assert run.status is RunStatus.COMPLETED


def test_every_run_of_the_process_is_ended(root: Path) -> None:
    run, _, _ = end(root, "other = rund.init('p', sys.argv[2] + ' 2', root_url=sys.argv[1])")
    assert run.status is RunStatus.COMPLETED
    assert Run.from_names(f"{run.name} 2", "p", root).status is RunStatus.COMPLETED


def test_finishing_twice_is_finishing_once(root: Path) -> None:
    run, code, error = end(root, "run.finish(); run.finish(); rund.close()")
    assert (code, error) == (0, "")
    assert run.status is RunStatus.COMPLETED


def test_a_finished_run_takes_no_more_rows(root: Path) -> None:
    _, code, _ = end(root, "run.finish()\ntry: run.log({'a': 1})\nexcept RuntimeError: sys.exit(7)")
    assert code == 7


def test_a_forked_child_ends_nothing(root: Path) -> None:
    _, code, error = end(
        root,
        """
if os.fork() == 0:
    sys.exit(0)
os.wait()
assert rund.Run.from_url(run.url).status is rund.RunStatus.RUNNING
os._exit(0)
""",
    )
    assert (code, error) == (0, "")


def test_exit_is_not_held_up_by_a_daemon_that_hangs(root: Path, daemon: Any) -> None:
    running = daemon()
    script = f"{HEAD}os.kill({running.process.pid}, signal.SIGSTOP); run.log({{'loss': 2.0}})"
    begun = time.monotonic()
    command = [sys.executable, "-c", script, str(running.root), "hangs"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    took = time.monotonic() - begun
    os.kill(running.process.pid, signal.SIGCONT)
    assert done.returncode == 0
    assert "not ended cleanly" in done.stderr
    assert took < 20, "two seconds, and what Python itself takes on a busy machine"


def test_the_block_of_a_run_that_ended_elsewhere(root: Path) -> None:
    with rund.init("p", root_url=root) as run:
        Run.from_url(run.url).finish()
        assert run.status is RunStatus.COMPLETED
