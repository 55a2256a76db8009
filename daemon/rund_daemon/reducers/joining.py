"""Where UMAP puts further rows in a map that stays as it is.

A row that joins depends on its neighbours in the map and on its own draws, and on no other row that joins. So it is
moved through all epochs at once, and chunks of rows are moved side by side by threads that hold no lock. umap-learn
does the same epoch by epoch; forces, schedule and epochs are its own. No part of it is needed here: to load it takes
longer than to map a chunk.

Nothing here is compiled with `fastmath`, as umap-learn has it: what a compiler may reorder has other last bits whenever
it compiles in another way, and a map that was kept is met again by processes that compiled on their own. All is said in
float32 for the same reason, so that Python without a compiler comes to the same bytes.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from .vectors import Indices, Matrix

_TOLERANCE = 1e-5
_HALVINGS = 64
_LEAST_WIDTH = 1e-3
"""A neighbourhood is at least so wide, as a share of the mean distance: else one row would count and no other."""


def join(
    places: Matrix,
    neighbours: tuple[Indices, Matrix],
    *,
    epochs: int,
    curve: tuple[float, float],
    seed: int,
    connectivity: float,
    repulsion: float,
    learning_rate: float,
    negatives: int,
) -> Matrix:
    """Places rows among others.

    Args:
        places: where the others are; C-contiguous.
        neighbours: of each row the nearest of the others, nearest first, and their distances.
        epochs: rounds.
        curve: `a` and `b` of UMAP.
        seed: of the random numbers.
        connectivity: how many of the nearest rows count as no way off.
        repulsion: weight of the rows that are drawn to be kept away from.
        learning_rate: the share of a force that a row is moved by in the first epoch; less and less in later ones.
        negatives: rows to be kept away from, for each neighbour that is followed.
    """
    indices, distances = neighbours
    weights = _weights(distances, connectivity)
    moved = _among_neighbours(weights, places[indices])
    weights[weights < weights.max() / np.float32(epochs)] = 0.0
    numbers = np.array([*curve, repulsion, learning_rate], dtype=np.float32)
    _move(moved, places, indices, weights / weights.max(), epochs, negatives, np.uint64(seed), numbers)
    return moved


def _weights(distances: Matrix, connectivity: float) -> Matrix:
    weights = np.ones(distances.shape, dtype=np.float32)
    _weigh(weights, distances, distances.mean(axis=1), np.float64(distances.mean()), np.float64(connectivity))
    return weights


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _weigh(
    weights: Matrix, distances: Matrix, means: Matrix, mean_distance: np.float64, connectivity: np.float64
) -> None:
    """How much each neighbour counts: exp(-(distance - near) / width), of a width that makes them log2(k) together."""
    count, neighbours = distances.shape
    wanted = np.log2(neighbours)
    for row in range(count):
        near = _near(distances[row], connectivity)
        low, high, width = 0.0, np.inf, 1.0
        for _ in range(_HALVINGS):
            total = 0.0
            for i in range(1, neighbours):  # the first of them is left out, as umap-learn has it
                away = distances[row, i] - near
                total += np.exp(-away / width) if away > 0 else 1.0
            if abs(total - wanted) < _TOLERANCE:
                break
            if total > wanted:
                high = width
            else:
                low = width
            width = 2 * width if high == np.inf else (low + high) / 2
        least = _LEAST_WIDTH * (means[row] if near > 0 else mean_distance)
        width = max(width, least)
        for i in range(neighbours):
            away = distances[row, i] - near
            if away > 0 and width > 0:
                weights[row, i] = np.exp(-away / width)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _near(distances: Matrix, connectivity: np.float64) -> np.float64:
    """The distance of the nearest neighbour of that number, of those that are away at all; between two of them, too."""
    first, count = 0, len(distances)
    while first < count and distances[first] <= 0:
        first += 1
    if first == count or connectivity <= 0:
        return np.float64(0)
    if count - first < connectivity:
        return np.float64(distances[count - 1])
    whole = int(connectivity)
    rest = connectivity - whole
    if whole == 0:
        return np.float64(rest * distances[first])
    near = np.float64(distances[first + whole - 1])
    if rest > _TOLERANCE and first + whole < count:
        near += rest * (distances[first + whole] - near)
    return near


def _among_neighbours(weights: Matrix, around: npt.NDArray[np.float32]) -> Matrix:
    """Where rows start: at the mean of their neighbours by weight, or at the place of one that is no further than 0."""
    shares = weights / weights.sum(axis=1, keepdims=True)
    start = np.einsum("rk,rkc->rc", shares, around)
    same = np.flatnonzero((weights == 1).any(axis=1))
    start[same] = around[same, np.argmax(weights[same] == 1, axis=1)]
    return np.ascontiguousarray(start, dtype=np.float32)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _move(  # noqa: PLR0917  # one loop, which numba compiles as a whole
    moved: Matrix,
    places: Matrix,
    indices: Indices,
    weights: Matrix,
    epochs: int,
    negatives: int,
    seed: np.uint64,
    numbers: Matrix,
) -> None:
    """Moves each row through all epochs: to the neighbours whose turn it is, and away from rows that are drawn."""
    a, b, repulsion, learning_rate = numbers[0], numbers[1], numbers[2], numbers[3]
    one, two, least = np.float32(1), np.float32(2), np.float32(0.001)
    neighbours, draws = indices.shape[1], np.float32(negatives)
    every = np.empty(neighbours, dtype=np.float32)
    following = np.empty(neighbours, dtype=np.float32)
    refusing = np.empty(neighbours, dtype=np.float32)
    for row in range(len(moved)):
        here = moved[row]
        # Of the row's own start, so that it is drawn for alike wherever it stands in its chunk.
        state = seed
        for i in range(len(here)):
            state = _next(state ^ np.uint64(np.int64(here[i] * np.float32(1 << 20))))
        for i in range(neighbours):
            every[i] = one / weights[row, i] if weights[row, i] > 0 else np.float32(epochs + 1)
            following[i], refusing[i] = every[i], every[i] / draws
        for epoch in range(epochs):
            now = np.float32(epoch)
            alpha = learning_rate * (one - max(now - one, np.float32(0)) / np.float32(epochs))
            for i in range(neighbours):
                if following[i] > now:
                    continue
                there = places[indices[row, i]]
                square = _square(here, there)
                if square > 0:
                    power = square**b
                    _step(here, there, alpha, -two * a * b * power / (square * (a * power + one)))
                following[i] += every[i]
                drawn = int((now - refusing[i]) * draws / every[i])
                refusing[i] += np.float32(drawn) * every[i] / draws
                for _ in range(drawn):
                    state = _next(state)
                    there = places[(state >> np.uint64(33)) % np.uint64(len(places))]
                    square = _square(here, there)
                    if square > 0:
                        force = two * repulsion * b / ((least + square) * (a * square**b + one))
                        _step(here, there, alpha, force)


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _next(state: np.uint64) -> np.uint64:
    """Knuth's linear congruential generator; its upper bits are random enough to draw rows by."""
    return np.uint64(state * np.uint64(6364136223846793005) + np.uint64(1442695040888963407))


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _square(here: Matrix, there: Matrix) -> np.float32:
    square = np.float32(0)
    for i in range(len(here)):
        away = here[i] - there[i]
        square += away * away
    return square


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _step(here: Matrix, there: Matrix, alpha: np.float32, force: np.float32) -> None:
    most = np.float32(4)
    for i in range(len(here)):
        here[i] += alpha * min(max(force * (here[i] - there[i]), -most), most)
