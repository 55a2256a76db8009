"""Fits UMAP by umap-learn, which is loaded with this module and is long in loading: who maps with a model does without.

Neighbours are found beforehand, faster than by its own search, which is long in compiling. Of many rows it gives the
graph, and the rest is done here, where its own way takes one core or memory for hundreds of numbers a row.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse
import umap
from umap.spectral import spectral_layout

from .compiled import keep_compiled
from .fitted import Fitted
from .kept_search import kept, search_among
from .layout import spread_out
from .neighbours import nearest_among
from .parameters import Parameters, number_of
from .spectral import spectral_places
from .vectors import Matrix

_LARGE_EPOCHS = 200
_NOISE = 1e-4
_SPAN = 10.0

# It compiles these in each process anew, which takes longer than a small map; compiled code is kept as its others' is.
keep_compiled(umap.umap_, "smooth_knn_dist", "compute_membership_strengths")
keep_compiled(umap.layouts, "clip", "_nb_optimize_layout_euclidean_single_epoch")


def fit_umap(rows: Matrix, parameters: Parameters, large_rows: int) -> Fitted:
    """Fits distinct rows, at least 10 of them; more than `large_rows` by all cores."""
    count = min(parameters.n_neighbors, len(rows) - 1)
    search = search_among(rows, parameters.metric, parameters.seed)
    indices, distances = nearest_among(rows, count, search)
    fields = kept(search)
    del search  # it may hold the rows once more
    options = {"init": "spectral", **parameters.options}
    is_large = len(rows) > large_rows
    starts_here = is_large and options["init"] == "spectral"
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
        **options | ({"n_epochs": 0} if is_large else {}) | ({"init": "random"} if starts_here else {}),
    )
    with warnings.catch_warnings():
        # That it can't transform and that rows are connected with none is dealt with here.
        warnings.simplefilter("ignore")
        # Where it starts from its neighbours alone it copies rows only to count them; one column is enough for that.
        places = model.fit_transform(np.ascontiguousarray(rows[:, :1]) if starts_here else rows)
    curve = float(model._a), float(model._b)  # noqa: SLF001  # it has no public name
    if is_large:
        graph = model.graph_
        del model
        if starts_here:
            places = _start(rows, graph, parameters)
        places = _lay_out(np.asarray(places, dtype=np.float32), graph, curve, parameters)
    fields["numbers"] = {**fields["numbers"], "a": curve[0], "b": curve[1]}
    return Fitted(
        kind="umap",
        parameters=parameters,
        n_neighbors=count,
        vectors=rows,
        map=np.asarray(places, dtype=np.float32),
        neighbours=indices,
        distances=distances,
        **fields,
    )


def _start(rows: Matrix, graph: Any, parameters: Parameters) -> Matrix:
    """Where rows are at first: as umap-learn has it, by the graph's spectrum, with a little noise."""
    random = np.random.RandomState(parameters.seed)
    strong = _strong(graph, _epochs(parameters))
    places = spectral_places(strong, parameters.n_components)
    if places is None:  # it has parts that no edge connects, which umap-learn lays out one by one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            places = spectral_layout(
                rows, strong, parameters.n_components, random, metric=parameters.metric, metric_kwds={}
            )
    start = (places * (_SPAN / np.abs(places).max())).astype(np.float32)
    start += random.normal(scale=_NOISE, size=start.shape).astype(np.float32)
    low, high = start.min(axis=0), start.max(axis=0)
    return np.ascontiguousarray(np.float32(_SPAN) * (start - low) / (high - low), dtype=np.float32)


def _lay_out(start: Matrix, graph: Any, curve: tuple[float, float], parameters: Parameters) -> Matrix:
    """Does what umap-learn does with as many epochs as it takes for so many rows, on all cores."""
    options = parameters.options
    epochs = _epochs(parameters)
    edges = _strong(graph, epochs)
    return spread_out(
        start,
        (edges.indptr.astype(np.int32), edges.indices.astype(np.int32), edges.data),
        epochs=epochs,
        curve=curve,
        seed=parameters.seed,
        repulsion=number_of(options, "repulsion_strength", 1.0),
        learning_rate=number_of(options, "learning_rate", 1.0),
        negatives=int(number_of(options, "negative_sample_rate", 5)),
    )


def _epochs(parameters: Parameters) -> int:
    return int(number_of(parameters.options, "n_epochs", _LARGE_EPOCHS))


def _strong(graph: Any, epochs: int) -> Any:
    """The edges that are followed in so many epochs at least once."""
    edges = scipy.sparse.csr_matrix(graph, dtype=np.float32, copy=True)
    edges.data[edges.data < edges.data.max() / max(epochs, 1)] = 0.0
    edges.eliminate_zeros()
    edges.sort_indices()
    return edges
