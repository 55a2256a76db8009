"""Rows that a process has left in its journal reach the run, whoever has to send them."""

from __future__ import annotations

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
import rund
from rund import CauseKind, Run, RunStatus
from rund._journal_format import CURSOR_OFFSET


def run_program(program: str, *arguments: str) -> int:
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(program), *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    environment.pop("XDG_RUNTIME_DIR", None)
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def history(run: Run) -> list[dict[str, Any]]:
    tables = [table for table in run.metrics_tables if table.name == "history"]
    return tables[0].to_arrow().to_pylist() if tables else []


@pytest.fixture
def running(daemon: Any) -> Any:
    return daemon()


EARLIER_BOOT = """import os, sys, rund, rund._identity
    rund._identity.boot_id = lambda: "an earlier boot"
"""

LOG_AND_DIE = """
    import os, sys, rund
    run = rund.init("left", "dead", root_url=sys.argv[1])
    run.status  # by then the daemon looks at this process
    for step in range(500):
        run.log({"loss": 1 / (step + 1), "text": "x" * (step % 7)})
    os.kill(os.getpid(), 9)
"""


def test_500_of_500_rows_of_a_killed_process(running: Any) -> None:
    assert run_program(LOG_AND_DIE, str(running.root)) == -signal.SIGKILL
    run = Run.from_names("dead", "left", running.root)
    wait_until(lambda: len(history(run)) == 500, "rows are missing")
    assert [row["step"] for row in history(run)] == list(range(500))
    assert [row["text"] for row in history(run)] == ["x" * (step % 7) for step in range(500)]
    wait_until(lambda: run.status == RunStatus.FAILED, "the run stays RUNNING")
    assert run.cause is not None
    assert (run.cause.kind, run.cause.signal) == (CauseKind.SIGNAL, signal.SIGKILL)
    wait_until(lambda: not list((running.root / "journals").iterdir()), "the journal stays")
    table = running.root / "left/runs/dead/metrics/history"
    wait_until(lambda: [path.suffix for path in table.iterdir()] == [".arrow"], "its rows are not sealed")


FORK = """
    import os, sys, rund
    run = rund.init("left", "forks", root_url=sys.argv[1])
    run.log({"who": -1})
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            for step in range(250):
                run.log({"who": number}, step)
            os._exit(0)
        children.append(child)
    run.log({"who": -1})
    for child in children:
        os.waitpid(child, 0)
    run.finish()
"""


def test_forked_children_log_without_a_connection(running: Any) -> None:
    assert run_program(FORK, str(running.root)) == 0
    run = Run.from_names("forks", "left", running.root)
    wait_until(lambda: len(history(run)) == 1002, "rows of the children are missing")
    for number in range(4):
        assert [row["step"] for row in history(run) if row["who"] == number] == list(range(250))
    assert run.status == RunStatus.COMPLETED


FORK_AND_STAY = """
    import os, sys, time, rund
    run = rund.init("left", "stays", root_url=sys.argv[1])
    if os.fork() == 0:
        for step in range(100):
            run.log({"child": 1}, step)
        open(sys.argv[2], "w").close()
        time.sleep(60)
        os._exit(0)
    os.wait()
"""


def test_a_child_is_drained_while_it_lives(running: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(FORK_AND_STAY), str(running.root), str(tmp_path / "x")]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            wait_until((tmp_path / "x").exists, "the child has not logged")
            run = Run.from_names("stays", "left", running.root)
            wait_until(lambda: len(history(run)) == 100, "the rows wait for the child's end")
        finally:
            os.killpg(process.pid, signal.SIGKILL)


EXIT = """
    import os, sys, rund
    run = rund.init("left", "exits", root_url=sys.argv[1])
    run.status  # by then the daemon looks at this process
    os._exit(int(sys.argv[2]))
"""


@pytest.mark.parametrize(("code", "status"), [(3, RunStatus.FAILED), (0, RunStatus.COMPLETED)])
def test_the_exit_code_of_a_process_that_said_nothing(daemon: Any, code: int, status: RunStatus) -> None:
    running = daemon()
    assert run_program(EXIT, str(running.root), str(code)) == code
    run = Run.from_names("exits", "left", running.root)
    wait_until(lambda: run.status == status, "the end was not noticed")
    if code:
        assert run.cause is not None
        assert (run.cause.kind, run.cause.exit_code) == (CauseKind.EXIT_CODE, code)


def test_a_run_that_failed_is_resumed_and_keeps_its_earlier_end(running: Any) -> None:
    run_program(LOG_AND_DIE, str(running.root))
    dead = Run.from_names("dead", "left", running.root)
    wait_until(lambda: dead.status == RunStatus.FAILED, "the run stays RUNNING")
    with rund.init("left", "dead", root_url=running.root, resume=True) as run:
        assert run.uid == dead.uid
        assert run.status == RunStatus.RUNNING
        run.log({"loss": 0.0}, 500)
    assert run.status == RunStatus.COMPLETED
    assert [end.status for end in run.info.ends] == [RunStatus.FAILED]
    wait_until(lambda: len(history(run)) == 501, "rows are missing")


def test_rows_of_a_dead_process_wait_for_the_next_daemon(running: Any) -> None:
    program = LOG_AND_DIE.replace("for step", "os.kill(int(sys.argv[2]), 9)\n    for step", 1)
    run_program(program, str(running.root), str(running.process.pid))
    running.process.wait(20)
    running.start()
    run = Run.from_names("dead", "left", running.root)
    wait_until(lambda: len(history(run)) == 500, "rows are missing")


def test_a_loss_of_power_is_the_cause_and_the_rows_of_the_earlier_boot_arrive(daemon: Any) -> None:
    running = daemon()
    program = LOG_AND_DIE.replace("import os, sys, rund", EARLIER_BOOT).replace(
        "for step", "run.flush()\n    for step", 1
    )
    program = program.replace("os.kill(os.getpid(), 9)", "os.kill(int(sys.argv[2]), 9)\n    os.kill(os.getpid(), 9)")
    assert run_program(program, str(running.root), str(running.process.pid)) == -signal.SIGKILL
    running.process.wait()
    (head,) = (path for path in (running.root / "journals").glob("*.journal") if "." not in path.stem)
    content = bytearray(head.read_bytes())
    assert b"an earlier boot" in content
    content[CURSOR_OFFSET:] = bytes(len(content) - CURSOR_OFFSET)
    head.write_bytes(content)
    running.start()
    run = Run.from_names("dead", "left", running.root)
    wait_until(lambda: run.status == RunStatus.FAILED, "the run stays RUNNING")
    assert run.cause is not None
    assert run.cause.kind is CauseKind.HOST_RESTART
    wait_until(lambda: not list((running.root / "journals").iterdir()), "the journal stays")
    assert [row["step"] for row in history(run)] == list(range(500))
