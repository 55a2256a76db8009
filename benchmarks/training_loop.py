"""How much a training loop of 1 ms a step is slowed by a call of `log` a step.

Two loops: pure Python, the worst case, because a tracker's threads need the interpreter's lock that it holds; and
NumPy, which gives that lock up, as trainings do that compute on an accelerator. A loop runs for a second, longer than
any tracker waits until it sends what has gathered, and alternately with and without `log`, in the order plain,
logged, logged, plain, so that a drift of the machine's speed meets both alike.

Beside the clock stands the processor time that the process took more: it is in the ratio whether or not a core was
idle. And it is divided, as far as the kernel counts it by thread: `caller` is the call itself, `threads` is all else.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

STEPS = 1_000
Log = Callable[[dict[str, float], int], object]


@dataclass(frozen=True)
class Loop:
    """What one loop took: by the clock, of the processors by the whole process, and by the thread that trains."""

    wall_s: float
    process_s: float
    caller_s: float


def slowdown(log: Log, pairs: int) -> dict[str, float]:
    """In percent of the plain loop: medians over so many pairs of each kind of loop."""
    figures: dict[str, float] = {}
    steps = count()
    for kind, work in (("python", python_step()), ("numpy", numpy_step())):
        run_loop(work, log, steps)
        plain: list[Loop] = []
        logged: list[Loop] = []
        for number in range(pairs):
            order = ((plain, None), (logged, log)) if number % 2 == 0 else ((logged, log), (plain, None))
            for loops, write in order:
                loops.append(run_loop(work, write, steps))
        both = list(zip(plain, logged, strict=True))
        base = statistics.median(loop.wall_s for loop in plain)
        caller = statistics.median(two.caller_s - one.caller_s for one, two in both)
        process = statistics.median(two.process_s - one.process_s for one, two in both)
        threads = statistics.median(two.process_s - two.caller_s for two in logged)
        figures |= {
            f"{kind}_wall_percent": 100 * (statistics.median(two.wall_s / one.wall_s for one, two in both) - 1),
            f"{kind}_process_percent": 100 * process / base,
            f"{kind}_caller_percent": 100 * caller / base,
            f"{kind}_threads_percent": 100 * threads / base,
        }
    return figures


def run_loop(work: Callable[[], object], log: Log | None, steps: Iterator[int]) -> Loop:
    """A second of training."""
    wall, process, caller = time.perf_counter(), time.process_time(), time.thread_time()
    for _ in range(STEPS):
        work()
        if log is not None:
            log({"loss": 0.5, "accuracy": 0.25}, next(steps))
    return Loop(time.perf_counter() - wall, time.process_time() - process, time.thread_time() - caller)


def python_step() -> Callable[[], object]:
    """1 ms of Python that never lets go of the interpreter's lock of its own accord."""

    def step(rounds: int) -> float:
        total = 0.0
        for number in range(rounds):
            total += number * 0.5
        return total

    rounds = calibrated(step, 10_000)
    return lambda: step(rounds)


def numpy_step() -> Callable[[], object]:
    """1 ms of arithmetic without the lock, in pieces of 50 µs or so."""
    array = np.random.default_rng(0).random(100_000)

    def step(rounds: int) -> None:
        for _ in range(rounds):
            np.multiply(array, 1.0000001, out=array)

    rounds = calibrated(step, 20)
    return lambda: step(rounds)


def calibrated(step: Callable[[int], object], rounds: int) -> int:
    """How many rounds take a millisecond of processor time."""
    for _ in range(4):
        began = time.thread_time()
        for _ in range(100):
            step(rounds)
        rounds = max(1, round(rounds * 0.1 / (time.thread_time() - began)))
    return rounds
