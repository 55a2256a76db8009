"""Bulk writing: rund beside Arrow Flight and beside a plain Arrow file, on the same batches in one run.

W2 is 1,000,000 rows of five columns of 8 bytes in 100 batches, W3 100,000 float32 vectors of 512 in 100 batches. rund's
rows are durable when the clock stops; Flight's, written by its server into a file, are not; the file's are (fsync).
Rounds are interleaved, and medians are printed:

    python benchmarks/bulk_write.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
import rund
from peers import arrow_file, arrow_flight
from warm_memory import warm_memory

BATCHES = 100
Batches = Sequence[pa.RecordBatch]


class Way(Protocol):
    """One way to write."""

    def write(self, batches: Batches) -> None:
        """Writes all batches of a workload, and returns when they are where this way puts them."""

    def stop(self) -> None:
        """Ends it."""


def w2() -> Batches:
    """Batches of 10,000 rows of two integers and three floats."""
    chance, rows = np.random.default_rng(2), 10_000
    return [
        pa.record_batch(
            {
                "step": pa.array(np.arange(number * rows, (number + 1) * rows)),
                "sample": pa.array(chance.integers(0, 1 << 40, rows)),
                **{name: pa.array(chance.random(rows)) for name in ("loss", "accuracy", "weight")},
            }
        )
        for number in range(BATCHES)
    ]


def w3() -> Batches:
    """Batches of 1,000 vectors of 512."""
    chance, rows, width = np.random.default_rng(3), 1_000, 512
    return [
        pa.record_batch(
            {
                "embedding": pa.FixedSizeListArray.from_arrays(
                    pa.array(chance.random(rows * width, dtype=np.float32)), width
                )
            }
        )
        for _ in range(BATCHES)
    ]


WORKLOADS: dict[str, Callable[[], Batches]] = {"W2": w2, "W3": w3}


class Flight:
    """Arrow Flight over a unix socket, its server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        arrow_flight.prepare(folder)

    def write(self, batches: Batches) -> None:
        """Uploads; returns when the server has written all, into the page cache."""
        arrow_flight.upload(self._folder, batches)

    def stop(self) -> None:
        """Ends the server."""
        arrow_flight.close(self._folder)


class PlainFile:
    """pyarrow writes a file in this process, and syncs it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, batches: Batches) -> None:
        """Returns when the file is durable."""
        arrow_file.write_file(self._folder / f"{uuid.uuid4().hex}.arrow", batches)

    def stop(self) -> None:
        """Nothing to do."""


class Rund:
    """A daemon of its own; `staging` says whether files are handed over."""

    def __init__(self, folder: Path, *, staging: bool) -> None:
        self._root = folder / "root"
        self._root.mkdir()
        self._staging = "1" if staging else "0"
        self.disk_bytes = self.peak_bytes = self.raw_bytes = 0
        command = [sys.executable, "-m", "rund_daemon", "serve", "--root", str(self._root)]
        with (folder / "daemon.log").open("wb") as log:
            self._daemon = subprocess.Popen(command, stderr=log)
        while not (self._root / "daemon.json").exists():
            time.sleep(0.02)
        os.environ["RUND_STAGING"] = self._staging
        self._run = rund.init("bench", root_url=self._root)

    def write(self, batches: Batches) -> None:
        """Returns when every row is acknowledged: durable, and visible to readers."""
        os.environ["RUND_STAGING"] = self._staging
        with self._run.metrics_writer() as writer:
            for batch in batches:
                writer.add_batch(batch)
        self.raw_bytes += sum(batch.nbytes for batch in batches)

    def stop(self) -> None:
        """Ends the daemon, which seals what is open; measures what it took."""
        status = Path(f"/proc/{self._daemon.pid}/status").read_text()
        self.peak_bytes = int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) * 1024
        self._run.finish()
        self._daemon.terminate()
        self._daemon.wait()
        self.disk_bytes = sum(path.stat().st_size for path in self._root.glob("bench/runs/*/metrics/*/*"))


def measure(folder: Path, batches: Batches, rounds: int) -> dict[str, dict[str, float]]:
    """Seconds of each way, medians of interleaved rounds, and what rund took of disk and memory."""
    folders = {name: folder / name for name in ("hand-over", "grpc", "flight", "file")}
    for path in folders.values():
        path.mkdir()
    ways: dict[str, Way] = {
        "hand-over": Rund(folders["hand-over"], staging=True),
        "grpc": Rund(folders["grpc"], staging=False),
        "flight": Flight(folders["flight"]),
        "file": PlainFile(folders["file"]),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            warm_memory(folder)
            begin = time.perf_counter()
            way.write(batches)
            if number:  # the first round warms up
                seconds[name].append(time.perf_counter() - begin)
    found = {name: {"seconds": statistics.median(taken)} for name, taken in seconds.items()}
    for name, way in ways.items():
        way.stop()
        if isinstance(way, Rund):
            found[name] |= {"disk_ratio": way.disk_bytes / way.raw_bytes, "peak_mib": way.peak_bytes / 2**20}
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--json", type=Path, help="where to write the figures")
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    options = parser.parse_args()
    figures: dict[str, object] = {}
    for workload in options.workloads:
        batches = WORKLOADS[workload]()
        rows, size = sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches)
        folder = Path(tempfile.mkdtemp(prefix="rund-bulk-", dir=options.folder))
        try:
            found = measure(folder, batches, options.rounds)
        finally:
            shutil.rmtree(folder)
        figures[workload] = {"rows": rows, "bytes": size, "ways": found}
        print(f"{workload}: {rows:,} rows, {size / 1e6:.0f} MB")
        for name, way in found.items():
            rate, share = size / way["seconds"] / 1e6, found["flight"]["seconds"] / way["seconds"]
            extra = f"  disk × {way['disk_ratio']:.4f}, peak {way['peak_mib']:.0f} MiB" if "peak_mib" in way else ""
            millions = rows / way["seconds"] / 1e6
            print(f"  {name:10} {rate:7,.0f} MB/s {millions:6.2f} M rows/s  {share:5.2f} × Flight{extra}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
