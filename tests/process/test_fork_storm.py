"""Hundreds of forks, of every kind, while rows flow through an open stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.process.harmless import train, wait_until


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


FLOW = """
    stop = threading.Event()
    def flow(number):
        step = 0
        while not stop.is_set():
            run.log({"who": f"flow {number}"}, step)
            step += 1
            if step % 20 == 0:
                time.sleep(0.001)
        counts[number] = step
    counts = {}
    flows = [threading.Thread(target=flow, args=(number,)) for number in range(2)]
    for thread in flows: thread.start()
    def end():
        stop.set()
        for thread in flows: thread.join()
        run.finish()
        print(sum(counts.values()))
"""


def check(root: Path, script: str, children: int, *arguments: str) -> None:
    training = train(root, FLOW + script, *arguments)
    flowed = int(training.out)
    # The rows of the children are adopted, which comes when it comes; 3 rows a child.
    wait_until(lambda: training.count() >= 1 + flowed + 3 * children, "rows of children are missing")
    rows = training.rows()
    assert len(rows) == 1 + flowed + 3 * children
    assert len({(row["who"], row["step"]) for row in rows}) == len(rows), "each row once"
    wait_until(lambda: not list((root / "journals").iterdir()), "journals stay")


@pytest.mark.parametrize("forks", [40, pytest.param(400, marks=pytest.mark.long)])
def test_many_forks_each_of_which_logs(root: Path, forks: int) -> None:
    script = """
    for number in range(int(sys.argv[3])):
        pid = os.fork()
        if pid == 0:
            for step in range(3):
                run.log({"who": f"child {number}"}, step)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    end()
    """
    check(root, script, forks, str(forks))


def test_forks_from_threads_and_from_signal_handlers(root: Path) -> None:
    script = """
    pids = []
    def fork(name):
        pid = os.fork()
        if pid == 0:
            for step in range(3):
                rund.log({"who": name}, step)
            os._exit(0)
        pids.append(pid)
    def fork_often(number):
        for count in range(20):
            fork(f"thread {number} {count}")
    forkers = [threading.Thread(target=fork_often, args=(number,)) for number in range(3)]
    import itertools
    alarms, handled = itertools.count(), []
    def on_alarm(signum, frame):
        number = next(alarms)  # one handler may interrupt another
        if number < 40:
            fork(f"handler {number}")
            handled.append(number)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    for thread in forkers: thread.start()
    step = 1
    while len(handled) < 40:
        run.log({"who": "main"}, step)
        step += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    for thread in forkers: thread.join()
    for pid in list(pids):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    counts["main"] = step - 1
    end()
    """
    check(root, script, 100)


def test_what_execs_at_once_is_of_no_concern(root: Path) -> None:
    script = """
    import subprocess
    for number in range(30):
        subprocess.run(["true"], check=True)
        subprocess.run(["true"], check=True, preexec_fn=os.getpid)  # fork and exec, not vfork
        pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        assert os.waitpid(pid, 0)[1] == 0
    end()
    """
    check(root, script, 0)


MULTIPROCESSING = """
import multiprocessing, os, sys, warnings
import rund
run = None
def work(number):
    if run is not None:
        for step in range(3):
            run.log({"who": f"worker {number}"}, step)
    else:
        with rund.init("harmless", sys.argv[2], root_url=sys.argv[1], if_exists="reuse") as mine:
            for step in range(3):
                mine.log({"who": f"worker {number}"}, step)
    return os.getpid()
if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of Python, of a fork with threads
    run = rund.init("harmless", sys.argv[2], root_url=sys.argv[1])
    run.log({"who": "main"}, 0)
    context = multiprocessing.get_context(sys.argv[3])
    with context.Pool(3) as pool:
        pool.map(work, range(30), chunksize=1)
        pool.close()
        pool.join()
    run.finish()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_pools_of_every_start_method(root: Path, tmp_path: Path, method: str) -> None:
    # The methods that import the main module anew need a file.
    (tmp_path / "training.py").write_text(MULTIPROCESSING)
    head = "import runpy, sys\n"
    script = f"sys.argv[0] = {str(tmp_path / 'training.py')!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    training = train(root, script, method, head=head)
    wait_until(lambda: training.count() >= 91, "rows of workers are missing")
    rows = training.rows()
    assert sorted((row["who"], row["step"]) for row in rows if row["who"] != "main") == sorted(
        (f"worker {number}", step) for number in range(30) for step in range(3)
    )
