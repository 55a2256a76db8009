"""UMAP: fitted by umap-learn, which is loaded for that alone. Further rows are mapped by code of our own.

Of rows whose neighbours were found beforehand, umap-learn can't transform others; what it would do is done from what a
model keeps, without it.
"""

from __future__ import annotations

import numpy as np

from .fitted import Fitted
from .joining import join
from .kept_search import search_in
from .libraries import not_installed
from .parameters import Parameters, number_of
from .vectors import Mapper, Matrix

# More rows than this are laid out on all cores; umap-learn takes fewer epochs for them, too, to fit and to map others.
LARGE_ROWS = 10_000
_EPOCHS_TO_MAP, _LARGE_EPOCHS_TO_MAP = 100, 30


class UmapReducer:
    """Fits and transforms so that a seed gives the same bytes: on one thread, or where their number changes nothing."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Fits distinct rows, at least 10 of them.

        Raises:
            InvalidError: umap-learn is not installed.
        """
        try:
            from .umap_fit import fit_umap  # noqa: PLC0415  # takes seconds, and who maps with a model does without
        except ImportError as error:
            raise not_installed("umap", error) from error
        return fit_umap(rows, parameters, LARGE_ROWS)

    def mapper(self, fitted: Fitted) -> Mapper:
        """Prepares the search of neighbours. The rows that were fitted stay where they are."""
        search = search_in(fitted)
        options = fitted.parameters.options
        # A copy of what may be a file: code is compiled once more for arrays that can't be written to.
        places = np.array(fitted.map, dtype=np.float32, order="C")
        usual = _LARGE_EPOCHS_TO_MAP if len(places) > LARGE_ROWS else _EPOCHS_TO_MAP
        epochs = max(int(number_of(options, "n_epochs", 3 * usual)) // 3, 1)

        def embed(rows: Matrix) -> Matrix:
            return join(
                places,
                search.nearest(rows, fitted.n_neighbors, threads=1),
                epochs=epochs,
                curve=(fitted.numbers["a"], fitted.numbers["b"]),
                seed=fitted.parameters.seed,
                connectivity=max(0.0, number_of(options, "local_connectivity", 1.0) - 1.0),
                repulsion=number_of(options, "repulsion_strength", 1.0),
                learning_rate=number_of(options, "learning_rate", 1.0) / 4.0,
                negatives=int(number_of(options, "negative_sample_rate", 5)),
            )

        return embed
