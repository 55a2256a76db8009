"""Real UMAP and PaCMAP on small data: quality, the same bytes for a seed, and models that outlive their process."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rund_daemon.errors import InvalidError
from rund_daemon.reducers.chunks import chunks_of, mapper_of
from rund_daemon.reducers.fitted import Fitted, load, save
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.reducers.transforming import transform

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default")]

# Each is compiled by a process of its own, while the other is.
METHODS = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in ("umap", "pacmap")]
# Where it does not matter how good a map is.
QUICK = {"umap": {"n_epochs": 20}, "pacmap": {"num_iters": 10}}
Digits = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return values.astype(np.float32), labels


def share_of_own_label(basis: np.ndarray, labels: np.ndarray, places: np.ndarray, expected: np.ndarray):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(5).fit(basis, labels).score(places, expected)


@pytest.mark.parametrize("method", METHODS)
def test_a_map_of_digits_keeps_neighbourhoods_and_places_new_ones_among_their_like(method: str, digits: Digits) -> None:
    values, labels = digits
    fitted = fit(values[::2], Parameters(method=method, n_components=2, seed=1), "metrics/a", "e")
    assert fitted.origin.quality["trustworthiness"] >= 0.95
    assert fitted.origin.quality["neighbour_overlap"] > 0.3
    places = transform(fitted, values[1::2], "metrics/b", "e")
    assert share_of_own_label(fitted.map, labels[::2], places, labels[1::2]) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_gives_the_same_bytes_in_another_process(method: str, digits: Digits, tmp_path: Path) -> None:
    values = digits[0][:400]
    fitted = fit(values[:300], Parameters(method=method, seed=11), "metrics/a", "e")
    save(fitted, tmp_path / "model.arrow")
    np.save(tmp_path / "rows.npy", values)
    code = f"""
import numpy as np
import sys
from pathlib import Path
from rund_daemon.reducers.fitted import load
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.reducers.transforming import transform
folder = Path({str(tmp_path)!r})
rows = np.load(folder / "rows.npy")
np.save(folder / "mapped.npy", transform(load(folder / "model.arrow"), rows, "t", "e"))
assert not {{"umap", "pynndescent", "pacmap"}} & set(sys.modules), "who maps with a model needs no library that fits"
again = fit(rows[:300], Parameters(method={method!r}, seed=11), "t", "e")
np.save(folder / "fitted.npy", again.map)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
    assert np.load(tmp_path / "fitted.npy").tobytes() == fitted.map.tobytes()
    mapped = np.load(tmp_path / "mapped.npy")
    assert mapped.tobytes() == transform(fitted, values, "metrics/a", "e").tobytes()
    assert mapped[:300].tobytes() == fitted.map.tobytes(), "rows that were fitted stay where they are"


@pytest.mark.parametrize("method", METHODS)
def test_another_seed_gives_another_map(method: str, digits: Digits) -> None:
    values = digits[0][:100]
    first, second = (
        fit(values, Parameters(method=method, seed=seed, options=QUICK[method]), "t", "e").map for seed in (1, 2)
    )
    assert not np.array_equal(first, second)


class OneByOneBackwards:
    """Maps chunks in another order than they come in."""

    def map(self, fitted: Fitted, rows: np.ndarray):
        mapper = mapper_of(fitted)
        done = [mapper(chunk) for chunk in reversed(chunks_of(fitted, rows))]
        return reversed(done)


@pytest.mark.parametrize("method", METHODS)
def test_chunks_give_the_same_rows_whoever_carries_them_out(method: str, digits: Digits, tmp_path: Path) -> None:
    values = digits[0]
    fitted = replace(
        fit(values[:200], Parameters(method=method, seed=1, options=QUICK[method]), "t", "e"), chunk_rows=64
    )
    one = transform(fitted, values[200:500], "t", "e")
    other = transform(fitted, values[200:500], "t", "e", executor=OneByOneBackwards())
    assert one.tobytes() == other.tobytes()
    save(fitted, tmp_path / "model.arrow")
    assert load(tmp_path / "model.arrow").chunk_rows == 64


NORMAL = np.random.default_rng(0).normal


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(np.ones((50, 4)), id="all equal"),
        pytest.param(np.zeros((50, 4)), id="all zero"),
        pytest.param(NORMAL(size=(40, 1)), id="one column"),
        pytest.param(NORMAL(size=(10, 5)), id="ten rows"),
        pytest.param(NORMAL(size=(16, 5)), id="fewer rows than neighbours"),
        pytest.param(np.repeat(NORMAL(size=(20, 5)), 10, axis=0), id="repeated rows"),
        pytest.param(np.repeat(NORMAL(size=(20, 5)), 10, axis=0) + 1e-6 * NORMAL(size=(200, 5)), id="nearly equal"),
        pytest.param(NORMAL(size=(50, 4)) * 1e18, id="large"),
        pytest.param(NORMAL(size=(50, 4)) * 1e-30, id="tiny"),
        pytest.param(NORMAL(size=(30, 300)), id="wide"),
    ],
)
def test_odd_rows_have_a_finite_map(method: str, rows: np.ndarray) -> None:
    rows = rows.astype(np.float32)
    fitted = fit(rows, Parameters(method=method, seed=1), "t", "e")
    assert fitted.map.shape[1] == 3
    places = transform(fitted, np.concatenate([rows[:3], rows[:3] * np.float32(1.01)]), "t", "e")
    assert np.isfinite(places).all()
    assert places[:3].tobytes() == transform(fitted, rows[:3], "t", "e").tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_neighbours_are_clamped_with_one_warning(method: str) -> None:
    rows = NORMAL(size=(12, 4)).astype(np.float32)
    fitted = fit(rows, Parameters(method=method, seed=1, options=QUICK[method]), "t", "e")
    assert fitted.n_neighbors < 12
    assert len(fitted.origin.warnings) == 1
    assert "n_neighbors is" in fitted.origin.warnings[0]


def test_pairs_that_there_are_no_rows_for_are_refused_and_not_looked_for_without_end() -> None:
    rows = NORMAL(size=(12, 4)).astype(np.float32)
    options = {"MN_ratio": 5.0, "FP_ratio": 9.0}
    with pytest.raises(InvalidError, match="12 distinct rows are too few"):
        fit(rows, Parameters(method="pacmap", seed=1, options=options), "t", "e")


@pytest.mark.parametrize("method", METHODS)
def test_more_rows_than_the_limit_are_fitted_by_a_sample(method: str, digits: Digits) -> None:
    values, labels = digits
    fitted = fit(values, Parameters(method=method, seed=1, max_fit_rows=500), "t", "e")
    assert fitted.origin.sampled
    assert fitted.origin.fit_rows == len(fitted.vectors) == 500
    assert "a sample of 500 of 1797" in fitted.origin.warnings[0]
    places = transform(fitted, values, "t", "e")
    assert share_of_own_label(places[::2], labels[::2], places[1::2], labels[1::2]) > 0.9


def test_what_made_a_model_is_told() -> None:
    fitted = fit(NORMAL(size=(40, 4)).astype(np.float32), Parameters(seed=1), "t", "e")
    assert {"umap-learn", "numba", "numpy", "scikit-learn"} <= fitted.origin.library_versions.keys()
    assert fitted.origin.cpu
