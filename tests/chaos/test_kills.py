"""kill -9, of the daemon and of trainers, at moments that nobody chose. Rows are counted afterwards, one by one."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import rund
from rund import Run, RunStatus

pytestmark = pytest.mark.chaos

TRAINER = Path(__file__).with_name("logging_trainer.py")


def start_trainer(root: Path, rank: int, steps: int, *flags: str) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    environment |= {"RANK": str(rank)}
    environment.pop("XDG_RUNTIME_DIR", None)
    command = [sys.executable, str(TRAINER), str(root), str(rank), str(steps), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def rest_of_output(trainer: subprocess.Popen[str]) -> str:
    """All that a trainer still says, and its end. Not `communicate`: it misses what `readline` has read ahead."""
    with trainer:
        assert trainer.stdout is not None
        return trainer.stdout.read()


def rows_by_writer(run: Run) -> dict[int, list[int]]:
    """The steps of each writer, in the order of their commits; none if nothing was logged before the kill."""
    tables = [table for table in run.metrics_tables if table.name == "history" and table.row_count]
    if not tables:
        return {}
    history = tables[0].to_arrow()
    found: dict[int, list[int]] = {}
    for writer, step in zip(history["writer"].to_pylist(), history["step"].to_pylist(), strict=True):
        found.setdefault(writer, []).append(step)
    return found


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def log_while_the_daemon_dies(running: Any, writers: int, steps: int, kills: int) -> None:
    trainers = [start_trainer(running.root, rank, steps) for rank in range(writers)]
    for trainer in trainers:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "ready\n"
    chance = random.Random(20)
    for _ in range(kills):
        time.sleep(chance.uniform(0.05, 0.6))
        running.kill()
        running.start()
    for trainer in trainers:
        assert rest_of_output(trainer) == "finished\n"
        assert trainer.returncode == 0
    run = Run.from_names("many", "chaos", running.root)
    assert run.status == RunStatus.COMPLETED
    found = rows_by_writer(run)
    assert sorted(found) == list(range(writers))
    for steps_of_writer in found.values():
        # Each once, and in the order in which they were logged.
        assert steps_of_writer == list(range(steps))


@pytest.mark.long
def test_eight_writers_while_the_daemon_is_killed(daemon: Any) -> None:
    log_while_the_daemon_dies(daemon(), writers=8, steps=5_000, kills=4)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_160_000_rows_while_the_daemon_is_killed(daemon: Any) -> None:
    log_while_the_daemon_dies(daemon(), writers=8, steps=20_000, kills=20)


def kill_a_trainer(running: Any, moment: float, *, with_daemon: bool) -> None:
    trainer = start_trainer(running.root, 0, 10_000_000, "until killed")
    assert trainer.stdout is not None
    assert trainer.stdout.readline() == "ready\n"
    time.sleep(moment)
    if with_daemon:
        running.kill()
    trainer.kill()
    output = rest_of_output(trainer)
    # The last line may be cut off by the kill.
    returned = max((int(line) for line in output.split("\n")[:-1]), default=0)
    if with_daemon:
        running.start()
    run = Run.from_names("many", "chaos", running.root)
    wait_until(lambda: run.status == RunStatus.FAILED, "the run of a killed trainer stays RUNNING")
    # Not every file: who is killed while making its head leaves that behind until the next adoption.
    wait_until(lambda: not list((running.root / "journals").glob("*.journal")), "the journal is not drained")
    steps = rows_by_writer(run).get(0, [])
    assert len(steps) >= returned
    assert steps == list(range(len(steps)))
    run.delete()


@pytest.mark.parametrize("with_daemon", [False, True], ids=["trainer", "trainer and daemon"])
def test_a_killed_trainer_loses_nothing_that_log_returned_for(daemon: Any, with_daemon: bool) -> None:
    running = daemon()
    chance = random.Random(7)
    for _ in range(4):
        kill_a_trainer(running, chance.uniform(0.05, 0.8), with_daemon=with_daemon)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("with_daemon", [False, True], ids=["trainer", "trainer and daemon"])
def test_many_killed_trainers(daemon: Any, with_daemon: bool) -> None:
    running = daemon()
    chance = random.Random(11)
    for _ in range(150):
        kill_a_trainer(running, chance.uniform(0.0, 1.5), with_daemon=with_daemon)


def test_the_second_start_repairs_nothing(daemon: Any) -> None:
    running = daemon()
    run = rund.init("chaos", "torn", root_url=running.root)
    with run.metrics_writer("rows") as writer:
        writer.add_batch({"a": list(range(1000))})
        writer.flush()
        (segment,) = (running.root / "chaos/runs/torn/metrics/rows").iterdir()
        running.kill()
        committed = segment.stat().st_size
        with segment.open("ab") as file:
            file.write(b"\xff" * 12_345)
        running.start()
        assert segment.stat().st_size == committed
        running.kill()
        running.start()
        log = (running.root / "stderr.log").read_text()
        writer.add_batch({"a": list(range(1000, 2000))})
    assert run.metrics_tables[0]["a"].to_pylist() == list(range(2000))
    starts = [line for line in log.splitlines() if '"event": "recovered"' in line]
    assert '"cut": 1, "cut_bytes": 12345' in starts[-2]
    assert '"cut": 0, "cut_bytes": 0' in starts[-1]
    run.finish()


@pytest.mark.parametrize("damage", ["a flipped byte", "a cut-off end"])
def test_damage_is_told_and_other_runs_do_not_notice(daemon: Any, damage: str) -> None:
    running = daemon()
    with rund.init("chaos", "sound", root_url=running.root) as sound:
        sound.add_metrics({"a": [1, 2, 3]}, name="t")
    run = rund.init("chaos", "damaged", root_url=running.root)
    writer = run.metrics_writer("rows")
    writer.add_batch({"a": list(range(1000))})
    writer.flush()
    running.kill()
    (segment,) = (running.root / "chaos/runs/damaged/metrics/rows").iterdir()
    data = bytearray(segment.read_bytes())
    if damage == "a flipped byte":
        data[-100] ^= 1
    else:
        del data[-100:]
    segment.write_bytes(data)
    running.start()
    with pytest.raises(OSError, match=r"checksum|committed") as caught:
        run.metrics_tables[0].to_arrow()
    assert caught.value.code == "DATA_LOSS"  # type: ignore[attr-defined]
    assert sound.metrics_tables[0]["a"].to_pylist() == [1, 2, 3]
    writer.abort()
    run.finish()
