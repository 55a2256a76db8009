"""Chunks by other processes: the same bytes, a clear end when one dies, and none that outlives whom it works for."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rund_daemon.reducers.chunks import InPlace
from rund_daemon.reducers.fitted import Fitted, load, save
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.local_processes import LocalProcesses
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.reducers.transforming import transform

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("pacmap")]

PATIENCE_S = 100.0
ROWS = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    # PaCMAP maps without compiled code: its processes start fast, and what hands out the chunks is the same.
    return replace(
        fit(ROWS[:100], Parameters(method="pacmap", seed=1, options={"num_iters": 10}), "t", "e"), chunk_rows=32
    )


@pytest.fixture(scope="module")
def two() -> Iterator[LocalProcesses]:
    """This process and another; to start one takes seconds, so all tests have the same."""
    executor = LocalProcesses(2, least_chunks=1)
    yield executor
    executor.close()


@pytest.fixture
def other(fitted: Fitted, two: LocalProcesses):
    """The other one, which is ready."""
    if not two._others[0].is_waiting():
        transform(fitted, ROWS, "t", "e", executor=two)
        wait_until(two._others[0].is_waiting)
    return two._others[0]


def started_by(parent: int) -> list[int]:
    found = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for children in found for pid in children.read_text().split()]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_any_number_of_processes_gives_the_same_bytes(fitted: Fitted, two: LocalProcesses, tmp_path: Path) -> None:
    expected = transform(fitted, ROWS, "t", "e", executor=InPlace()).tobytes()
    save(replace(fitted), tmp_path / "model.arrow")
    for executor in (LocalProcesses(1), two, two):
        for model in (fitted, load(tmp_path / "model.arrow")):
            assert transform(model, ROWS, "t", "e", executor=executor).tobytes() == expected


def test_a_process_takes_part_and_stays_for_the_next_job(
    fitted: Fitted, two: LocalProcesses, other: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = started_by(os.getpid())
    asked = []
    original = other._process.map
    monkeypatch.setattr(other._process, "map", lambda rows: (asked.append(len(rows)), original(rows))[1])
    wait_until(lambda: (transform(fitted, ROWS, "t", "e", executor=two), asked)[1])
    assert started_by(os.getpid()) == before


def test_few_chunks_start_no_process(fitted: Fitted) -> None:
    executor = LocalProcesses(2)
    transform(fitted, ROWS[100:190], "t", "e", executor=executor)
    assert executor._others[0]._thread.ident is None


def test_a_file_that_took_the_place_of_a_model_is_not_taken_for_it(
    fitted: Fitted, two: LocalProcesses, other: Any, tmp_path: Path
) -> None:
    save(replace(fitted), tmp_path / "model.arrow")
    transform(load(tmp_path / "model.arrow"), ROWS, "t", "e", executor=two)
    other = replace(fitted, map=fitted.map + 1)
    (tmp_path / "model.arrow").unlink()
    save(other, tmp_path / "model.arrow")
    expected = transform(other, ROWS, "t", "e", executor=InPlace()).tobytes()
    for _ in range(3):
        assert transform(load(tmp_path / "model.arrow"), ROWS, "t", "e", executor=two).tobytes() == expected


def test_a_model_that_can_not_be_read_there_fails_the_job(
    fitted: Fitted, two: LocalProcesses, other: Any, tmp_path: Path
) -> None:
    broken = replace(fitted)
    (tmp_path / "model.arrow").write_bytes(b"nothing")
    object.__setattr__(broken, "path", tmp_path / "model.arrow")
    with pytest.raises(ChildProcessError, match="is no reducer that can be read"):
        wait_until(lambda: transform(broken, ROWS, "t", "e", executor=two) is None)
    assert other._process.is_alive()


def test_a_process_that_dies_fails_the_job_and_the_next_one_has_another(
    fitted: Fitted, two: LocalProcesses, other: Any
) -> None:
    process = other._process
    original = process.map

    def map_and_die(rows: np.ndarray) -> np.ndarray:
        os.kill(process._process.pid, signal.SIGKILL)
        return original(rows)

    process.map = map_and_die
    with pytest.raises(ChildProcessError, match="was ended by signal 9; run the reduction again"):
        # It may be done before the process wakes up; then it did not need it.
        wait_until(lambda: transform(fitted, ROWS, "t", "e", executor=two) is None)
    expected = transform(fitted, ROWS, "t", "e", executor=InPlace()).tobytes()
    assert transform(fitted, ROWS, "t", "e", executor=two).tobytes() == expected
    wait_until(other.is_waiting)
    assert other._process is not process


def test_a_process_that_is_killed_while_it_waits_is_replaced(fitted: Fitted, two: LocalProcesses, other: Any) -> None:
    expected = transform(fitted, ROWS, "t", "e", executor=InPlace()).tobytes()
    killed = other._process._process
    killed.kill()
    killed.wait()
    assert transform(fitted, ROWS, "t", "e", executor=two).tobytes() == expected
    wait_until(other.is_waiting)


def test_a_killed_parent_leaves_no_process(fitted: Fitted, tmp_path: Path) -> None:
    save(fitted, tmp_path / "model.arrow")
    code = f"""
import numpy as np
from pathlib import Path
from rund_daemon.reducers.fitted import load
from rund_daemon.reducers.local_processes import LocalProcesses
from rund_daemon.reducers.transforming import transform
executor = LocalProcesses(2, least_chunks=1)
fitted = load(Path({str(tmp_path / "model.arrow")!r}))
rows = np.random.default_rng(0).normal(size=(5000, 6)).astype(np.float32)
print("begun", flush=True)
while True:
    transform(fitted, rows, "t", "e", executor=executor)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"begun\n"
        wait_until(lambda: len(started_by(parent.pid)) == 1)
        children = started_by(parent.pid)
        parent.kill()
        parent.wait()
        wait_until(lambda: not any(is_running(pid) for pid in children))


def test_the_end_of_the_program_ends_them(fitted: Fitted, tmp_path: Path) -> None:
    save(fitted, tmp_path / "model.arrow")
    code = f"""
import numpy as np, os
from pathlib import Path
from rund_daemon.reducers.fitted import load
from rund_daemon.reducers import local_processes
local_processes.cores = lambda: 2
fitted = load(Path({str(tmp_path / "model.arrow")!r}))
list(local_processes.local_processes().map(fitted, np.zeros((640, 6), dtype=np.float32)))
while (process := local_processes.local_processes()._others[0]._process) is None:
    pass
print(process._process.pid)
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], stdout=subprocess.PIPE, check=True, timeout=100)
    assert not is_running(int(done.stdout))
