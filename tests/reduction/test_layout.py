"""The layout of many rows: as good as umap-learn's, and the same by any number of threads."""

import numpy as np
import pytest

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default"), pytest.mark.xdist_group("umap")]


def test_a_large_map_is_as_good_and_the_same_by_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba
    from rund_daemon.reducers import umap_method
    from rund_daemon.reducers.fitting import fit
    from rund_daemon.reducers.parameters import Parameters
    from sklearn.datasets import load_digits

    monkeypatch.setattr(umap_method, "LARGE_ROWS", 500)
    values = load_digits().data.astype(np.float32)[:1_000]
    fitted = fit(values, Parameters(seed=1), "t", "e")
    assert fitted.origin.quality["trustworthiness"] >= 0.95
    assert fitted.origin.quality["neighbour_overlap"] > 0.4
    before = numba.get_num_threads()
    numba.set_num_threads(1 if before > 1 else numba.config.NUMBA_NUM_THREADS)
    try:
        again = fit(values, Parameters(seed=1), "t", "e")
    finally:
        numba.set_num_threads(before)
    assert again.map.tobytes() == fitted.map.tobytes()


def test_rows_start_where_umap_learn_has_them_start() -> None:
    import scipy.sparse
    from rund_daemon.reducers.spectral import spectral_places
    from umap.spectral import spectral_layout

    random = np.random.default_rng(0)
    near = scipy.sparse.random(400, 400, 0.03, random_state=1, dtype=np.float32)
    graph = scipy.sparse.csr_matrix(near + near.T + scipy.sparse.diags([1.0, 1.0], [1, -1], (400, 400)))
    expected = spectral_layout(random.normal(size=(400, 2)), graph, 3, np.random.RandomState(1))
    found = spectral_places(graph, 3)
    # Directions that are equally good may be turned: it is the space that has to be the same.
    assert np.allclose(np.linalg.svd(expected.T @ found)[1], 1, atol=1e-2)
    assert spectral_places(scipy.sparse.block_diag([graph, graph]).tocsr(), 3) is None
