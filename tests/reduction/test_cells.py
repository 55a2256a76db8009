"""Neighbours by cells: nearly all that there are, at the right distances, whatever the numbers and the threads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default")]

RANDOM = np.random.default_rng(0)
GROUPS = RANDOM.normal(size=(20, 16))[RANDOM.integers(20, size=3_000)] * 3 + RANDOM.normal(size=(3_000, 16))
NOISE = RANDOM.normal(size=(2_000, 32))


@pytest.mark.parametrize(
    ("values", "metric"),
    [
        pytest.param(GROUPS, "euclidean", id="groups"),
        pytest.param(GROUPS, "cosine", id="cosine"),
        pytest.param(GROUPS, "correlation", id="correlation"),
        pytest.param(NOISE, "euclidean", id="noise"),
        pytest.param(GROUPS + 10_000, "euclidean", id="far off"),
        pytest.param(GROUPS * 1e17, "euclidean", id="large"),
        pytest.param(GROUPS * 1e-30, "euclidean", id="tiny"),
        pytest.param(GROUPS * 1e17, "cosine", id="large by cosine"),
        pytest.param(np.linspace(0, 1, 2_000)[:, None] ** 9, "euclidean", id="one column"),
    ],
)
def test_nearly_all_neighbours_are_found_at_their_distances(values: np.ndarray, metric: str) -> None:
    from rund_daemon.reducers.cells import FOUND, CellSearch
    from rund_daemon.reducers.neighbours import ExactSearch, nearest_among

    rows = values.astype(np.float32)
    search = CellSearch.divide(rows, metric, seed=1)
    assert search.cells.found >= FOUND
    _, distances = nearest_among(rows, 15, search)
    # The exact search is in float64 for these few, and scaled: squares of tiny numbers are zero to it, too.
    scaled = rows / np.abs(rows).max()
    _, expected = nearest_among(scaled, 15, ExactSearch(scaled.astype(np.float64), metric))
    if metric == "euclidean":
        expected = expected * np.abs(rows).max()
    span = expected.max()
    assert (np.abs(distances - expected) <= 1e-3 * span + 1e-3 * expected).mean() > 0.97


def test_the_number_of_threads_changes_nothing() -> None:
    from rund_daemon.reducers.cells import CellSearch

    rows = np.concatenate([GROUPS] * 4).astype(np.float32)  # more than a thread takes at once
    search = CellSearch.divide(rows, "euclidean", seed=1)
    first, second = (search.nearest(rows, 15, threads) for threads in (1, 3))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()


def test_rows_are_found_where_near_cells_hold_too_few() -> None:
    from rund_daemon.reducers.cells import CellSearch

    rows = GROUPS[:400].astype(np.float32)
    search = CellSearch.divide(rows, "euclidean", seed=1)
    search.cells = replace(search.cells, probes=1)
    indices, distances = search.nearest(rows, 300, threads=1)
    assert indices.min() >= 0
    assert np.isfinite(distances).all()
    assert all(len(set(one)) == 300 for one in indices.tolist())


@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in ("umap", "pacmap")]
)
def test_a_map_with_cells_is_as_good_and_is_kept_with_them(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rund_daemon.reducers import kept_search
    from rund_daemon.reducers.fitted import load, save
    from rund_daemon.reducers.fitting import fit
    from rund_daemon.reducers.parameters import Parameters
    from rund_daemon.reducers.transforming import transform
    from sklearn.datasets import load_digits

    monkeypatch.setattr(kept_search, "EXACT_ROWS", 500)
    values = load_digits().data.astype(np.float32)
    fitted = fit(values[:1_500], Parameters(method=method, seed=1), "t", "e")
    assert fitted.origin.quality["trustworthiness"] >= 0.95
    assert fitted.origin.quality["neighbours_found"] >= 0.99
    save(fitted, tmp_path / "model.arrow")
    again = load(tmp_path / "model.arrow")
    assert again.arrays["cell_centres"].tobytes() == fitted.arrays["cell_centres"].tobytes()
    monkeypatch.setattr(kept_search, "EXACT_ROWS", 10**9)  # what a model has counts, and not what is chosen today
    assert transform(again, values[1_500:], "t", "e").tobytes() == transform(fitted, values[1_500:], "t", "e").tobytes()
