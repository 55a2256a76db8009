"""Draws the chart of docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import report
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from peers.registry import Entry

OURS, THEIRS, LIMITS = "#c2410c", "#64748b", "#d4d4d8"
INK = "#1f2937"

Bars = list[tuple[Entry, float]]


def draw(results: report.Results, path: Path) -> None:
    """Six panels: what a tracker takes in, what a call costs, and what is kept."""
    mpl.use("Agg")
    mpl.rcParams.update({"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "ytick.color": INK})
    panels: list[tuple[str, Bars, dict[str, Any]]] = [
        ("W1: 100,000 steps of two scalars, rows/s", rates(results, "w1"), {}),
        ("W4: eight processes, rows/s", rates(results, "w4"), {}),
        ("W2: 1,000,000 rows of five columns, rows/s", rates(results, "w2"), {}),
        ("W3: 100,000 vectors of 512, MB/s", rates(results, "w3"), {}),
        ("one call of log, median, µs (less is better)", medians(results, "log", "p50_us"), {}),
        ("of 500 rows, kept after SIGKILL", medians(results, "kill", "kept"), {"log": False}),
    ]
    figure, axes = plt.subplots(3, 2, figsize=(12, 11), layout="constrained")
    for axis, (title, bars, options) in zip(axes.flat, panels, strict=True):
        panel(axis, title, bars, **options)
    where = results["machine"]
    note = f"{where['cpu']}, {where['cores']} cores, {where['date']}. Bars are logarithmic, but for what is kept."
    figure.supxlabel(note, fontsize=9, color=THEIRS)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110, facecolor="white", metadata={"Software": None})
    plt.close(figure)


def rates(results: report.Results, workload: str) -> Bars:
    """Of all trackers that have the workload."""
    found = ((entry, report.rate(results, entry.module, workload)) for entry in report.measured(results))
    return [(entry, value) for entry, value in found if value is not None]


def medians(results: report.Results, workload: str, name: str) -> Bars:
    """The same for a figure that is no rate."""
    found = ((entry, report.median(results, entry.module, workload, name)) for entry in report.measured(results))
    return [(entry, value) for entry, value in found if value is not None]


def panel(axis: Axes, title: str, bars: Bars, *, log: bool = True) -> None:
    """Horizontal bars, in the order of the table, with their figures behind them."""
    axis.set_title(title, loc="left", fontsize=11, fontweight="bold")
    if not bars:
        axis.set_axis_off()
        return
    names = [entry.label.replace("limit: ", "").partition(",")[0] for entry, _ in bars]
    names = [
        f"{name} in batches" if entry.module == "mlflow_batches" else name
        for name, (entry, _) in zip(names, bars, strict=True)
    ]
    values = [value for _, value in bars]
    colors = [LIMITS if entry.limit else OURS if entry.module == "rund" else THEIRS for entry, _ in bars]
    drawn = axis.barh(range(len(bars)), values, color=colors, height=0.7)
    axis.bar_label(drawn, labels=[report.short(value) for value in values], padding=4, fontsize=9)
    axis.set_yticks(range(len(bars)), names)
    axis.invert_yaxis()
    axis.set_xticks([])
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    if log:
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 3, max(values) * 6)
        axis.minorticks_off()
        axis.set_xticks([])
    else:
        axis.set_xlim(0, max(values) * 1.2)
