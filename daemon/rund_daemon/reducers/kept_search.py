"""Which search of neighbours a fit takes, and how a model keeps it, so that later rows are searched for alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

import numpy as np

from .cells import METRICS, Cells, CellSearch
from .fitted import CELLS_FOUND, Fitted
from .neighbours import ExactSearch, Search
from .vectors import Matrix

EXACT_ROWS = 10_000
"""Among more rows than this, neighbours are found by cells if the metric has any."""


class Kept(TypedDict):
    """Fields of a model."""

    numbers: Mapping[str, float]
    arrays: Mapping[str, Any]


def search_among(rows: Matrix, metric: str, seed: int) -> Search:
    """Makes what finds neighbours among rows that are to be fitted."""
    if len(rows) > EXACT_ROWS and metric in METRICS:
        return CellSearch.divide(rows, metric, seed)
    return ExactSearch(rows, metric)


def kept(search: Search) -> Kept:
    """Gives the fields of a model that hold the search."""
    if not isinstance(search, CellSearch):
        return Kept(numbers={}, arrays={})
    cells = search.cells
    numbers = {"cell_scale": cells.scale, "cell_probes": cells.probes, CELLS_FOUND: cells.found}
    return Kept(numbers=numbers, arrays={"cell_centres": cells.centres, "cell_shift": cells.shift})


def search_in(fitted: Fitted) -> Search:
    """Makes what finds neighbours among the rows that a model was fitted on."""
    vectors: Matrix = np.ascontiguousarray(fitted.vectors)
    numbers, arrays = fitted.numbers, fitted.arrays
    if "cell_centres" not in arrays:
        return ExactSearch(vectors, fitted.parameters.metric)
    cells = Cells(
        arrays["cell_centres"],
        arrays["cell_shift"],
        numbers["cell_scale"],
        int(numbers["cell_probes"]),
        numbers[CELLS_FOUND],
    )
    return CellSearch(vectors, cells, fitted.parameters.metric)
