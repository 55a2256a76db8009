"""Reads of a sealed table on the daemon's host: mapped, sent over the socket, and by pyarrow alone; filtered ones too.

python benchmarks/local_reads.py --rows 5000000 --rounds 15 --output benchmarks/results/local_reads.json

Everything is read in turns, so that whatever disturbs the machine disturbs all; figures are medians, and ratios are
medians of the ratios within a round. The files are in the page cache, and the daemon has checked them before: the first
read of a file after the daemon's start reads and checks it, which is measured by itself.

- `whole`: all rows and columns. pyarrow maps the files and makes one table of their batches.
- `one column`, `filtered`: `value` of all rows, or of those whose `step` is in a range of 1 %, of 50 % and of 100 %, or
  whose `other`, which is random, is below 0.5. pyarrow reads through `pyarrow.dataset` from one Arrow file with these
  rows, in batches of the same size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import rund
from machine import machine
from own_daemon import daemon

Read = Callable[[], Any]

BATCH_ROWS = 100_000


def write(root: Path, rows: int) -> rund.Run:
    """A run with one table, which is sealed."""
    values = np.random.default_rng(1)
    with rund.init("reading", "rows", root_url=root) as run, run.metrics_writer("t") as writer:
        for begin in range(0, rows, BATCH_ROWS):
            steps = np.arange(begin, min(begin + BATCH_ROWS, rows))
            writer.add_batch({"step": steps, "value": values.random(len(steps)), "other": values.random(len(steps))})
    while list((Path(run.url) / "metrics/t").glob("*.arrows")):
        time.sleep(0.1)
    return run


def mapped_by_pyarrow(files: list[Path]) -> pa.Table:
    """What a reader without rund does."""
    return pa.concat_tables([pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files])


def one_file(table: pa.Table, path: Path) -> Path:
    """The rows as one Arrow file."""
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=BATCH_ROWS)
    return path


def sent(read: Read) -> Any:
    """Reads over the socket."""
    os.environ["RUND_MAPPING"] = "0"
    try:
        return read()
    finally:
        del os.environ["RUND_MAPPING"]


def measure(reads: Mapping[str, Read], rounds: int) -> dict[str, Any]:
    """Milliseconds of each, and how much longer the first takes than each of the others."""
    times: dict[str, list[float]] = {name: [] for name in reads}
    for round_ in range(rounds):
        names = list(reads) if round_ % 2 else list(reads)[::-1]
        for name in names:
            begun = time.perf_counter()
            rows = reads[name]()
            times[name].append((time.perf_counter() - begun) * 1_000)
            del rows
    first, *others = reads
    pairs = {name: [a / b for a, b in zip(times[first], times[name], strict=True)] for name in others}
    return {
        **{f"{name}_ms": round(statistics.median(spent), 2) for name, spent in times.items()},
        **{f"{first}_against_{name}": round(statistics.median(ratios), 3) for name, ratios in pairs.items()},
    }


def by_range(begin: int, end: int) -> tuple[str, Any]:
    """A filter by step, as text and as an expression."""
    return f"step >= {begin} AND step < {end}", (pc.field("step") >= begin) & (pc.field("step") < end)


def filtered(table: rund.Table, dataset: Any, text: str, expression: Any) -> dict[str, Read]:
    """Reads of one column with a filter."""
    mapped = partial(table.to_arrow, ["value"], text)
    return {
        "mapped": mapped,
        "sent": partial(sent, mapped),
        "dataset": partial(dataset.to_table, columns=["value"], filter=expression),
    }


def allocated(read: Read) -> int:
    """Bytes of Arrow's memory that the result holds."""
    before = pa.total_allocated_bytes()
    rows = read()
    held = pa.total_allocated_bytes() - before
    del rows
    return held


def settled(folder: Path) -> list[Path]:
    """A sealed table's files, when the daemon has joined those that are small: none has changed for two seconds."""
    files, since = sorted(folder.glob("*.arrow")), time.monotonic()
    while time.monotonic() - since < 2:
        time.sleep(0.1)
        if (found := sorted(folder.glob("*.arrow"))) != files:
            files, since = found, time.monotonic()
    return files


def main() -> None:
    """Measures, and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, default=None)
    options = parser.parse_args()
    rows: int = options.rows
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder) / "root"):
        run = write(Path(folder) / "root", rows)
        (table,) = run.metrics_tables
        files = settled(Path(run.url) / "metrics/t")
        plain = mapped_by_pyarrow(files)
        begun = time.perf_counter()
        whole = table.to_arrow()
        first_ms = (time.perf_counter() - begun) * 1_000
        assert whole.equals(plain.cast(whole.schema))
        dataset = ds.dataset(one_file(whole, Path(folder) / "one.arrow"), format="ipc")
        kept = {
            "1 %": by_range(rows // 2, rows // 2 + rows // 100),
            "50 %": by_range(rows // 4, rows // 4 + rows // 2),
            "100 %": by_range(0, rows),
            "scattered, 50 %": ("other < 0.5", pc.field("other") < 0.5),
        }
        by_step = {share: filtered(table, dataset, *filter_) for share, filter_ in kept.items()}
        for reads in by_step.values():
            assert reads["mapped"]().equals(reads["dataset"]())
        column = partial(table.to_arrow, ["value"])
        figures = {
            "machine": machine(),
            "rows": rows,
            "files": len(files),
            "bytes": sum(file.stat().st_size for file in files),
            "first_read_ms": round(first_ms, 1),
            "arrow_bytes_held_by_a_mapped_read": allocated(table.to_arrow),
            "whole": measure(
                {
                    "mapped": table.to_arrow,
                    "sent": partial(sent, table.to_arrow),
                    "pyarrow": partial(mapped_by_pyarrow, files),
                },
                options.rounds,
            ),
            "one column": measure(
                {
                    "mapped": column,
                    "sent": partial(sent, column),
                    "dataset": partial(dataset.to_table, columns=["value"]),
                },
                options.rounds,
            ),
            "filtered": {share: measure(reads, options.rounds) for share, reads in by_step.items()},
        }
        text = json.dumps(figures, indent=1)
        if options.output:
            options.output.write_text(text + "\n")
        print(text)


if __name__ == "__main__":
    main()
