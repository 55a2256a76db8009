"""Eight processes write into one run while the daemon is killed under them: each row is there, and once."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.chaos.kill_rounds import wait_for
from tests.process.raw_daemon import RawDaemon, create_run, create_table, get_table, read, running

pytestmark = pytest.mark.chaos

WRITERS = 8
SCRIPT = Path(__file__).with_name("batch_writer.py")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def start_writers(daemon: RawDaemon, table: str, steps: int, pause_s: float) -> list[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), str(daemon.root), table]
    return [
        subprocess.Popen([*command, str(rank), str(steps), str(pause_s)], stdout=subprocess.PIPE, text=True)
        for rank in range(WRITERS)
    ]


def check(daemon: RawDaemon, table: str, steps: int) -> None:
    """160,000 rows for 20,000 steps: none lost, none doubled, each writer's in its order."""
    rows = read(daemon, table)
    assert rows.num_rows == WRITERS * steps
    ranks, found = rows.column("rank").to_numpy(), rows.column("step").to_numpy()
    for rank in range(WRITERS):
        assert np.array_equal(found[ranks == rank], np.arange(steps))


def kill_while_they_write(daemon: RawDaemon, steps: int, pause_s: float, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    table = create_table(daemon, create_run(daemon, "many").name, "t").name
    writers = start_writers(daemon, table, steps, pause_s)
    try:
        wait_for(lambda: get_table(daemon, table).row_count, lambda: "nobody writes")
        for _ in range(kills):
            time.sleep(chance.uniform(0.05, 1.0))
            if chance.random() < 0.2:
                assert daemon.stop() == 0
            else:
                daemon.kill()
            daemon.start()
        begun_again = [int(writer.communicate(timeout=300)[0]) for writer in writers]
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
    assert [writer.returncode for writer in writers] == [0] * WRITERS
    assert sum(begun_again) > 0, "they were done before the first kill"
    check(daemon, table, steps)
    daemon.restart()
    recovered = daemon.log("recovered")
    assert all(line["damaged"] == 0 for line in recovered)
    assert recovered[-1]["cut"] == 0, "nobody has written since: there is nothing to cut"
    check(daemon, table, steps)
    assert daemon.stop() == 0
    daemon.start()
    check(daemon, table, steps)
    assert get_table(daemon, table).row_count == WRITERS * steps
    assert not daemon.log("request_failed")


def test_eight_writers_and_a_daemon_that_is_killed_three_times(daemon: RawDaemon) -> None:
    kill_while_they_write(daemon, steps=4_000, pause_s=0.02, kills=3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(3))
def test_160_000_rows_and_a_daemon_that_is_killed_twenty_times(daemon: RawDaemon, seed: int) -> None:
    kill_while_they_write(daemon, steps=20_000, pause_s=0.05, kills=20, seed=100 + seed)
