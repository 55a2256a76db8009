"""UMAP's layout of many rows, by all cores, with the same bytes for a seed whatever their number.

umap-learn moves both ends of an edge as it comes to it, which is another map with every other order: by several
threads, another map each time. Here a row is moved by one thread, by its own edges, seeing the others where they stood
when the epoch began; the forces, their schedule and the random numbers are umap-learn's. Its `fastmath` is not: what a
compiler may reorder has other last bits whenever it compiles in another way.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt
from umap.umap_ import make_epochs_per_sample
from umap.utils import tau_rand_int

from .vectors import Indices, Matrix

_INT32_MAX = np.iinfo(np.int32).max - 1


def spread_out(
    start: Matrix,
    edges: tuple[Indices, Indices, Matrix],
    *,
    epochs: int,
    curve: tuple[float, float],
    seed: int,
    repulsion: float,
    learning_rate: float,
    negatives: int,
) -> Matrix:
    """Moves rows until what is connected is near and the rest apart.

    Args:
        start: where rows are at first.
        edges: both directions of each, sorted by row: where a row's begin (one more than rows), where each leads, its
            weight above 0.
        epochs: rounds.
        curve: `a` and `b` of UMAP.
        seed: of the random numbers.
        repulsion: weight of the rows that are drawn to be kept away from.
        learning_rate: the share of a force that a row is moved by in the first epoch; less and less in later ones.
        negatives: rows to be kept away from, for each edge that is followed.
    """
    begins, tails, weights = edges
    if not epochs or not len(weights):
        return start
    every = make_epochs_per_sample(weights, epochs).astype(np.float32)
    following = every.copy()
    every_negative = every / np.float32(negatives)
    refusing = every_negative.copy()
    random = np.random.RandomState(seed).randint(-_INT32_MAX, _INT32_MAX, 3).astype(np.int64)
    states = random + np.arange(len(start), dtype=np.int64)[:, None] * np.int64(0x9E3779B1)
    places, before = np.array(start, dtype=np.float32, order="C"), np.empty(start.shape, dtype=np.float32)
    a, b = np.float32(curve[0]), np.float32(curve[1])
    for epoch in range(epochs):
        alpha = np.float32(learning_rate * (1.0 - max(epoch - 1, 0) / epochs))
        before[:] = places
        schedule = (every, following, every_negative, refusing)
        _move(places, before, begins, tails, *schedule, states, a, b, np.float32(repulsion), alpha, np.float32(epoch))
    return places


@numba.njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _move(  # noqa: C901, PLR0917  # one loop, which numba compiles as a whole
    places: Matrix,
    before: Matrix,
    begins: Indices,
    tails: Indices,
    every: Matrix,
    following: Matrix,
    every_negative: Matrix,
    refusing: Matrix,
    states: npt.NDArray[np.int64],
    a: np.float32,
    b: np.float32,
    repulsion: np.float32,
    alpha: np.float32,
    now: np.float32,
) -> None:
    count, components = places.shape
    one, two, most, least = np.float32(1), np.float32(2), np.float32(4), np.float32(0.001)
    for row in numba.prange(count):
        here = places[row]
        for edge in range(begins[row], begins[row + 1]):
            if following[edge] > now:
                continue
            there = before[tails[edge]]
            # Twice: of the two directions of an edge, umap-learn moves both ends with each.
            for _ in range(2):
                square = np.float32(0)
                for i in range(components):
                    away = here[i] - there[i]
                    square += away * away
                if square > 0:
                    power = square**b
                    force = -two * a * b * power / (square * (a * power + one))
                    for i in range(components):
                        step = force * (here[i] - there[i])
                        here[i] += alpha * min(max(step, -most), most)
            following[edge] += every[edge]
            negatives = int((now - refusing[edge]) / every_negative[edge])
            refusing[edge] += np.float32(negatives) * every_negative[edge]
            for _ in range(negatives):
                # Of 32 bits, which without a compiler it would not be.
                other = np.int32(tau_rand_int(states[row])) % count
                if other == row:
                    continue
                there = before[other]
                square = np.float32(0)
                for i in range(components):
                    away = here[i] - there[i]
                    square += away * away
                if square > 0:
                    power = square**b
                    force = two * repulsion * b / ((least + square) * (a * power + one))
                    for i in range(components):
                        step = force * (here[i] - there[i])
                        here[i] += alpha * min(max(step, -most), most)
