"""Maps of embeddings: seconds and memory for a PNG and for a page, and the size of these.

python benchmarks/embedding_plots.py --rows 100000 --rounds 5

Each picture is made by a process of its own, which has opened the run before the clock starts; so its memory is what a
picture takes. Beside it stands Matplotlib alone with the same points in memory, which is the limit for a PNG. All take
turns; figures are medians. The rows have 16 floats of an embedding, a map of three dimensions, a loss, and in the input
table a class, a path, a time and an image.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import rund
from machine import machine
from own_daemon import daemon

# Prints seconds, seconds of the processor, and MiB at the peak and before.
_MEASURED = """
import json, resource, sys, time
import numpy as np
{before}
def peak(): return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024
first, begun, used = peak(), time.perf_counter(), time.process_time()
{work}
print(json.dumps([time.perf_counter() - begun, time.process_time() - used, peak(), first]))
"""
_OPENED = "import rund\nrun = rund.Run.from_url({url!r})"
_DRAWN = "run.plot_embedding({path!r}, color='label')"
_ALONE = """
from matplotlib.figure import Figure
figure = Figure(figsize=(7.6, 7.2))
figure.subplots().scatter(spots[:, 0], spots[:, 1], s=1.3, c=spots[:, 2] * 0, linewidths=0, alpha=0.8)
figure.savefig({path!r}, dpi=150)
"""


def write(root: Path, rows: int) -> str:
    """A run with a map; gives its URL."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 10, rows)
    data = rund.Table.from_dict(
        {
            "label": labels,
            "path": [f"train/{row // 1000:05}/{row:08}.png" for row in range(rows)],
            "taken": np.datetime64("2026-01-01", "s") + np.arange(rows),
            "image": random.integers(0, 255, (rows, 8, 8), dtype=np.uint8),
        },
        column_schemas={
            "label": rund.ColumnSchema(role=rund.ColumnRole.LABEL, value_map={n: f"class {n}" for n in range(10)})
        },
        root_url=root,
    )
    spots = (random.normal(0, 8, (10, 3))[labels] + random.normal(size=(rows, 3))).astype(np.float32)
    with rund.init("plots", "map", root_url=root) as run:
        run.add_metrics(
            {
                "hidden": random.normal(size=(rows, 16)).astype(np.float32),
                "hidden_umap": pa.FixedSizeListArray.from_arrays(pa.array(spots.ravel()), 3),
                "loss": random.exponential(size=rows),
            },
            {"hidden_umap": "xyz"},
            data,
        )
    return run.url


def measured(before: str, work: str) -> list[float]:
    """What one process took."""
    code = _MEASURED.format(before=before, work=work)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figures: list[float] = json.loads(result.stdout)
    return figures


def main() -> None:
    """Measures, and prints one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, daemon(Path(folder) / "root"):
        url = write(Path(folder) / "root", options.rows)
        files = {name: Path(folder) / f"map.{name}" for name in ("png", "html", "alone.png")}
        opened = _OPENED.format(url=url)
        codes = {
            "png": (opened, _DRAWN.format(path=str(files["png"]))),
            "html": (opened, _DRAWN.format(path=str(files["html"]))),
            "alone.png": (
                f"spots = np.random.default_rng(0).normal(size=({options.rows}, 3))",
                _ALONE.format(path=str(files["alone.png"])),
            ),
        }
        taken: dict[str, list[list[float]]] = {name: [] for name in codes}
        for _ in range(options.rounds):
            for name, (before, work) in codes.items():
                taken[name].append(measured(before, work))
        figures: dict[str, Any] = {"machine": machine(), "rows": options.rows}
        for name, rounds in taken.items():
            seconds, processor, peak, first = (statistics.median(values) for values in zip(*rounds, strict=True))
            figures[name] = {
                "seconds": round(seconds, 2),
                "processor_seconds": round(processor, 2),
                "peak_mib": round(peak),
                "peak_mib_before": round(first),
                "file_bytes": files[name].stat().st_size,
            }
        print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
