"""What a reduction costs those who write meanwhile: rows a second until acked, and the time of a call of `log`.

python benchmarks/ingest_beside_reduction.py --rounds 5

One process logs and flushes, in turns while no job runs and while one fits (the process for jobs is warm, so the fit
begins at once). Ratios are of neighbours in time, figures are medians. The job has all cores and the lowest priority.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rund
from machine import machine
from rund_daemon.cli.app import run as rund_command


class Figures(NamedTuple):
    """Of one turn."""

    rows_per_s: float
    p50_us: float
    p99_us: float


def main() -> None:
    """Measures and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=50_000, help="rows that are logged in a turn")
    parser.add_argument("--vectors", type=int, default=60_000, help="rows of the table that is reduced")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        client = rund.connect(root)
        try:
            turns = measure(client, root, arguments.rounds, arguments.steps, arguments.vectors)
        finally:
            rund_command(["stop", "--root", str(root)])
    document = {"machine": machine(), "steps": arguments.steps, "vectors": arguments.vectors, **summary(turns)}
    print(json.dumps(document, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


def measure(client: rund.Client, root: Path, rounds: int, steps: int, vectors: int) -> list[tuple[Figures, Figures]]:
    """Gives pairs of turns: alone, and beside a job."""
    foreign = rund.Table.from_dict({"id": np.arange(vectors)}, root_url=root)
    embeddings = np.random.default_rng(0).normal(size=(vectors, 128)).astype(np.float32)
    turns = []
    with rund.init("bench", "reduced", root_url=root) as reduced, rund.init("bench", "logged", root_url=root) as logged:
        warm = rund.Table.from_dict({"id": np.arange(500)}, "warm", root_url=root)
        reduced.add_metrics({"warm": embeddings[:500]}, foreign_table_url=warm.url)
        reduced.reduce_embeddings_per_dataset()
        reduced.add_metrics({"embedding": embeddings}, foreign_table_url=foreign.url)
        turn(logged, steps)
        for _ in range(rounds):
            alone = turn(logged, steps)
            job = reduced.reduce_embeddings_per_dataset(wait=False, n_neighbors=15)
            while not client.get_operation(job.name).message.startswith("fitting"):
                time.sleep(0.05)
            beside = turn(logged, steps)
            if client.get_operation(job.name).done:
                raise SystemExit("the job was done too soon; give more --vectors")
            client.cancel_operation(job.name)
            client.wait_operation(job.name)
            turns.append((alone, beside))
    return turns


def turn(run: rund.Run, steps: int) -> Figures:
    """Logs, and waits until all is acked."""
    times = np.empty(steps)
    clock = time.perf_counter
    begin = clock()
    for step in range(steps):
        before = clock()
        run.log({"loss": 0.5, "accuracy": 0.25})
        times[step] = clock() - before
    run.flush()
    seconds = clock() - begin
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return Figures(steps / seconds, float(p50), float(p99))


def summary(turns: Sequence[tuple[Figures, Figures]]) -> dict[str, object]:
    """Medians of the figures and of the ratios within a pair."""
    found: dict[str, object] = {}
    for place, name in enumerate(Figures._fields):
        alone = statistics.median(pair[0][place] for pair in turns)
        beside = statistics.median(pair[1][place] for pair in turns)
        ratio = statistics.median(pair[1][place] / pair[0][place] for pair in turns)
        found[name] = {"alone": round(alone, 2), "beside a reduction": round(beside, 2), "ratio": round(ratio, 3)}
    return found


if __name__ == "__main__":
    main()
