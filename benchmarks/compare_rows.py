"""Measures `Run.compare`: two tables of a million samples each, unless told otherwise, in two runs.

    python benchmarks/compare_rows.py [--rows 1000000]

Each call reads both tables through the daemon, so what is timed is what a user waits for.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import rund

CALLS = 5


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="Measures Run.compare.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="rund-bench-") as root:
        first, second = (recorded(root, name, rows, seed) for seed, name in enumerate(("first", "second")))
        timed("by example_id, one column", lambda: first.compare(second, columns=["loss"]))
        timed("by example_id, three columns", lambda: first.compare(second))
        timed("by a text, one column", lambda: first.compare(second, on="path", columns=["loss"]))
        subprocess.run([Path(sys.executable).with_name("rund"), "stop", "--root", root], check=True)


def recorded(root: str, name: str, rows: int, seed: int) -> rund.Run:
    """A run with one table, whose rows are in an order of their own."""
    chance = np.random.default_rng(seed)
    ids = chance.permutation(rows)
    columns = {
        "example_id": ids,
        "loss": chance.random(rows),
        "score": chance.random(rows),
        "hit": chance.random(rows) > 0.5,
        "path": pa.array([f"images/{number:08}.png" for number in ids.tolist()]),
    }
    run = rund.init("compare", name, root_url=root)
    run.add_metrics(columns)
    run.finish()
    return run


def timed(what: str, call: Callable[[], pa.Table]) -> None:
    """Makes a call some times and prints the median and the longest."""
    times = []
    for _ in range(CALLS):
        began = time.perf_counter()
        rows = call().num_rows
        times.append(time.perf_counter() - began)
    print(f"{what:30} {rows:>10,} rows   p50 {statistics.median(times):.3f} s   max {max(times):.3f} s")


if __name__ == "__main__":
    main()
