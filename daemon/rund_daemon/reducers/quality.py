"""How much of the vectors' neighbourhoods a map keeps."""

from __future__ import annotations

import numpy as np

from .neighbours import ExactSearch, nearest_among
from .vectors import Matrix

NEIGHBOURS = 15
SAMPLE_ROWS = 2_000


def measure(vectors: Matrix, places: Matrix, metric: str, seed: int) -> dict[str, float]:
    """Measures a map on a sample of its rows, each compared with the sample alone.

    Returns:
        `trustworthiness` (1 is best; 0.5 is chance) and `neighbour_overlap`, the share of the 15 nearest rows that are
        the same in both; nothing where there are too few rows to say.
    """
    from sklearn.manifold import trustworthiness  # noqa: PLC0415  # a second, and who maps with a model does without

    count = min(len(vectors), SAMPLE_ROWS)
    neighbours = min(NEIGHBOURS, (count - 1) // 2)
    if neighbours < 1 or count < 2 * neighbours + 1:
        return {}
    chosen = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
    rows, points = vectors[chosen], places[chosen]
    first, _ = nearest_among(rows, neighbours + 1, ExactSearch(rows, metric))
    second, _ = nearest_among(points, neighbours + 1, ExactSearch(points, "euclidean"))
    same = (first[:, 1:, None] == second[:, None, 1:]).any(axis=2).mean()
    trust = trustworthiness(rows, points, n_neighbors=neighbours, metric=metric)
    return {
        "trustworthiness": round(float(trust), 4),
        "neighbour_overlap": round(float(same), 4),
        "sample_rows": float(count),
        "k": float(neighbours),
    }
