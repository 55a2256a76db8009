"""Measures what one call of `log` costs the trainer, and how soon what was logged is safe with the daemon.

    python benchmarks/log_call.py [--calls 200000]

Four figures, each with a daemon of its own on a new root below the present folder or `--folder`:

- a call of `log` with two floats, with nobody to send the rows: the journal alone;
- the same while the rows are being sent;
- 100,000 steps of two floats, one call a step, until every row is acknowledged;
- a training loop of 1 ms of pure Python a step: how much longer it takes when each step logs. Python that computes is
  the worst case, because the sender has to share the interpreter's lock with it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns

from rund._sender import HistoryLog
from rund._transport import Transport, run_calls
from rund._transport.run_calls import NewRun

STEPS = 100_000
ROUNDS = 5
LOOP_STEPS = 500
LOOP_PAIRS = 25


@contextmanager
def daemon(root: Path) -> Iterator[Transport]:
    """A daemon on a new root, and a connection to it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    command = [sys.executable, "-m", "rund_daemon", "serve", "--root", str(root)]
    with (root / "stderr.log").open("wb") as log, subprocess.Popen(command, stderr=log, env=environment) as process:
        while not (root / "daemon.json").exists():
            if process.poll() is not None:
                raise SystemExit((root / "stderr.log").read_text())
            time.sleep(0.02)
        transport = Transport(json.loads((root / "daemon.json").read_text())["address"])
        try:
            yield transport
        finally:
            transport.close()
            process.terminate()


def new_log(transport: Transport, root: Path, *, sends: bool) -> HistoryLog:
    """A log of a new run."""
    run, _ = run_calls.create_run(transport, NewRun(project_name="bench", run_name=uuid.uuid4().hex))
    return HistoryLog(transport if sends else None, root, run.resource_name, str(uuid.uuid4()), 0)


def call_times_us(log: HistoryLog, calls: int) -> list[float]:
    """How long each call took, sorted; the clock's own time is in it."""
    times, append = [0] * calls, log.log
    for step in range(calls):
        begin = perf_counter_ns()
        append({"loss": 0.5, "accuracy": 0.25}, step)
        times[step] = perf_counter_ns() - begin
    return sorted(nanoseconds / 1000 for nanoseconds in times)


def show_calls(name: str, times: list[float]) -> None:
    """One line of percentiles."""
    parts = [f"p{100 * share:g} {times[int(len(times) * share)]:.2f}" for share in (0.5, 0.9, 0.99, 0.999)]
    print(f"{name:34} {', '.join(parts)}, max {times[-1]:.0f} µs ({len(times):,} calls)")


def rows_per_second(make: Callable[[], HistoryLog]) -> float:
    """Rows a second from the first call until every row is acknowledged and the log is closed."""
    log = make()
    begin = time.perf_counter()
    for step in range(STEPS):
        log.log({"loss": 0.5, "accuracy": 0.25}, step)
    if not log.close(60):
        raise SystemExit("not every row was acknowledged")
    return STEPS / (time.perf_counter() - begin)


def spin(rounds: int) -> float:
    """Pure Python that takes as long as a step."""
    total = 0.0
    for number in range(rounds):
        total += number * 0.5
    return total


@dataclass(frozen=True)
class Loop:
    """What a training loop took: by the clock, and of the processors by all threads together."""

    wall_s: float
    cpu_s: float


def run_loop(rounds: int, log: HistoryLog | None) -> Loop:
    """A training loop, with or without a call of `log` a step."""
    wall, cpu = time.perf_counter(), time.process_time()
    for step in range(LOOP_STEPS):
        spin(rounds)
        if log is not None:
            log.log({"loss": 0.5, "accuracy": 0.25}, step)
    return Loop(time.perf_counter() - wall, time.process_time() - cpu)


def slowdown_percent(log: HistoryLog) -> tuple[float, float]:
    """How much longer the loop takes with the log, by the clock and by processor time: medians of many short pairs."""
    rounds = 1000
    while (took := run_loop(rounds, None).cpu_s) < 0.9 * LOOP_STEPS / 1000:
        rounds = int(rounds * LOOP_STEPS / 1000 / took)
    run_loop(rounds, log)
    pairs = [(run_loop(rounds, None), run_loop(rounds, log)) for _ in range(LOOP_PAIRS)]
    wall = statistics.median(logged.wall_s / plain.wall_s for plain, logged in pairs)
    cpu = statistics.median(logged.cpu_s / plain.cpu_s for plain, logged in pairs)
    return 100 * (wall - 1), 100 * (cpu - 1)


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the root is made; not in memory")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {platform.machine()}, {platform.system()}")
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="rund-") as folder:
        root = Path(folder)
        with daemon(root) as transport:
            alone = new_log(transport, root, sends=False)
            show_calls("log, the journal alone", call_times_us(alone, options.calls))
            alone.close(0)
            sending = new_log(transport, root, sends=True)
            show_calls("log, while the rows are sent", call_times_us(sending, options.calls))
            sending.close(60)
            rates = [rows_per_second(lambda: new_log(transport, root, sends=True)) for _ in range(ROUNDS)]
            print(
                f"{'until everything is acknowledged':34} {statistics.median(rates):,.0f} rows/s (median of {ROUNDS})"
            )
            steady = new_log(transport, root, sends=True)
            wall, cpu = slowdown_percent(steady)
            steady.close(60)
            print(f"{'a loop of 1 ms a step is slower by':34} {wall:.2f} %, and takes {cpu:.2f} % more processor time")


if __name__ == "__main__":
    main()
