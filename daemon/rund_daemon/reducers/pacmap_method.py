"""PaCMAP by the package pacmap, with exact neighbours. Further rows are drawn to their neighbours in the fitted map."""

from __future__ import annotations

import logging
import warnings

import numpy as np

from rund_daemon.errors import InvalidError

from .fitted import Fitted
from .kept_search import kept, search_among, search_in
from .libraries import not_installed
from .neighbours import nearest_among
from .parameters import Parameters, number_of
from .vectors import Indices, Mapper, Matrix

# Candidates beyond the neighbours that are wanted, and whose distances tell how dense a place is; as PaCMAP has them.
_FURTHER = 50
_DENSITY = slice(4, 7)
# Steps by which a new row is drawn to its neighbours, each a share of what is left of the way.
_DRAWS = 100
_LEAST_MID_NEAR_ROWS = 8


class PacmapReducer:
    """Fits with pairs that a seed fixes. What transforms is arithmetic of our own, and needs no library."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Fits distinct rows, at least 10 of them.

        Raises:
            InvalidError: pacmap is not installed, or the rows are too few for the pairs that are wanted.
        """
        try:
            import pacmap  # noqa: PLC0415  # takes seconds, and who maps with a model does without
        except ImportError as error:
            raise not_installed("pacmap", error) from error
        count = _fitting_neighbours(parameters, len(rows))
        search = search_among(rows, parameters.metric, parameters.seed)
        indices, distances = nearest_among(rows, min(count + _FURTHER + 1, len(rows)), search)
        fields = kept(search)
        del search  # it may hold the rows once more
        chosen = _by_density(indices, distances, count)
        own = np.repeat(np.arange(len(rows), dtype=np.int32), count)
        pairs = np.stack([own, chosen.ravel()], axis=1)
        logging.getLogger("pacmap").setLevel(logging.ERROR)
        model = pacmap.PaCMAP(
            n_components=parameters.n_components,
            n_neighbors=count,
            distance=parameters.metric,
            pair_neighbors=np.ascontiguousarray(pairs, dtype=np.int32),
            random_state=parameters.seed % 2**31,
            **parameters.options,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            places = model.fit_transform(_wide_enough(rows, parameters.n_components), init="pca")
        return Fitted(
            kind="pacmap",
            parameters=parameters,
            n_neighbors=count,
            vectors=rows,
            map=np.asarray(places, dtype=np.float32),
            neighbours=indices[:, : count + 1],
            distances=distances[:, : count + 1],
            **fields,
        )

    def mapper(self, fitted: Fitted) -> Mapper:
        """Prepares the search of neighbours. The rows that were fitted stay where they are.

        A row goes where PaCMAP's loss of its neighbour pairs, the sum of d / (10 + d) with d = 1 + distance squared, is
        least: the mean of its neighbours' places, weighted by 1 / (10 + d) squared, is drawn nearer until it rests.
        """
        search = search_in(fitted)

        def draw(rows: Matrix) -> Matrix:
            indices, _ = search.nearest(rows, fitted.n_neighbors, threads=1)
            around = fitted.map[indices].astype(np.float64)
            places = np.median(around, axis=1)
            for _ in range(_DRAWS):
                away = 1.0 + ((around - places[:, None, :]) ** 2).sum(axis=2)
                weights = 1.0 / (10.0 + away) ** 2
                places = (around * weights[:, :, None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
            return places.astype(np.float32)

        return draw


def _fitting_neighbours(parameters: Parameters, rows: int) -> int:
    """The most neighbours for which there are rows enough to draw the other pairs from: with fewer it never ends.

    Raises:
        InvalidError: the ratios leave not even one.
    """
    mid_near = number_of(parameters.options, "MN_ratio", 0.5)
    further = number_of(parameters.options, "FP_ratio", 2.0)
    for count in range(min(parameters.n_neighbors, rows - 1), 0, -1):
        near, far = round(count * mid_near), round(count * further)
        if count + near + far < rows and near + _LEAST_MID_NEAR_ROWS <= rows and far >= 1:
            return count
    raise InvalidError(
        "spec.method_options",
        f"{rows} distinct rows are too few for pairs by MN_ratio {mid_near:g} and FP_ratio {further:g}; lower them",
    )


def _by_density(indices: Indices, distances: Matrix, count: int) -> Indices:
    """Of each row's candidates those that are nearest for how dense their own places are."""
    density = np.maximum(distances[:, _DENSITY].mean(axis=1), 1e-10)
    scaled = distances**2 / (density[:, None] * density[indices])
    scaled[:, 0] = np.inf  # the row itself
    order = np.argsort(scaled, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(indices, order, axis=1)


def _wide_enough(rows: Matrix, components: int) -> Matrix:
    """The start of the map is a projection on so many directions; columns of zeros change no distance."""
    missing = components + 1 - rows.shape[1]
    return np.pad(rows, ((0, 0), (0, missing))) if missing > 0 else rows
