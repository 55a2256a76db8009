"""Measures maps of many vectors beside umap-learn called directly: time, processor time, memory, and their worth.

    .venvs/reduce/bin/python benchmarks/reductions.py [--rows 100000] [--rounds 1] [--quick]

Each side fits one array and maps another of the same size, in a process of its own, twice: first cold, with all that is
imported and compiled, then warm. The sides take turns. Then the second array is mapped once more through the kept
model, by one thread and by all, in turns; a daemon makes a map of both as epochs of a run; and a run is logged to while
a job goes on. Both sides have the same parameters, and a seed. The figures go to `benchmarks/results/reductions.json`,
and the page that is made of them to `docs/performance-of-maps.md`. `--quick` takes a fifth of the rows and leaves
umap-learn out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
from machine import machine
from reduction_page import RESULTS, text, write
from reduction_sides import SEED, Figures, Matrix, Peak

HERE = Path(__file__).parent
WIDTH = 128


def main() -> None:
    """Measures, prints the table, and writes figures and page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--method", default="umap", choices=["umap", "pacmap"])
    parser.add_argument("--quick", action="store_true", help="two minutes, and not written to the results")
    parser.add_argument("--output", type=Path, help="file for the figures; no page is written then")
    options = parser.parse_args()
    rows = options.rows // 5 if options.quick else options.rows
    beside = options.method == "umap" and not options.quick
    document = {"rows": rows, "width": WIDTH, "method": options.method} | measured(
        rows, options.method, options.rounds, beside_umap_learn=beside
    )
    document |= {"machine": machine()}
    if options.output:
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    elif not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=1) + "\n")
        write(document)
    print(text(document))


def measured(rows: int, method: str, rounds: int, *, beside_umap_learn: bool) -> Figures:
    """All figures."""
    began = perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first, second = np.split(clustered(2 * rows), 2)
        np.save(folder / "first.npy", first)
        np.save(folder / "second.npy", second)
        sides = (*(["umap-learn"] if beside_umap_learn else []), "rund", "threads")
        found: Figures = {
            "rounds": [{side: _in_a_process(side, folder, method) for side in sides} for _ in range(rounds)]
        }
        found |= {side: _in_a_process(side, folder, method) for side in ("job", "digits")}
        found["ingest"] = _ingest(folder, rows)
    return found | {"seconds": perf_counter() - began}


def clustered(rows: int) -> Matrix:
    """Vectors as a network's last layer but one gives: groups of unlike size and spread, on bent surfaces."""
    random = np.random.default_rng(SEED)
    groups, inner, hidden = 40, 12, 256
    group = random.choice(groups, rows, p=random.dirichlet(np.full(groups, 2.0)))
    spread = random.gamma(4.0, 0.15, size=(groups, inner))
    inside = random.normal(size=(groups, inner))[group] * 2.5 + random.normal(size=(rows, inner)) * spread[group]
    bent = np.maximum(inside @ random.normal(size=(inner, hidden)) / np.sqrt(inner) + random.normal(size=hidden) / 2, 0)
    vectors = bent @ random.normal(size=(hidden, WIDTH)) / np.sqrt(hidden)
    noise = random.normal(size=vectors.shape) * 0.05 * vectors.std()
    return np.asarray(vectors + noise, dtype=np.float32)


def _in_a_process(side: str, folder: Path, method: str) -> Figures:
    command = [sys.executable, str(HERE / "reduction_sides.py"), side, str(folder), method]
    # As the daemon starts its process: threads that wait in a loop take the time of those that they wait for.
    environment = os.environ | {"OMP_WAIT_POLICY": "passive"}
    began, load = perf_counter(), os.getloadavg()[0]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child,
        Peak(child.pid) as peak,
    ):
        assert child.stdout is not None
        said = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{side} failed")
    seconds = perf_counter() - began
    print(f"{side}: {seconds:.0f} s", file=sys.stderr, flush=True)
    figures: Figures = json.loads(said.splitlines()[-1])
    return {
        "seconds": seconds,
        "peak_bytes": peak.bytes,
        "load_before": load,
        "load_after": os.getloadavg()[0],
    } | figures


def _ingest(folder: Path, rows: int) -> Figures:
    """What a job costs those who log meanwhile."""
    output = folder / "ingest.json"
    options = ["--rounds", "3", "--vectors", str(max(rows * 3 // 5, 30_000)), "--output", str(output)]
    began = perf_counter()
    command = [sys.executable, str(HERE / "ingest_beside_reduction.py"), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # a script of ours
    print(f"ingest: {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    figures: Figures = json.loads(output.read_text())
    return {name: figures[name] for name in ("rows_per_s", "p50_us", "p99_us")}


if __name__ == "__main__":
    main()
