"""Which rows of a column are mapped, and which columns are refused: no library of a method is needed to know."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rund_daemon.errors import InvalidError
from rund_daemon.reducers import equal_rows
from rund_daemon.reducers.equal_rows import equal_row_of, first_of_each
from rund_daemon.reducers.fitted import load, save
from rund_daemon.reducers.fitting import fit, sample
from rund_daemon.reducers.parameters import Parameters, check_parameters
from rund_daemon.reducers.transforming import transform
from rund_daemon.reducers.vectors import check_widths, read_vectors


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("shape", ["fixed", "list"])
def test_rows_that_are_null_or_not_finite_do_not_count(kind: pa.DataType, shape: str) -> None:
    values = [[1, 2], None, [np.nan, 0], [np.inf, 0], [3, None], [5, 6]]
    array = pa.array(values, pa.list_(kind, 2) if shape == "fixed" else pa.list_(kind))
    found = read_vectors("metrics/a", "e", [array])
    assert found.counts.tolist() == [True, False, False, False, False, True]
    assert found.rows.dtype == np.float32
    assert found.rows.tolist() == [[1, 2], [5, 6]]
    spread = found.spread(np.array([[7, 8, 9], [1, 2, 3]], dtype=np.float32))
    assert spread.to_pylist() == [[7, 8, 9], None, None, None, None, [1, 2, 3]]
    assert spread.type == pa.list_(pa.float32(), 3)


def test_slices_are_read_where_they_begin() -> None:
    array = pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)).slice(2)
    assert read_vectors("metrics/a", "e", [array, array]).rows.tolist() == [[3, 4], [5, 6]] * 2


def test_a_column_without_a_vector_is_empty_and_is_not_fitted() -> None:
    found = read_vectors("metrics/a", "e", [pa.array([None, None], pa.list_(pa.float32(), 4))])
    assert found.rows.shape[0] == 0
    with pytest.raises(InvalidError, match="no row whose vector is finite"):
        fit(found.rows, Parameters(), "metrics/a", "e")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ([pa.array([[1.0], [1.0, 2.0]])], "1 in metrics/a, 2 in metrics/a"),
        ([pa.array([[1.0]]), pa.array([[1.0, 2.0]])], "1 in metrics/a, 2 in metrics/a"),
        ([pa.array([[], []], pa.list_(pa.float32()))], "vectors without numbers"),
        ([pa.array([1.0])], "holds no vectors"),
        ([pa.array([["a"]])], "holds no vectors"),
        ([pa.array([[1e39, 0.0]])], "beyond float32"),
    ],
)
def test_columns_that_hold_no_vectors_of_one_width_are_refused(arrays: list[pa.Array], message: str) -> None:
    with pytest.raises(InvalidError, match=message):
        read_vectors("metrics/a", "e", arrays)


def test_tables_of_different_widths_are_named() -> None:
    with pytest.raises(InvalidError, match=r"64 in metrics/a, 128 in metrics/b"):
        check_widths([("metrics/a", 64), ("metrics/b", 128)], "e")


def test_magnitudes_whose_squares_overflow_are_refused_unless_they_are_scaled() -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * np.float32(1e30)
    with pytest.raises(InvalidError, match="overflow float32"):
        fit(rows, Parameters(), "metrics/a", "e")
    fitted = fit(rows, Parameters(standard_scaler_normalize=True), "metrics/a", "e")
    assert np.isfinite(fitted.map).all()


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("width", [1, 2, 40])
def test_few_rows_are_mapped_by_principal_components_which_says_so(rows: int, width: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(rows, width)).astype(np.float32)
    fitted = fit(values, Parameters(method="pacmap"), "metrics/a", "e")
    assert fitted.kind == "pca"
    assert fitted.map.shape == (rows, 3)
    assert "principal components" in fitted.origin.warnings[0]
    save(fitted, tmp_path / "model.arrow")
    again = transform(load(tmp_path / "model.arrow"), values + 0, "metrics/b", "e")
    assert again.tobytes() == fitted.map.tobytes()


def test_a_map_by_principal_components_keeps_distances() -> None:
    values = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    places = fit(values, Parameters(), "metrics/a", "e").map
    before = np.linalg.norm(values[:, None] - values, axis=2)
    after = np.linalg.norm(places[:, None] - places, axis=2)
    assert np.allclose(before, after, atol=1e-5)


def test_a_reducer_takes_vectors_of_its_width_only() -> None:
    fitted = fit(np.eye(4, dtype=np.float32), Parameters(), "metrics/a", "e")
    with pytest.raises(InvalidError, match="5 numbers, and the reducer takes 4"):
        transform(fitted, np.ones((2, 5), dtype=np.float32), "metrics/b", "e")


def test_repeated_rows_are_fitted_once() -> None:
    values = np.array([[1, 2], [0, 0], [1, 2], [3, 4], [0, 0]], dtype=np.float32)
    assert first_of_each(values).tolist() == [0, 1, 3]


def test_rows_are_found_that_are_equal_byte_for_byte() -> None:
    basis = np.random.default_rng(0).normal(size=(40_000, 3)).astype(np.float32)
    chosen = np.array([39_999, 0, 17, 20_000])
    rows = np.concatenate([basis[chosen], basis[chosen] * np.float32(1.0001)])
    assert equal_row_of(rows, basis).tolist() == [*chosen, -1, -1, -1, -1]
    assert equal_row_of(basis[:0], basis).tolist() == []


def test_rows_whose_hashes_are_the_same_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(equal_rows, "_hashes", lambda rows: np.zeros(len(rows), dtype=np.uint64))
    values = np.array([[1, 2], [0, 0], [1, 2], [3, 4], [0, 0]], dtype=np.float32)
    assert first_of_each(values).tolist() == [0, 1, 3]


def test_a_sample_takes_one_row_of_each_stretch() -> None:
    chosen = sample(1_000, 100, seed=3)
    assert (chosen // 10).tolist() == list(range(100))
    assert sample(1_000, 100, seed=3).tolist() == chosen.tolist()
    assert sample(1_000, 100, seed=4).tolist() != chosen.tolist()
    assert sample(5, 100, seed=3).tolist() == [0, 1, 2, 3, 4]
    assert len(set(sample(150, 100, seed=3).tolist())) == 100


@pytest.mark.parametrize(
    ("parameters", "field", "message"),
    [
        (Parameters(method="tsne"), "spec.method", "umap or pacmap"),
        (Parameters(n_components=0), "spec.n_components", "from 1 to"),
        (Parameters(n_neighbors=1), "spec.n_neighbors", "from 2 to"),
        (Parameters(seed=-1), "spec.random_state", "from 0 to"),
        (Parameters(min_dist=2.0), "spec.min_dist", "from 0 to 1"),
        (Parameters(metric="yule"), "spec.metric", "euclidean, manhattan, chebyshev, cosine, correlation"),
        (Parameters(method="pacmap", metric="cosine"), "spec.metric", "euclidean, manhattan"),
        (Parameters(options={"nonsense": 1}), "spec.method_options", "no option 'nonsense'"),
        (Parameters(options={"n_epochs": "many"}), "spec.method_options", "'n_epochs' has to be int"),
        (Parameters(options={"n_epochs": True}), "spec.method_options", "'n_epochs' has to be int"),
        (Parameters(method="pacmap", options={"n_epochs": 5}), "spec.method_options", "pacmap has no option"),
    ],
)
def test_parameters_are_checked(parameters: Parameters, field: str, message: str) -> None:
    with pytest.raises(InvalidError, match=message) as caught:
        check_parameters(parameters)
    assert caught.value.field == field


def test_parameters_survive_as_text() -> None:
    parameters = Parameters(method="pacmap", seed=5, options={"FP_ratio": 2.5})
    assert Parameters.from_json(parameters.to_json()) == parameters
