"""kill -9 of daemon and trainer while files are handed over: nothing acked is lost, nothing doubled, no litter."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund

pytestmark = pytest.mark.chaos

RUND = Path(sys.executable).with_name("rund")
ROWS = 20_000
WRITER = """
import sys
import numpy as np
import rund
root, name, batches = sys.argv[1], sys.argv[2], int(sys.argv[3])
run = rund.Run.from_names(name, "hand-over", root)
writer = run.metrics_writer("t")
for number in range(batches):
    begin = number * 20_000
    writer.add_batch({"n": np.arange(begin, begin + 20_000), "v": np.full((20_000, 16), number, np.float32)})
    if number % 7 == 6:
        writer.flush()
        print(number, flush=True)
writer.close()
print("done", flush=True)
"""


def start_writer(root: Path, name: str, batches: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(root), name, str(batches)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def check_root(root: Path) -> None:
    """Nothing is damaged and nothing is left over. No daemon may run."""
    command = [str(RUND), "fsck", "--root", str(root), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["findings"] == []
    assert not list(root.glob("incoming/*"))


def values(root: Path, name: str) -> np.ndarray[Any, Any]:
    table = rund.Run.from_names(name, "hand-over", root).metrics_tables[0].to_arrow()
    assert np.array_equal(table["n"].to_numpy() // ROWS, table["v"].combine_chunks().flatten().to_numpy()[::16])
    return table["n"].to_numpy()


@pytest.mark.long
def test_a_daemon_that_is_killed_again_and_again(daemon: Any) -> None:
    running = daemon()
    run = rund.init("hand-over", "daemon", root_url=running.root)
    chance = random.Random(9)
    writer = start_writer(running.root, "daemon", 150)
    assert writer.stdout is not None
    assert writer.stdout.readline(), "it begins before the kills: one that finds no daemon would start its own"
    for _ in range(6):
        time.sleep(chance.uniform(0.1, 0.7))
        running.kill()
        running.start()
    with writer:
        assert writer.stdout.read().endswith("done\n")
    assert np.array_equal(values(running.root, "daemon"), np.arange(150 * ROWS))
    run.finish()
    running.stop()
    running.start()
    running.stop()
    check_root(running.root)


@pytest.mark.parametrize("with_daemon", [False, True], ids=["trainer", "trainer and daemon"])
def test_a_trainer_that_is_killed(daemon: Any, with_daemon: bool) -> None:
    running = daemon()
    chance = random.Random(4)
    for life in range(3):
        run = rund.init("hand-over", f"trainer-{life}", root_url=running.root)
        writer = start_writer(running.root, f"trainer-{life}", 10_000)
        assert writer.stdout is not None
        acked = int(writer.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.3))
        if with_daemon:
            running.kill()
        writer.kill()
        with writer:
            lines = writer.stdout.read().split("\n")[:-1]
        acked = max([acked, *map(int, lines)])
        if with_daemon:
            running.start()
        found = values(running.root, f"trainer-{life}")
        assert len(found) >= (acked + 1) * ROWS
        assert np.array_equal(found, np.arange(len(found)))
        run.finish()
    running.stop()
    running.start()
    running.stop()
    check_root(running.root)
