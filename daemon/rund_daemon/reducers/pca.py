"""Principal components: what stands in where there are too few rows for a neighbourhood to mean anything."""

from __future__ import annotations

import numpy as np

from .fitted import Fitted
from .parameters import Parameters
from .vectors import Mapper, Matrix


class PcaReducer:
    """Projects on the directions in which the rows differ most. Directions that there are not are zero."""

    def fit(self, rows: Matrix, parameters: Parameters) -> Fitted:
        """Finds the directions."""
        mean = rows.mean(axis=0, dtype=np.float64)
        _, _, found = np.linalg.svd(rows.astype(np.float64) - mean, full_matrices=False)
        kept = found[: parameters.n_components]
        # A direction and its opposite are the same; the sign is fixed, so that the map is.
        signs = np.sign(kept[np.arange(len(kept)), np.argmax(np.abs(kept), axis=1)])
        directions = np.zeros((parameters.n_components, rows.shape[1]))
        directions[: len(kept)] = kept * np.where(signs == 0, 1, signs)[:, None]
        none = np.empty((len(rows), 0), dtype=np.float32)
        fitted = Fitted(
            kind="pca",
            parameters=parameters,
            n_neighbors=0,
            vectors=rows,
            map=none,
            neighbours=none.astype(np.int32),
            distances=none,
            arrays={"mean": mean, "directions": directions},
        )
        places = self.mapper(fitted)(rows)
        return Fitted(
            "pca", parameters, 0, rows, places, fitted.neighbours, fitted.distances, arrays=dict(fitted.arrays)
        )

    def mapper(self, fitted: Fitted) -> Mapper:
        """Prepares nothing."""

        def project(rows: Matrix) -> Matrix:
            centred = rows.astype(np.float64) - fitted.arrays["mean"]
            return np.asarray(centred @ fitted.arrays["directions"].T, dtype=np.float32)

        return project
