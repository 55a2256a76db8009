"""Makes a run with many metrics tables, and opens it: how long each takes, and whether it grows with their number.

python benchmarks/many_tables.py --tables 1000 --output benchmarks/results/many_tables.json

Opening is `Run.from_names(...).metrics_tables`, after which each table can be asked for its rows. The first one, of a
process that has just started, is measured in processes of their own; the median of the others is that of one process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rund
from machine import machine
from own_daemon import daemon

PARTS = 5
OPENING = """
import sys, time
from rund import Run, connect
connect(sys.argv[1])
begun = time.perf_counter()
tables = Run.from_names("tables", "many", sys.argv[1]).metrics_tables
print((time.perf_counter() - begun) * 1_000)
"""


def milliseconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1_000


def create(root: Path, count: int) -> list[float]:
    """Writes so many tables, each with five columns and two rows, and says how long each took."""
    rows = {
        "step": [1, 2],
        "loss": [0.5, 0.25],
        "label": ["a", "b"],
        "example_id": [0, 1],
        "embedding": np.zeros((2, 8), np.float32),
    }
    with rund.init("many", "tables", root_url=root) as run:
        return [milliseconds(lambda: run.add_metrics(rows)) for _ in range(count)]


def open_run(root: Path) -> int:
    """Opens the run and gives the number of its tables."""
    return len(rund.Run.from_names("tables", "many", root).metrics_tables)


def in_a_new_process(root: Path) -> float:
    """Opens it where nothing was opened before."""
    result = subprocess.run([sys.executable, "-c", OPENING, str(root)], check=True, capture_output=True, text=True)
    return float(result.stdout)


def main() -> None:
    """Measures, and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        with daemon(root):
            made = create(root, options.tables)
            assert open_run(root) == options.tables
            opened = [milliseconds(lambda: open_run(root)) for _ in range(options.rounds)]
            first = [in_a_new_process(root) for _ in range(5)]
    part = len(made) // PARTS
    figures = {
        "machine": machine(),
        "tables": options.tables,
        "create_ms_by_fifths": [round(statistics.median(made[n * part : (n + 1) * part]), 2) for n in range(PARTS)],
        "open_ms": round(statistics.median(opened), 1),
        "open_ms_fastest": round(min(opened), 1),
        "open_ms_in_a_new_process": round(statistics.median(first), 1),
    }
    text = json.dumps(figures, indent=1)
    if options.output:
        options.output.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
