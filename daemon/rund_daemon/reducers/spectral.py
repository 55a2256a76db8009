"""Where UMAP's rows start: the eigenvectors of their graph that change least along its edges.

umap-learn has ARPACK keep the square root of the number of rows as vectors, 253 MB for 100,000 rows. A few dozen do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.csgraph
import scipy.sparse.linalg

_VECTORS = 40
_TOLERANCE = 1e-5
_RESTARTS = 400


def spectral_places(graph: Any, components: int) -> npt.NDArray[np.float64] | None:
    """Gives a place for each row of a symmetric graph; None if it is not connected or its spectrum is not found."""
    count = graph.shape[0]
    if scipy.sparse.csgraph.connected_components(graph, directed=False)[0] > 1:
        return None
    roots = np.sqrt(np.asarray(graph.sum(axis=0), dtype=np.float64).ravel())
    inverse = scipy.sparse.diags(1.0 / roots)
    # The largest eigenvalues of this are the smallest ones of the normalised Laplacian.
    steps = (inverse @ graph.astype(np.float64) @ inverse).tocsr()
    wanted = components + 1
    try:
        values, vectors = scipy.sparse.linalg.eigsh(
            steps,
            wanted,
            which="LA",
            ncv=min(max(_VECTORS, 2 * wanted + 1), count - 1),
            tol=_TOLERANCE,
            v0=np.ones(count),
            maxiter=_RESTARTS,
        )
    except scipy.sparse.linalg.ArpackError:
        return None
    # The first is the same for every graph: it is how many edges a row has.
    return np.asarray(vectors[:, np.argsort(-values)[1:wanted]])
