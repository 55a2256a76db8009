"""Turns the figures of `reductions.py` into docs/performance-of-maps.md, and into a table for a terminal.

The page is made of `results/reductions.json` and of nothing else, so that they can't differ:

    python benchmarks/reduction_page.py            write the page anew
    python benchmarks/reduction_page.py --check    fail if the page is not that of the results
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).parent.parent
RESULTS = REPOSITORY / "benchmarks/results/reductions.json"
PAGE = REPOSITORY / "docs/performance-of-maps.md"

Results = dict[str, Any]

INTRODUCTION = """\
# Performance of maps

What a map of {rows:,} vectors of {width} numbers takes, beside umap-learn called directly with the same parameters and
a seed. `make bench-reductions` measures anew and writes this page and `benchmarks/results/reductions.json`.

{machine}.
While it was measured, {load} processes wanted the {cores} cores on average, of which a job wants all.{left_out}

"""

EXPLAINED = """
**Fit and transform**: one array is fitted, another of the same size is mapped; rund also writes its model and reads it
again. Cold is a new process, with its imports and what it compiles (most is kept from an earlier process); warm is the
second time in the same process. **End to end** is a job of a daemon, from the call of `reduce_embeddings_per_dataset`
on a run with both arrays as its epochs until its new tables are there.

**Memory** is what the process for jobs held for itself, as `reduction_memory` counts it: mapped files are left out, for
the kernel can take their memory back. With its share of them it is the line below.
"""


class Line(NamedTuple):
    """A line of the table."""

    what: str
    figure: str
    goal: str


def lines(results: Results) -> list[Line]:
    """What was measured and what is to be reached."""
    found = [
        Line("digits: trustworthiness", _number(results["digits"]["quality"]["trustworthiness"], 3), "≥ 0.95"),
        *_fits(results),
        Line("trustworthiness of the map, and of the rows mapped later", _worth(results, "rund"), "that of umap-learn"),
        Line("… of umap-learn", _worth(results, "umap-learn"), "–"),
        Line("one job, end to end, cold", f"{results['job']['job_seconds']:.1f} s", "–"),
        *_second_epoch(results),
        *_memory(results),
        Line(
            "cancelled, until its process is gone", _number(max(results["job"]["cancelled_seconds"]), 2, " s"), "≤ 1 s"
        ),
    ]
    ingest = results["ingest"]
    found += [
        Line("rows/s of a run that logs meanwhile", _number(ingest["rows_per_s"]["ratio"], 2, " ×"), "> 0.8 ×"),
        Line("p99 of a call of `log` meanwhile", _number(ingest["p99_us"]["ratio"], 2, " ×"), "< 1.2 ×"),
    ]
    return found


def _fits(results: Results) -> list[Line]:
    found = []
    for state in ("cold", "warm"):
        for kind, title in (("seconds", ""), ("processor_seconds", ", processor time")):
            ours, theirs = (_of_side(results, side, state, kind) for side in ("rund", "umap-learn"))
            said = "–" if theirs is None else f"≤ 1.1 × {theirs:.1f} s"
            share = "" if ours is None or theirs is None else f", {ours / theirs:.2f} ×"
            found.append(Line(f"fit and transform, {state}{title}", _number(ours, 1, " s") + share, said))
    return found


def _second_epoch(results: Results) -> list[Line]:
    turns = [round_["threads"] for round_ in results["rounds"]]
    pairs = [pair for turn in turns for pair in zip(turn["one"], turn["all"], strict=True)]
    faster = statistics.median(one["seconds"] / every["seconds"] for one, every in pairs)
    more = statistics.median(every["processor_seconds"] / one["processor_seconds"] for one, every in pairs)
    seconds = statistics.median(every["seconds"] for _, every in pairs)
    return [
        Line("a second epoch through the kept reducer", f"{seconds:.1f} s", "–"),
        Line("… against one thread, median of pairs", f"{faster:.2f} ×", "≥ 1.8 × on 2 cores"),
        Line("… processor time against that of one thread", f"{more:.2f} ×", "–"),
    ]


def _memory(results: Results) -> list[Line]:
    job = results["job"]
    limit = 3 * results["rows"] * results["width"] * 4 + 1e9
    return [
        Line(
            "most memory of the job",
            f"{job['anonymous_bytes'] / 1e6:.0f} MB",
            f"≤ {limit / 1e6:.0f} MB: 3 × input + 1 GB",
        ),
        Line("… with mapped files", f"{job['whole_bytes'] / 1e6:.0f} MB", "–"),
    ]


def _of_side(results: Results, side: str, state: str, kind: str) -> float | None:
    return _median(
        results, side, lambda found: sum(float(found[f"{state} {what}"][kind]) for what in ("fit", "transform"))
    )


def _worth(results: Results, side: str) -> str:
    found = [
        _median(results, side, lambda figures, name=name: figures[name]["trustworthiness"])  # type: ignore[misc]
        for name in ("fitted", "transformed")
    ]
    return ", ".join(_number(value, 3) for value in found)


def _median(results: Results, side: str, figure: Callable[[Any], float]) -> float | None:
    found = [figure(round_[side]) for round_ in results["rounds"] if side in round_]
    return statistics.median(found) if found else None


def _number(value: float | None, digits: int, unit: str = "") -> str:
    return "–" if value is None else f"{value:.{digits}f}{unit}"


def text(results: Results) -> str:
    """The table for a terminal."""
    width = max(len(line.what) for line in lines(results))
    rows = [f"{line.what:{width}}  {line.figure:>20}  {line.goal}" for line in lines(results)]
    return "\n".join([*rows, f"measured in {results['seconds'] / 60:.1f} minutes; load {_load(results):.1f}"])


def page(results: Results) -> str:
    """The page."""
    where = results["machine"]
    machine = (
        f"{where['cpu']}, {where['cores']} cores, {where['memory_gib']} GiB, Linux {where['kernel']}, "
        f"Python {where['python']}, {where['date']}"
    )
    table = ["| | measured | goal |", "|---|--:|---|"]
    table += [f"| {line.what} | {line.figure} | {line.goal} |" for line in lines(results)]
    both = any("umap-learn" in round_ for round_ in results["rounds"])
    left_out = "" if both else " umap-learn was left out."
    head = INTRODUCTION.format(
        left_out=left_out, machine=machine, load=f"{_load(results):.1f}", cores=where["cores"], **_sizes(results)
    )
    return head + "\n".join(table) + "\n" + EXPLAINED


def _sizes(results: Results) -> dict[str, int]:
    return {"rows": results["rows"], "width": results["width"]}


def _load(results: Results) -> float:
    sides = [side for round_ in results["rounds"] for side in round_.values()]
    return float(statistics.mean(side["load_after"] for side in sides))


def write(results: Results) -> None:
    """Writes the page."""
    PAGE.write_text(page(results))


def main() -> None:
    """Writes, or checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    results = json.loads(RESULTS.read_text())
    if not parser.parse_args().check:
        write(results)
    elif PAGE.read_text() != page(results):
        raise SystemExit(
            "docs/performance-of-maps.md is not what the results say; run python benchmarks/reduction_page.py"
        )


if __name__ == "__main__":
    main()
