"""The work that every tracker gets: names, sizes, and the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from peers import Columns, Vectors

BATCHES = 100
PROCESSES = 8
KILLED_ROWS = 500
WIDTH = 512
ROW = {"loss": 0.5, "accuracy": 0.25}


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        count: How many of `unit` the whole work is.
        quick: The same for a quick look.
        needs: The function that a peer must have for it.
    """

    name: str
    title: str
    count: int
    quick: int
    unit: str
    needs: str = "open_scalars"


W1 = Workload("w1", "W1: two scalars a step, one call a step", 100_000, 100_000, "steps")
W2 = Workload("w2", "W2: rows of five columns, in 100 batches", 1_000_000, 1_000_000, "rows", "write_table")
W3 = Workload("w3", "W3: vectors of 512 float32, in 100 batches", 100_000, 100_000, "vectors", "write_vectors")
W4 = Workload("w4", "W4: eight processes, into one run", 100_000, 100_000, "steps")
LOG = Workload("log", "one call of log, two scalars", 200_000, 200_000, "calls")
LOOP = Workload("loop", "a training loop of 1 ms a step", 60, 30, "times four blocks")
KILL = Workload("kill", "500 rows, then SIGKILL", KILLED_ROWS, KILLED_ROWS, "rows", "kept")
MEMORY = Workload("memory", "the daemon's memory through all of it", 10, 2, "times W1", "daemon_mib")

WORKLOADS = {workload.name: workload for workload in (W1, W2, W3, W4, LOG, LOOP, KILL, MEMORY)}


def table_batches(rows: int) -> list[Columns]:
    """Rows about samples: two integers and three floats."""
    chance, size = np.random.default_rng(2), rows // BATCHES
    return [
        {
            "step": np.arange(number * size, (number + 1) * size, dtype=np.int64),
            "sample": chance.integers(0, 1 << 40, size),
            "loss": chance.random(size),
            "accuracy": chance.random(size),
            "weight": chance.random(size),
        }
        for number in range(BATCHES)
    ]


def vector_batches(rows: int) -> list[Vectors]:
    """Vectors such as the activations of a layer."""
    chance = np.random.default_rng(3)
    return [chance.random((rows // BATCHES, WIDTH), dtype=np.float32) for _ in range(BATCHES)]
