"""UMAP by umap-learn. Neighbours are found beforehand, faster than by its own search, which is long in compiling.

umap-learn can't transform then; what it would do is done here of its public steps, from the stored graph.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import umap
from umap.layouts import optimize_layout_euclidean
from umap.umap_ import compute_membership_strengths, make_epochs_per_sample, smooth_knn_dist

from .compiled import keep_compiled
from .fitted import Fitted
from .kept_search import kept, search_among, search_in
from .layout import spread_out
from .neighbours import nearest_among
from .parameters import Parameters
from .vectors import Indices, Mapper, Matrix

# More rows than this are laid out on all cores; umap-learn takes fewer epochs for them, too, to fit and to map others.
LARGE_ROWS = 10_000
_LARGE_EPOCHS = 200
_EPOCHS_TO_MAP, _LARGE_EPOCHS_TO_MAP = 100, 30
_INT32_MAX = np.iinfo(np.int32).max - 1


# It compiles these in each process anew, which takes longer than a small map; compiled code is kept as its others' is.
keep_compiled(
    umap.umap_,
    "smooth_knn_dist",
    "compute_membership_strengths",
)
keep_compiled(umap.layouts, "clip", "_nb_optimize_layout_euclidean_single_epoch")


class UmapReducer:
    """Fits and transforms so that a seed gives the same bytes: on one thread, or where their number changes nothing."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Fits distinct rows, at least 10 of them."""
        count = min(parameters.n_neighbors, len(rows) - 1)
        search = search_among(rows, parameters.metric, parameters.seed)
        indices, distances = nearest_among(rows, count, search)
        model = umap.UMAP(
            n_components=parameters.n_components,
            n_neighbors=count,
            metric=parameters.metric,
            min_dist=parameters.min_dist,
            random_state=parameters.seed,
            transform_seed=parameters.seed,
            # It keeps and may change what it is given.
            precomputed_knn=(indices.copy(), distances.copy(), None),
            force_approximation_algorithm=True,
            n_jobs=1,
            **_options(parameters) | ({"n_epochs": 0} if len(rows) > LARGE_ROWS else {}),
        )
        with warnings.catch_warnings():
            # That it can't transform and that rows are connected with none is dealt with here.
            warnings.simplefilter("ignore")
            places = model.fit_transform(rows)
        curve = float(model._a), float(model._b)  # noqa: SLF001  # it has no public name
        if len(rows) > LARGE_ROWS:
            places = _lay_out(np.asarray(places, dtype=np.float32), model.graph_, curve, parameters)
        return Fitted(
            kind="umap",
            parameters=parameters,
            n_neighbors=count,
            vectors=rows,
            map=np.asarray(places, dtype=np.float32),
            neighbours=indices,
            distances=distances,
            **kept(search, a=curve[0], b=curve[1]),
        )

    def mapper(self, fitted: Fitted) -> Mapper:
        """Prepares the search of neighbours. The rows that were fitted stay where they are."""
        search = search_in(fitted)
        # A copy of what may be a file: code is compiled once more for arrays that can't be written to.
        places = np.array(fitted.map, dtype=np.float32, order="C")

        def embed(rows: Matrix) -> Matrix:
            return _embed(fitted, places, *search.nearest(rows, fitted.n_neighbors, threads=1))

        return embed


def _lay_out(start: Matrix, graph: Any, curve: tuple[float, float], parameters: Parameters) -> Matrix:
    """Does what umap-learn does with as many epochs as it takes for so many rows, on all cores."""
    options = parameters.options
    epochs = int(_number(options.get("n_epochs"), _LARGE_EPOCHS))
    edges = scipy.sparse.csr_matrix(graph, dtype=np.float32, copy=True)
    edges.data[edges.data < edges.data.max() / max(epochs, 1)] = 0.0
    edges.eliminate_zeros()
    edges.sort_indices()
    return spread_out(
        start,
        (edges.indptr.astype(np.int32), edges.indices.astype(np.int32), edges.data),
        epochs=epochs,
        curve=curve,
        seed=parameters.seed,
        repulsion=float(_number(options.get("repulsion_strength"), 1.0)),
        learning_rate=float(_number(options.get("learning_rate"), 1.0)),
        negatives=int(_number(options.get("negative_sample_rate"), 5)),
    )


def _embed(fitted: Fitted, places: Matrix, indices: Indices, distances: Matrix) -> Matrix:
    """Places rows among others, of which the nearest are known."""
    parameters = fitted.parameters
    options = parameters.options
    connectivity = max(0.0, float(_number(options.get("local_connectivity"), 1.0)) - 1.0)
    sigmas, rhos = smooth_knn_dist(distances, float(fitted.n_neighbors), local_connectivity=connectivity)
    heads, tails, weights, _ = compute_membership_strengths(indices, distances, sigmas, rhos, bipartite=True)
    graph = scipy.sparse.coo_matrix((weights, (heads, tails)), shape=(len(indices), len(places)))
    start = _among_neighbours(weights.reshape(indices.shape), places[indices])
    usual = _LARGE_EPOCHS_TO_MAP if len(places) > LARGE_ROWS else _EPOCHS_TO_MAP
    epochs = max(int(_number(options.get("n_epochs"), 3 * usual)) // 3, 1)
    graph.data[graph.data < graph.data.max() / float(epochs)] = 0.0
    graph.eliminate_zeros()
    random = np.random.RandomState(parameters.seed).randint(-_INT32_MAX, _INT32_MAX, 3).astype(np.int64)
    moved = optimize_layout_euclidean(
        start,
        places,
        graph.row,
        graph.col,
        epochs,
        graph.shape[1],
        make_epochs_per_sample(graph.data, epochs),
        fitted.numbers["a"],
        fitted.numbers["b"],
        random,
        float(_number(options.get("repulsion_strength"), 1.0)),
        float(_number(options.get("learning_rate"), 1.0)) / 4.0,
        int(_number(options.get("negative_sample_rate"), 5)),
        parallel=False,
        move_other=False,
    )
    return np.asarray(moved, dtype=np.float32)


def _among_neighbours(weights: Matrix, around: npt.NDArray[np.float32]) -> Matrix:
    """Where rows start: at the mean of their neighbours by weight, or at the place of one that is no further than 0.

    As umap-learn's `init_graph_transform` has it, which takes row by row and with that a third of the time.
    """
    shares = weights / weights.sum(axis=1, keepdims=True)
    start = np.einsum("rk,rkc->rc", shares, around)
    same = np.flatnonzero((weights == 1).any(axis=1))
    start[same] = around[same, np.argmax(weights[same] == 1, axis=1)]
    return np.ascontiguousarray(start, dtype=np.float32)


def _options(parameters: Parameters) -> dict[str, object]:
    return {"init": "spectral", **parameters.options}


def _number(value: object, default: float) -> float:
    return default if not isinstance(value, (int, float)) else value
