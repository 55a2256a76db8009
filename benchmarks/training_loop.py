"""How much a training loop of 1 ms a step is slowed by a call of `log` a step.

Two loops: pure Python, the worst case, because a tracker's threads need the interpreter's lock that it holds; and
NumPy, which gives that lock up, as trainings do that compute on an accelerator. Each step is the same arithmetic,
whose amount is found once.

By the clock, a loop that runs for a second differs from itself by more than a good tracker costs. So the loops
alternate every ten steps, in the order plain, logged, logged, plain: what the machine does meanwhile meets both
alike. Each four blocks give a ratio; shown is the median of all, and where it lies with 95 % confidence. The same is
told of the processor time of the thread that trains (`caller`), which does not see what other processes do to the
clock, nor what the call waits for. What the tracker's threads do meets both kinds of blocks, so it is not in that. It
is counted in another loop that logs at each step: the processor time of all threads but the one that trains. Of a
loop in pure Python they can take as much as that and no more; so that is added to it. A loop in NumPy goes on beside
them where there is a second core.

In that loop each call is timed, too. It is slower than in a loop of nothing but calls, because the step before it has
had the caches.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import count
from time import perf_counter_ns

import numpy as np

BLOCK_STEPS = 10
STEADY_STEPS = 2_000
_CONFIDENCE = 1.96
Log = Callable[[dict[str, float], int], object]
Step = Callable[[], object]


def slowdown(log: Log, quads: int) -> dict[str, float]:
    """All figures, of so many times four blocks of each kind of loop.

    `*_percent` are of the plain loop, `*_us` microseconds a step. `*_wall_percent` is what the loop is slower by.
    """
    figures: dict[str, float] = {}
    steps = count()
    for kind, work in (("python", python_step()), ("numpy", numpy_step())):
        figures |= {f"{kind}_{name}": value for name, value in one_loop(work, log, steps, quads).items()}
    return figures


def one_loop(work: Step, log: Log, steps: Iterator[int], quads: int) -> dict[str, float]:
    """The figures of one kind of loop."""
    run_block(work, log, steps)
    plain: list[int] = []
    ratios: tuple[list[float], list[float]] = ([], [])
    for _ in range(quads):
        one, two, three, four = (run_block(work, write, steps) for write in (None, log, log, None))
        plain += [one[0], four[0]]
        for clock, found in enumerate(ratios):
            found.append((two[clock] + three[clock]) / (one[clock] + four[clock]))
    step_us = statistics.median(plain) / BLOCK_STEPS / 1000
    least, middle, most = (100 * (ratio - 1) for ratio in median_between(ratios[0]))
    caller_least, caller, caller_most = (100 * (ratio - 1) for ratio in median_between(ratios[1]))
    call_us, threads_us = steady(work, log, steps)
    # NumPy's threads of its own would be counted, too; there are none.
    added = 100 * threads_us / step_us if work.__name__ == "python" else 0.0
    return {
        "step_us": step_us,
        "call_us": call_us,
        "threads_us": threads_us,
        "blocks_percent": middle,
        "blocks_least_percent": least,
        "blocks_most_percent": most,
        "caller_percent": caller,
        "caller_least_percent": caller_least,
        "caller_most_percent": caller_most,
        "call_percent": 100 * call_us / step_us,
        "threads_percent": 100 * threads_us / step_us,
        "wall_percent": middle + added,
    }


def run_block(work: Step, log: Log | None, steps: Iterator[int]) -> tuple[int, int]:
    """A few steps; gives their nanoseconds, by the clock and of the processor by this thread."""
    began, processor = perf_counter_ns(), time.thread_time_ns()
    if log is None:
        for _ in range(BLOCK_STEPS):
            work()
    else:
        for _ in range(BLOCK_STEPS):
            work()
            log({"loss": 0.5, "accuracy": 0.25}, next(steps))
    return perf_counter_ns() - began, time.thread_time_ns() - processor


def steady(work: Step, log: Log, steps: Iterator[int]) -> tuple[float, float]:
    """A loop that logs at each step: microseconds of a call, and processor time of the other threads for a step."""
    calls, nothing = 0, 0
    others = time.process_time() - time.thread_time()
    for _ in range(STEADY_STEPS):
        work()
        began = perf_counter_ns()
        log({"loss": 0.5, "accuracy": 0.25}, next(steps))
        ended = perf_counter_ns()
        calls += ended - began
        nothing += perf_counter_ns() - ended
    others = time.process_time() - time.thread_time() - others
    return (calls - nothing) / STEADY_STEPS / 1000, others / STEADY_STEPS * 1e6


def median_between(values: list[float]) -> tuple[float, float, float]:
    """The median, between the values of which it is 95 % certain that the true one lies between them."""
    ordered, reach = sorted(values), _CONFIDENCE * math.sqrt(len(values)) / 2
    least, most = int(len(values) / 2 - reach), math.ceil(len(values) / 2 + reach)
    return ordered[max(0, least)], statistics.median(values), ordered[min(len(values) - 1, most)]


def python_step() -> Step:
    """1 ms of Python that never lets go of the interpreter's lock of its own accord."""

    def step(rounds: int) -> float:
        total = 0.0
        for number in range(rounds):
            total += number * 0.5
        return total

    rounds = calibrated(step, 10_000)

    def python() -> float:
        return step(rounds)

    return python


def numpy_step() -> Step:
    """1 ms of arithmetic without the lock, in pieces of 50 µs or so."""
    array = np.random.default_rng(0).random(100_000)

    def step(rounds: int) -> None:
        for _ in range(rounds):
            np.multiply(array, 1.0000001, out=array)

    rounds = calibrated(step, 20)

    def in_numpy() -> None:
        step(rounds)

    return in_numpy


def calibrated(step: Callable[[int], object], rounds: int) -> int:
    """How many rounds take a millisecond of processor time."""
    for _ in range(4):
        began = time.thread_time()
        for _ in range(100):
            step(rounds)
        rounds = max(1, round(rounds * 0.1 / (time.thread_time() - began)))
    return rounds
