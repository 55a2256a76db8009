"""Measures how long a daemon takes to be ready after SIGKILL, on a root with many open segments.

    python benchmarks/start_after_kill.py --segments 10000

Every segment has a torn tail that the start cuts off, as after a kill in the middle of a commit of all. The root is
written directly, as `rund fsck --rebuild` writes one; the times are from spawn to `daemon.json`, beside those of an
empty root: what is left is what the segments cost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rund_daemon.catalog import Change, build_catalog, keys, shelves
from rund_daemon.identity import new_uid, now
from rund_daemon.model import BatchRef, MetricsTable, Run, Segment, TableMark
from rund_daemon.segments.layout import Layout

TABLES_A_RUN = 10
STARTS = 5
MAP_BYTES = 1 << 36
TAIL = b"\xde\xad\xbe\xef" * 64


@dataclass(frozen=True)
class Content:
    """One small segment."""

    head: bytes
    batch: bytes
    rows: int


def main() -> None:
    """Fills two roots and prints the times."""
    parser = argparse.ArgumentParser(description="Measures starts after SIGKILL.")
    parser.add_argument("--segments", type=int, default=10_000)
    segments = parser.parse_args().segments
    with tempfile.TemporaryDirectory(prefix="rund-bench-") as folder:
        empty, full = Path(folder) / "empty", Path(folder) / "full"
        empty.mkdir()
        paths = fill(Layout(full), segments)
        starts: dict[str, list[float]] = {"empty": [], "torn": [], "whole": []}
        for _ in range(STARTS):
            starts["empty"].append(start_and_kill(empty))
            tear(full, paths)
            starts["torn"].append(start_and_kill(full))
            starts["whole"].append(start_and_kill(full))
    print(f"{segments:,} open segments; seconds from spawn to ready, after SIGKILL")
    for name, seconds in starts.items():
        print(f"  {name:6} median {statistics.median(seconds):.3f}  all {[round(value, 3) for value in seconds]}")


def fill(layout: Layout, segments: int) -> list[Path]:
    """Writes runs with tables of one open segment each; gives the files."""
    batch = pa.RecordBatch.from_pylist([{"step": step, "loss": 0.5} for step in range(100)])
    content = Content(batch.schema.serialize().to_pybytes(), batch.serialize().to_pybytes(), 100)
    paths: list[Path] = []
    with build_catalog(layout.catalog, MAP_BYTES, now()) as build:
        for number in range(segments // TABLES_A_RUN):
            run = Run(new_uid(), f"project-{number % 20}", f"run-{number:05}", now(), now())
            tables = [MetricsTable(new_uid(), run.uid, table, f"t{table}", now()) for table in range(TABLES_A_RUN)]
            for table in tables:
                folder = layout.metrics_table(layout.run(run.project, run.name), table.name)
                folder.mkdir(parents=True)
                paths.append(folder / "000000.arrows")
                paths[-1].write_bytes(content.head + content.batch)
            build.change(lambda change, run=run, tables=tables: put(change, run, tables, content))  # type: ignore[misc]  # defaults bind the loop's values
        build.publish()
    return paths


def put(change: Change, run: Run, tables: list[MetricsTable], content: Content) -> None:
    """Puts the records of one run."""
    change.put(shelves.RUNS, run.uid, run)
    change.put(shelves.RUN_NAMES, keys.names(run.project, run.name), run.uid)
    change.put(shelves.PROJECT_RUNS, keys.project_run(run.project, run.uid), run.uid)
    change.put(shelves.LIVE_RUNS, run.uid, b"")
    size = len(content.head) + len(content.batch)
    for table in tables:
        key, segment_key = keys.numbered(run.uid, table.number), keys.numbered(table.uid, 0)
        change.put(shelves.TABLES, key, table)
        change.put(shelves.TABLE_UIDS, table.uid, key)
        change.put(shelves.TABLE_NAMES, keys.named(run.uid, table.name), table.number)
        change.put(shelves.MARKS, table.uid, TableMark(content.rows, 1, size, now(), 1))
        change.put(shelves.SEGMENTS, segment_key, Segment(0, False, size, content.rows, content.head))
        change.put(shelves.OPEN_SEGMENTS, segment_key, b"")
        ref = BatchRef(0, len(content.head), len(content.batch), content.rows, 0, 0)
        change.put(shelves.BATCHES, keys.batch(table.uid, 0), ref)


def tear(root: Path, paths: list[Path]) -> None:
    """Puts a torn tail behind every segment, and leaves the catalog as a killed daemon does."""
    for path in paths:
        with path.open("ab") as file:
            file.write(TAIL)
    (root / "catalog" / "in-use").touch()


def start_and_kill(root: Path) -> float:
    """Seconds until a daemon is ready; kills it then."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    (root / "daemon.json").unlink(missing_ok=True)
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", "rund_daemon", "serve", "--root", str(root)], env=environment, stderr=subprocess.DEVNULL
    ) as process:
        while not is_ready(root, process.pid):
            if process.poll() is not None:
                raise RuntimeError(f"the daemon ended with {process.returncode}")
            time.sleep(0.005)
        seconds = time.perf_counter() - began
        process.send_signal(signal.SIGKILL)
    return seconds


def is_ready(root: Path, pid: int) -> bool:
    """Whether the daemon of that pid has said where it listens."""
    try:
        return bool(json.loads((root / "daemon.json").read_text())["pid"] == pid)
    except (FileNotFoundError, ValueError):
        return False


if __name__ == "__main__":
    main()
