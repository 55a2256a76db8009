"""Turns results into what is read: docs/performance.md and its chart.

The page is made of `results/peers.json` and of nothing else, so that they can't differ:

    python benchmarks/report.py            write page and chart anew
    python benchmarks/report.py --check    fail if the page is not that of the results
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from peers.registry import ENTRIES, Entry
from workloads import WORKLOADS

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks/results/peers.json"
PAGE = REPOSITORY / "docs/performance.md"
CHART = REPOSITORY / "docs/images/performance.png"

Results = dict[str, Any]

INTRODUCTION = """\
# Performance

rund beside other trackers on the same work, in one run on one machine. `make bench` measures anew and writes this page,
its chart and `benchmarks/results/peers.json`; `make bench-quick` measures rund and the limits alone.

{machine}.
Medians over rounds ({rounds}, or as many as there was time for), in each of which every tracker had its turn at each
workload, in a process of its own.

![Rows a second, the cost of a call and what survives SIGKILL, of rund and of other trackers](images/performance.png)

| | |
|---|---|
| W1 | 100,000 steps of two scalars, one call a step, until the tracker says that it is done; rund: on disk |
| W4 | 100,000 steps in eight processes, into one run where that is possible |
| W2 | 1,000,000 rows of two integers and three floats, in 100 batches |
| W3 | 100,000 vectors of 512 float32, in 100 batches |
| kept | of 500 rows, logged as fast as it went before SIGKILL: how many can be read back, or would be synced |
| log | one call with two scalars, in µs; up to 200,000 calls |
| loop | what one call a step adds to a training loop of 1 ms a step |

W2 and W3 are the first that a new process writes to a new server, where there is one, but for two small batches.
Before the clock of W1 to W4 and of log starts, a gigabyte of the page cache is filled and freed: otherwise a virtual
machine, whose host gives it memory page by page, charges that to whoever comes first (`benchmarks/warm_memory.py`).
The loop is pure Python, which shares its lock with the tracker's threads, or NumPy, which gives the lock up; what those
threads take is added to the loop in Python (`benchmarks/training_loop.py` says how).
Every tracker does what its documentation names as the fastest way for the workload, offline, and is waited for until it
says that it is done. What its figures mean, and why some are missing, stands below the table.
"""


def median(results: Results, module: str, workload: str, name: str) -> float | None:
    """Of all rounds; None when there is no sample with that figure."""
    samples = results["peers"].get(module, {}).get("samples", {}).get(workload, [])
    found = [sample[name] for sample in samples if name in sample]
    return statistics.median(found) if found else None


def rate(results: Results, module: str, workload: str) -> float | None:
    """Rows a second; W3: MB a second."""
    samples = results["peers"].get(module, {}).get("samples", {}).get(workload, [])
    return statistics.median(rate_of(workload, sample) for sample in samples) if samples else None


def rate_of(workload: str, sample: dict[str, float], seconds: str = "seconds") -> float:
    """That of one sample."""
    amount = sample["raw_bytes"] / 1e6 if workload == "w3" else sample["rows"]
    return amount / sample[seconds]


def short(number: float) -> str:
    """Three digits that count."""
    if number >= 1e6:
        return f"{number / 1e6:.3g} M"
    if number >= 1000:
        return f"{round(number, -2 if number >= 10_000 else -1):,.0f}"
    return f"{number:.3g}"


def cells(results: Results, module: str) -> list[str]:
    """A tracker's row of the table, without its name; what is missing is a dash."""
    rates = [rate(results, module, workload) for workload in ("w1", "w4", "w2", "w3")]
    kept = median(results, module, "kill", "kept")
    calls = [median(results, module, "log", name) for name in ("p50_us", "p99_us")]
    loops = [median(results, module, "loop", f"{kind}_wall_percent") for kind in ("python", "numpy")]
    return [
        *("–" if value is None else short(value) for value in rates),
        "–" if kept is None else f"{kept:.0f}",
        *("–" if value is None else short(value) for value in calls),
        *("–" if value is None else f"{value:.1f} %" for value in loops),
    ]


TITLES = {"w1": "W1", "w2": "W2", "w3": "W3", "w4": "W4", "log": "log", "loop": "loop", "kill": "kept"}
SCALED = frozenset({"w1", "w2", "w3", "w4"})
HEAD = ("W1 rows/s", "W4 rows/s", "W2 rows/s", "W3 MB/s", "kept", "log p50", "p99", "loop, Python", "NumPy")


def measured(results: Results) -> list[Entry]:
    """The trackers of the results, in the registry's order."""
    return [entry for entry in ENTRIES if entry.module in results["peers"]]


def text(results: Results) -> str:
    """The table for a terminal."""
    lines = [f"{'':50}" + "".join(f"{name:>13}" for name in HEAD)]
    for entry in measured(results):
        row = "".join(f"{cell:>13}" for cell in cells(results, entry.module))
        lines.append(f"{entry.label:50}{row}")
    return "\n".join(lines)


def sample_text(workload: str, sample: dict[str, float]) -> str:
    """A sample in one line."""
    if workload in {"w1", "w2", "w3", "w4"}:
        warm = f", then {short(rate_of(workload, sample, 'warm_seconds'))}" if "warm_seconds" in sample else ""
        return f"{short(rate_of(workload, sample))}{warm} {'MB' if workload == 'w3' else 'rows'}/s"
    return ", ".join(f"{name} {value:.4g}" for name, value in sample.items())


def page(results: Results) -> str:
    """The page."""
    where = results["machine"]
    machine = (
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, Linux {where['kernel']}, "
        f"Python {where['python']}, {where['date']}{results.get('note', '')}"
    )
    parts = [
        INTRODUCTION.format(machine=machine, rounds=results["rounds"]),
        comparison(results),
        "## What the figures mean\n\n" + explained(results),
        "## rund by itself\n\n" + goals(results),
        "## On disk\n\n" + disk(results),
        "## Memory of the daemon\n\n" + memory(results),
    ]
    return "\n".join(parts)


def comparison(results: Results) -> str:
    """The table of all trackers."""
    lines = [f"| | version | {' | '.join(HEAD)} |", "|---|---" + "|--:" * len(HEAD) + "|"]
    for entry in measured(results):
        version = results["peers"][entry.module]["version"] or "–"
        lines.append(f"| {entry.label} | {version} | {' | '.join(cells(results, entry.module))} |")
    return "\n".join(lines) + "\n"


def explained(results: Results) -> str:
    """Notes, smaller counts, and reasons of blanks, by tracker."""
    lines = []
    for entry in measured(results):
        parts = [f"{TITLES[name]}: {note}" for name, note in entry.notes.items()]
        fewer = [
            f"{count:,} {WORKLOADS[name].unit} of {TITLES[name]}"
            for name, count in entry.counts.items()
            if name in SCALED
        ]
        if fewer:
            parts.append("measured on " + ", ".join(fewer) + ", and scaled")
        reasons: dict[str, list[str]] = {}
        for name, reason in results["peers"][entry.module]["blanks"].items():
            if name != "memory" and not results["peers"][entry.module]["samples"].get(name):
                reasons.setdefault(reason, []).append(TITLES[name])
        parts += [f"no {', '.join(names)}: {reason}" for reason, names in reasons.items()]
        if parts:
            lines.append(f"- **{entry.label}**: {'; '.join(parts)}.")
    return "\n".join(lines) + "\n"


def goals(results: Results) -> str:
    """What rund is to reach, and what it does."""
    rows = [
        ("`log` of two scalars, p50", median(results, "rund", "log", "p50_us"), "≤ 2 µs", " µs"),
        ("`log` of two scalars, p99", median(results, "rund", "log", "p99_us"), "≤ 10 µs", " µs"),
        ("`log` of two scalars, the longest call", median(results, "rund", "log", "max_us"), "–", " µs"),
        *loop_goals(results, "python", "Python"),
        *loop_goals(results, "numpy", "NumPy"),
        ("W1, all acknowledged", rate(results, "rund", "w1"), "≥ 400,000 rows/s", " rows/s"),
        ("W4, into one run", rate(results, "rund", "w4"), "≥ 400,000 rows/s", " rows/s"),
        ("W2, durable, against Arrow Flight, both new, in pairs", against_flight(results, "w2"), "≥ 0.8 ×", " ×"),
        ("… both warm: the median of four more times", against_flight(results, "w2", "warm_seconds"), "≥ 0.8 ×", " ×"),
        ("W3, durable, against Arrow Flight, both new, in pairs", against_flight(results, "w3"), "≥ 0.6 ×", " ×"),
        ("… both warm", against_flight(results, "w3", "warm_seconds"), "≥ 0.6 ×", " ×"),
        ("kept after SIGKILL, of 500", median(results, "rund", "kill", "kept"), "500", ""),
        ("bytes on disk, a step of W1", per_row(results, "rund", "w1"), "≤ 40", ""),
        ("bytes on disk, W2, against the raw columns", against_raw(results, "rund", "w2"), "≤ 1.02 ×", " ×"),
        ("bytes on disk, W3, against the raw columns", against_raw(results, "rund", "w3"), "≤ 1.02 ×", " ×"),
        ("most memory of the daemon", most_memory(results), "≤ 250 MiB", " MiB"),
    ]
    lines = ["| | measured | goal |", "|---|--:|---|"]
    lines += [
        f"| {what} | {'–' if value is None else short_exact(value) + unit} | {goal} |"
        for what, value, goal, unit in rows
    ]
    return "\n".join(lines) + "\n"


def short_exact(number: float) -> str:
    """As `short`, but ratios keep what decides."""
    return f"{number:.4g}" if number < 10 else short(number)


def loop_goals(results: Results, kind: str, title: str) -> list[tuple[str, float | None, str, str]]:
    """Of one loop: what it is slower by, and what that is made of."""
    parts = {
        "wall_percent": (f"a loop of 1 ms of {title} is slower by", "< 1 %", " %"),
        "blocks_least_percent": ("… by the clock, with 95 % confidence at least", "–", " %"),
        "blocks_most_percent": ("… and at most", "–", " %"),
        "caller_percent": ("… processor time of the thread that trains", "–", " %"),
        "call_us": ("… a call in such a loop, on average", "–", " µs"),
        "threads_percent": ("… processor time of rund's threads", "–", " %"),
    }
    return [
        (what, median(results, "rund", "loop", f"{kind}_{name}"), goal, unit)
        for name, (what, goal, unit) in parts.items()
    ]


def against_flight(results: Results, workload: str, seconds: str = "seconds") -> float | None:
    """The rate of rund in that of Flight: the median of the rounds, in each of which both had their turn."""
    ours, theirs = (
        results["peers"].get(module, {}).get("samples", {}).get(workload, []) for module in ("rund", "arrow_flight")
    )
    pairs = [(own, other) for own, other in zip(ours, theirs, strict=False) if seconds in own and seconds in other]
    return statistics.median(other[seconds] / own[seconds] for own, other in pairs) if pairs else None


def per_row(results: Results, module: str, workload: str) -> float | None:
    """Bytes on disk."""
    samples = results["peers"].get(module, {}).get("samples", {}).get(workload, [])
    return statistics.median(sample["disk_bytes"] / sample["rows"] for sample in samples) if samples else None


def against_raw(results: Results, module: str, workload: str) -> float | None:
    """Bytes on disk in those of the columns."""
    samples = results["peers"].get(module, {}).get("samples", {}).get(workload, [])
    written = [(sample["disk_bytes"], sample.get("written_bytes", sample["raw_bytes"])) for sample in samples]
    return statistics.median(disk_bytes / raw_bytes for disk_bytes, raw_bytes in written) if written else None


def most_memory(results: Results) -> float | None:
    """Through all workloads in one root."""
    samples = results["peers"].get("rund", {}).get("samples", {}).get("memory", [])
    return max(samples[0][moment] for moment in samples[0] if moment != "daemon_peak_mib") if samples else None


def disk(results: Results) -> str:
    """Bytes a step and against raw columns, of all trackers."""
    lines = ["| | W1, bytes a step | W2, against raw columns | W3 |", "|---|--:|--:|--:|"]
    for entry in measured(results):
        values = (
            per_row(results, entry.module, "w1"),
            against_raw(results, entry.module, "w2"),
            against_raw(results, entry.module, "w3"),
        )
        if any(value is not None for value in values):
            shown = ("–" if value is None else f"{value:.3f}" if value < 10 else short(value) for value in values)
            lines.append(f"| {entry.label} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n\nWhat the files take after the tracker has finished, its database included.\n"


def memory(results: Results) -> str:
    """The daemon's, in the order of the work."""
    samples = results["peers"].get("rund", {}).get("samples", {}).get("memory", [])
    if not samples:
        return "Not measured.\n"
    lines = ["| after | most until then, MiB |", "|---|--:|"]
    lines += [f"| {moment} | {mib:.0f} |" for moment, mib in samples[0].items() if moment != "daemon_peak_mib"]
    return "One daemon through all workloads, one after the other; `VmHWM`.\n\n" + "\n".join(lines) + "\n"


def write(results: Results) -> None:
    """Page and chart."""
    from chart import draw  # noqa: PLC0415 - whoever only checks the page needs no matplotlib

    PAGE.write_text(page(results))
    draw(results, CHART)


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    results = json.loads(RESULTS.read_text())
    if not parser.parse_args().check:
        write(results)
    elif PAGE.read_text() != page(results):
        raise SystemExit("docs/performance.md is not what the results say; run python benchmarks/report.py")


if __name__ == "__main__":
    main()
