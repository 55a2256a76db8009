"""UMAP by umap-learn. The neighbour graph is found exactly beforehand, which spares the compilation of its own search.

umap-learn can't transform then; what it would do is done here of its public steps, from the stored graph.
"""

from __future__ import annotations

import warnings

import numpy as np
import scipy.sparse
import umap
from umap.layouts import optimize_layout_euclidean
from umap.umap_ import compute_membership_strengths, init_graph_transform, make_epochs_per_sample, smooth_knn_dist

from .fitted import Fitted
from .neighbours import nearest, nearest_among
from .parameters import Parameters
from .vectors import Matrix

# A third of what a fit of as many rows takes, as umap-learn has it.
_TRANSFORM_EPOCHS = 100
_INT32_MAX = np.iinfo(np.int32).max - 1


class UmapReducer:
    """Fits and transforms on one thread but for the search of neighbours, so that a seed gives the same bytes."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Fits distinct rows, at least 10 of them."""
        count = min(parameters.n_neighbors, len(rows) - 1)
        indices, distances = nearest_among(rows, count, parameters.metric)
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
            **_options(parameters),
        )
        with warnings.catch_warnings():
            # That it can't transform and that rows are connected with none is dealt with here.
            warnings.simplefilter("ignore")
            places = model.fit_transform(rows)
        return Fitted(
            kind="umap",
            parameters=parameters,
            n_neighbors=count,
            vectors=rows,
            map=np.asarray(places, dtype=np.float32),
            neighbours=indices,
            distances=distances,
            numbers={"a": float(model._a), "b": float(model._b)},  # noqa: SLF001  # the curve has no public name
        )

    def transform(self, fitted: Fitted, rows: Matrix) -> Matrix:
        """Maps rows among those that were fitted, which stay where they are."""
        parameters = fitted.parameters
        options = parameters.options
        indices, distances = nearest(fitted.vectors, rows, fitted.n_neighbors, parameters.metric)
        connectivity = max(0.0, float(_number(options.get("local_connectivity"), 1.0)) - 1.0)
        sigmas, rhos = smooth_knn_dist(distances, float(fitted.n_neighbors), local_connectivity=connectivity)
        heads, tails, weights, _ = compute_membership_strengths(indices, distances, sigmas, rhos, bipartite=True)
        graph = scipy.sparse.coo_matrix((weights, (heads, tails)), shape=(len(rows), len(fitted.vectors)))
        by_row = graph.tocsr()
        by_row.eliminate_zeros()
        places = np.ascontiguousarray(fitted.map, dtype=np.float32)
        start = init_graph_transform(by_row, places)
        epochs = max(int(_number(options.get("n_epochs"), 3 * _TRANSFORM_EPOCHS)) // 3, 1)
        graph.data[graph.data < graph.data.max() / float(epochs)] = 0.0
        graph.eliminate_zeros()
        random = np.random.RandomState(parameters.seed).randint(-_INT32_MAX, _INT32_MAX, 3).astype(np.int64)
        moved = optimize_layout_euclidean(
            np.asarray(start, dtype=np.float32, order="C"),
            places.copy(),
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
        )
        return np.asarray(moved, dtype=np.float32)


def _options(parameters: Parameters) -> dict[str, object]:
    return {"init": "spectral", **parameters.options}


def _number(value: object, default: float) -> float:
    return default if not isinstance(value, (int, float)) else value
