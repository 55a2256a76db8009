"""Nearest neighbours, exactly, on all cores: the same rows whatever finds them, and no code to compile first."""

from __future__ import annotations

import numpy as np
from sklearn.neighbors import NearestNeighbors

from .vectors import Indices, Matrix


def nearest(basis: Matrix, rows: Matrix, count: int, metric: str) -> tuple[Indices, Matrix]:
    """Gives, of each row, its `count` nearest rows of the basis, nearest first, and their distances."""
    search = NearestNeighbors(n_neighbors=count, metric=metric, algorithm="brute").fit(basis)
    distances, indices = search.kneighbors(rows)
    return indices.astype(np.int32), np.maximum(distances, 0).astype(np.float32)


def nearest_among(rows: Matrix, count: int, metric: str) -> tuple[Indices, Matrix]:
    """The same of rows among themselves: each is its own nearest, at distance 0. `count` includes it."""
    indices, distances = nearest(rows, rows, min(count + 1, len(rows)), metric)
    own = np.arange(len(rows), dtype=np.int32)[:, None]
    # Rounding may put another row before a row itself, or push it out altogether.
    others = np.where(indices == own, np.inf, distances)
    order = np.argsort(others, axis=1, kind="stable")[:, : count - 1]
    found = np.take_along_axis(indices, order, axis=1)
    away = np.take_along_axis(distances, order, axis=1)
    return np.hstack([own, found]), np.hstack([np.zeros((len(rows), 1), dtype=np.float32), away])
