"""Nearest neighbours, exactly: the same rows whatever finds them, and no code to compile first."""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np

from .vectors import Indices, Matrix


class Search(Protocol):
    """Finds neighbours among the rows that it was made for."""

    def nearest(self, rows: Matrix, count: int, threads: int) -> tuple[Indices, Matrix]:
        """Gives, of each row, its `count` nearest rows, nearest first, and their distances."""


class ExactSearch:
    """Compares all with all. How many threads do it, OpenMP decides."""

    def __init__(self, rows: Matrix, metric: str) -> None:
        from sklearn.neighbors import NearestNeighbors  # noqa: PLC0415  # a second, and cells do without

        self._search = NearestNeighbors(metric=metric, algorithm="brute").fit(rows)

    def nearest(self, rows: Matrix, count: int, threads: int) -> tuple[Indices, Matrix]:
        """Gives the nearest rows."""
        distances, indices = self._search.kneighbors(rows, count)
        return indices.astype(np.int32), np.maximum(distances, 0).astype(np.float32)


def nearest_among(rows: Matrix, count: int, search: Search) -> tuple[Indices, Matrix]:
    """Of each row that is searched its nearest: itself first, at distance 0. `count` includes it."""
    indices, distances = search.nearest(rows, min(count + 1, len(rows)), cores())
    own = np.arange(len(rows), dtype=np.int32)[:, None]
    # Rounding may put another row before a row itself, or push it out altogether.
    others = np.where(indices == own, np.inf, distances)
    order = np.argsort(others, axis=1, kind="stable")[:, : count - 1]
    found = np.take_along_axis(indices, order, axis=1)
    away = np.take_along_axis(distances, order, axis=1)
    return np.hstack([own, found]), np.hstack([np.zeros((len(rows), 1), dtype=np.float32), away])


def cores() -> int:
    """Cores that this process may use: those of the host, and no more than OMP_NUM_THREADS says."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(wanted)) if wanted.isdecimal() and int(wanted) else there
