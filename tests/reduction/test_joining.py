"""Rows that join a map of UMAP: weights as umap-learn has them, and a place that nothing but the row itself decides."""

import numpy as np
import pytest

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("umap")]

RANDOM = np.random.default_rng(0)
MAP = RANDOM.normal(size=(500, 3)).astype(np.float32) * 5
# None is the number of one of the 200 rows, which umap-learn would take for the row itself.
INDICES = np.stack([200 + RANDOM.choice(300, 15, replace=False) for _ in range(200)]).astype(np.int32)
DISTANCES = np.sort(RANDOM.gamma(2.0, size=(200, 15)), axis=1).astype(np.float32)
OPTIONS = {"epochs": 30, "curve": (1.58, 0.895), "connectivity": 0.0, "repulsion": 1.0, "learning_rate": 0.25}


@pytest.mark.parametrize("connectivity", [0.0, 0.5, 1.0, 2.5, 20.0])
def test_neighbours_count_as_they_do_for_umap_learn(connectivity: float) -> None:
    from rund_daemon.reducers.joining import _weights
    from umap.umap_ import compute_membership_strengths, smooth_knn_dist

    distances = DISTANCES.copy()
    distances[0], distances[1, :4], distances[2] = 0, 0, 3
    sigmas, rhos = smooth_knn_dist(distances, 15.0, local_connectivity=connectivity)
    _, _, expected, _ = compute_membership_strengths(INDICES, distances, sigmas, rhos, False)
    found = _weights(distances, connectivity)
    assert np.allclose(found, expected.reshape(found.shape), atol=1e-4)


def test_rows_come_as_near_to_their_neighbours_as_by_umap_learn() -> None:
    from rund_daemon.reducers.joining import _among_neighbours, _weights, join
    from umap.layouts import optimize_layout_euclidean
    from umap.umap_ import make_epochs_per_sample

    near = np.argsort(((MAP[:200, None] - MAP) ** 2).sum(axis=2), axis=1)[:, 1:16].astype(np.int32)
    found = join(MAP, (near, DISTANCES), seed=1, negatives=5, **OPTIONS)
    weights = _weights(DISTANCES, 0.0)
    start = _among_neighbours(weights, MAP[near])
    edges = weights.ravel() / weights.max()
    heads, tails = np.repeat(np.arange(200, dtype=np.int32), 15)[edges >= 1 / 30], near.ravel()[edges >= 1 / 30]
    every, states = make_epochs_per_sample(edges[edges >= 1 / 30], 30), np.array([1, 2, 3], dtype=np.int64)
    expected = optimize_layout_euclidean(
        start, MAP, heads, tails, 30, 500, every, 1.58, 0.895, states, 1.0, 0.25, 5, parallel=False, move_other=False
    )
    away, expected_away = (np.linalg.norm(MAP[near] - places[:, None], axis=2) for places in (found, expected))
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.95
    assert abs(np.median(away) / np.median(expected_away) - 1) < 0.05


def test_a_row_goes_to_the_same_place_wherever_it_stands_in_its_chunk() -> None:
    from rund_daemon.reducers.joining import join

    found = join(MAP, (INDICES, DISTANCES), seed=1, negatives=5, **OPTIONS)
    order = RANDOM.permutation(200)
    again = join(MAP, (INDICES[order], DISTANCES[order]), seed=1, negatives=5, **OPTIONS)
    assert again.tobytes() == found[order].tobytes()
    assert join(MAP, (INDICES, DISTANCES), seed=2, negatives=5, **OPTIONS).tobytes() != found.tobytes()
