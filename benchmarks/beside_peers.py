"""Measures rund beside other trackers on the same work, in interleaved rounds, and writes docs/performance.md.

    make bench            all of it: three rounds, or as many as 22 minutes allow, once everything is installed
    make bench-quick      rund and the limits, one round, about a minute; nothing is written

Each sample is a process of its own, with the Python of the tracker's environment and a new folder (see `sample.py`). A
tracker that fails is a blank with the reason, and the others go on. Samples are kept as they come: an interrupted
`make bench` goes on where it was, unless `--fresh`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import report
from environments import NotInstalledError, python_of, variables, version_of
from machine import machine
from peers.registry import ENTRIES, Entry, blank
from workloads import WORKLOADS, Workload

RESULTS = Path(__file__).parent / "results" / "peers.json"
SAMPLE = Path(__file__).parent / "sample.py"
SAMPLE_TIMEOUT_S = 120
ONCE = frozenset({"memory"})
"""Long, and alike from one time to the next."""


def main() -> None:
    """Measures, prints, and writes results, page and chart."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="rund and the limits, one round; writes nothing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=22, help="after which trackers get no further round")
    parser.add_argument("--peers", nargs="+", help="modules of peers/; all unless told otherwise")
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--folder", type=Path, help="where roots and files are made; on a disk, not in memory")
    parser.add_argument("--fresh", action="store_true", help="forget the samples of an interrupted run")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that no sample is left running
    asked = options.peers or [entry.module for entry in ENTRIES if not options.quick or not entry.environment]
    entries = [entry for entry in ENTRIES if entry.module in asked]
    kept = None if options.quick else RESULTS.with_suffix(".partial.json")
    rounds = 1 if options.quick else options.rounds
    bench = Bench(rounds, options.quick, kept, time.monotonic() + 60 * options.minutes, fresh=options.fresh)
    with tempfile.TemporaryDirectory(prefix="rb-", dir=options.folder) as folder:  # the path of a socket must be short
        bench.run(entries, [WORKLOADS[name] for name in options.workloads], Path(folder))
    print(f"\n{report.text(bench.results)}")
    if kept is not None:
        RESULTS.write_text(json.dumps(bench.results, indent=1) + "\n")
        report.write(bench.results)
        kept.unlink()
        print(f"written to {RESULTS.name}, docs/performance.md and docs/images/performance.png")


class Bench:
    """The results, as far as they are there."""

    def __init__(self, rounds: int, quick: bool, kept: Path | None, deadline: float, *, fresh: bool) -> None:
        self._rounds, self._quick, self._kept, self._deadline = rounds, quick, kept, deadline
        self._pythons: dict[str, Path] = {}
        self.results: dict[str, Any] = {"machine": machine(), "rounds": rounds, "peers": {}}
        if kept is not None and kept.exists() and not fresh:
            found = json.loads(kept.read_text())
            if found["machine"] == self.results["machine"] and found["rounds"] == rounds:
                print(f"going on with {kept.name}")
                self.results = found

    def run(self, entries: list[Entry], workloads: list[Workload], folder: Path) -> None:
        """One round after the other, and in each every tracker on every workload."""
        for entry in entries:
            self._install(entry)
        for number in range(self._rounds):
            for workload in workloads:
                # Every other round goes the other way, so that no tracker is always behind the same one.
                for entry in entries if number % 2 == 0 else reversed(entries):
                    self._one(entry, workload, number, folder)

    def _install(self, entry: Entry) -> None:
        found = self.results["peers"].setdefault(entry.module, {"version": "", "samples": {}, "blanks": {}})
        try:
            self._pythons[entry.module] = python_of(entry)
            found["version"] = version_of(entry, self._pythons[entry.module])
            print(f"{entry.label}: {entry.package} {found['version']}", flush=True)
        except NotInstalledError as error:
            found["blanks"] = dict.fromkeys(WORKLOADS, str(error))
            print(f"{entry.label}: {error}", flush=True)

    def _one(self, entry: Entry, workload: Workload, number: int, folder: Path) -> None:
        found = self.results["peers"][entry.module]
        samples = found["samples"].setdefault(workload.name, [])
        reason = blank(entry, workload.name) or found["blanks"].get(workload.name)
        if reason is not None:
            found["blanks"][workload.name] = reason
        wanted = 1 if workload.name in ONCE else number + 1
        if reason is not None or len(samples) >= wanted:
            return
        if samples and entry.environment and time.monotonic() > self._deadline:
            return  # rund and the limits get all their rounds, the others what there is time for
        count = workload.quick if self._quick else entry.counts.get(workload.name, workload.count)
        began = time.monotonic()
        try:
            figures = sampled(self._pythons[entry.module], entry, workload, count, folder / "s")
        except SampleError as error:
            if not samples:
                found["blanks"][workload.name] = str(error)
            print(f"{number + 1} {workload.name:6} {entry.module:16} {error}", flush=True)
        else:
            samples.append(figures)
            shown = report.sample_text(workload.name, figures)
            print(
                f"{number + 1} {workload.name:6} {entry.module:16} {shown} ({time.monotonic() - began:.0f} s)",
                flush=True,
            )
        if self._kept is not None:
            self._kept.parent.mkdir(exist_ok=True)
            self._kept.write_text(json.dumps(self.results))


class SampleError(Exception):
    """A sample gave no figure; the text is the reason that is shown."""


def sampled(python: Path, entry: Entry, workload: Workload, count: int, folder: Path) -> dict[str, float]:
    """Runs one sample in a process group of its own, of which nothing is left afterwards."""
    folder.mkdir()
    command = [str(python), str(SAMPLE), entry.module, workload.name, str(count), str(folder)]
    said, errors = folder.with_suffix(".out"), folder.with_suffix(".err")
    try:
        # Files and not pipes: a process of the tracker's that outlives the sample would hold a pipe open.
        with said.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdout=stdout, stderr=stderr, env=variables(folder), start_new_session=True
            )
            try:
                process.wait(SAMPLE_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                raise SampleError(f"not done within {SAMPLE_TIMEOUT_S} s") from None
            finally:
                end_group(process)
        if process.returncode:
            raise SampleError(f"failed: {last_line(errors.read_bytes())}")
        figures: dict[str, float] = json.loads(said.read_text().splitlines()[-1])
        return figures
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Kills the sample and what it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(stderr: bytes) -> str:
    """What it said at the end."""
    lines = stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "it said nothing"


if __name__ == "__main__":
    main()
