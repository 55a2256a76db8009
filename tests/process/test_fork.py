"""What a forked child may do, in processes that really fork."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rund import Run

HEAD = """
import multiprocessing, os, sys, threading
import rund
run = rund.init("p", sys.argv[2], root_url=sys.argv[1])
def child(work):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


def run_script(root: Path, script: str) -> Run:
    name = f"run {time.monotonic_ns()}"
    command = [sys.executable, "-W", "error", "-c", HEAD + script, str(root), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return Run.from_names(name, "p", root)


def test_what_needs_grpc_is_refused_at_once(root: Path) -> None:
    run_script(
        root,
        """
def work():
    for call in (
        lambda: run.status,
        lambda: run.add_metrics({"a": [1]}),
        lambda: run.set_parameters({"a": 1}),
        lambda: rund.init("p", root_url=sys.argv[1]),
        lambda: rund.connect(sys.argv[1]),
        lambda: rund.Run.from_url(run.url),
    ):
        try:
            call()
        except rund.ForkedProcessError as error:
            assert isinstance(error, RuntimeError)
            assert "spawn" in str(error)
        else:
            raise AssertionError(call)
child(work)
run.finish()
""",
    )


def test_the_parent_goes_on(root: Path) -> None:
    run = run_script(
        root,
        """
writer = run.metrics_writer("m")
for step in range(20):
    run.log({"a": step})
    writer.add_row({"a": step})
    writer.flush()
    child(lambda: None)
writer.close()
run.finish()
""",
    )
    assert [len(table) for table in run.metrics_tables] == [20, 20]


def test_children_log_into_journals_of_their_own(root: Path) -> None:
    run_script(
        root,
        """
child(lambda: run.log({"first": "child"}))  # before the parent has a journal
run.log({"a": 1})
child(lambda: [rund.log({"a": step}) for step in range(10)])
child(lambda: child(lambda: run.log({"grand": "child"})))
child(run.finish)
child(run.flush)
assert run.status is rund.RunStatus.RUNNING
run.finish()
""",
    )


def test_threads_that_talk_while_it_forks(root: Path) -> None:
    run_script(
        root,
        """
stop = threading.Event()
def talk():
    while not stop.is_set():
        run.set_parameters({"a": 1})
threads = [threading.Thread(target=talk) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(50):
    child(lambda: run.log({"a": 1}))
stop.set()
for thread in threads: thread.join()
run.finish()
""",
    )


def test_a_process_that_did_not_talk_yet_may_fork_freely(root: Path, tmp_path: Path) -> None:
    script = """
import multiprocessing, sys
import rund
def work(number):
    with rund.init("p", f"forked {number}", root_url=sys.argv[1]) as run:
        run.log({"a": number})
if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=work, args=(number,)) for number in range(3)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
"""
    subprocess.run([sys.executable, "-W", "error", "-c", script, str(root)], check=True, timeout=100)
    assert [len(Run.from_names(f"forked {number}", "p", root).metrics_tables) for number in range(3)] == [1, 1, 1]
