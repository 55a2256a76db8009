"""Copies a large run: within its root, where files are linked, and out of it, where each is read once for its checksum.

python benchmarks/copying_at_scale.py --gigabytes 10

The run is real: it is written through the daemon, sealed, and read back from its copies. Its vectors are zeros.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import rund
from own_daemon import daemon

T = TypeVar("T")

ROWS, WIDTH = 32_768, 512


def write(root: Path, gigabytes: float) -> rund.Run:
    """Writes the run and waits until it is sealed."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(ROWS * WIDTH, np.float32)), WIDTH)
    batch = pa.record_batch([pa.array(np.arange(ROWS)), vectors], names=["row", "vector"])
    with rund.init("copying", "large", root_url=root) as run, run.metrics_writer("t") as writer:
        for _ in range(int(gigabytes * 1e9 / batch.nbytes)):
            writer.add_batch(batch)
    while list((Path(run.url) / "metrics" / "t").glob("*.arrows")):
        time.sleep(0.1)
    return run


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What it gives, and seconds."""
    begun = time.perf_counter()
    result = work()
    return result, time.perf_counter() - begun


def main() -> None:
    """Measures, and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--folder", type=Path, default=None, help="where to work; its file system matters")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, daemon(Path(folder) / "root"):
        root = Path(folder) / "root"
        run, writing = timed(lambda: write(root, options.gigabytes))
        files = list((Path(run.url) / "metrics" / "t").iterdir())
        copy, in_root = timed(lambda: run.copy(run_name="copy"))
        bundle, to_folder = timed(lambda: run.to_bundle(Path(folder) / "bundle"))
        counts = {item.metrics_tables[0].row_count for item in (run, copy, bundle)}
        assert len(counts) == 1, counts
        _, first_rows = timed(lambda: bundle.metrics_tables[0].head(5))
        figures = {
            "bytes": sum(path.stat().st_size for path in files),
            "files": len(files),
            "write_s": round(writing, 2),
            "copy_in_root_s": round(in_root, 3),
            "bundle_on_the_same_file_system_s": round(to_folder, 2),
            "first_rows_of_the_bundle_s": round(first_rows, 3),
        }
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
