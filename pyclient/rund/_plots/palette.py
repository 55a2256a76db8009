"""Colours that people with any kind of colour vision tell apart, and which values get them."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .columns import Categories

COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#832db6",
    "#92dadd",
    "#a96b59",
    "#717581",
    "#e76300",
    "#b9ac70",
    "#94a4a2",
)
"""Of M. A. Petroff, 'Accessible color sequences for data visualization' (arXiv 2107.02270)."""

RAMP = (
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
)
"""Matplotlib's viridis at equal distances: lightness rises evenly, for every kind of colour vision."""

OTHER = "#c9c9c9"
NONE = "#e3e3e3"

Integers: TypeAlias = npt.NDArray[np.int64]


def with_colour(column: Categories) -> Integers:
    """The places of the names that get a colour of their own, in the order of the names: those of the most rows."""
    counts = column.counts()
    # Stable, so that of equally many the first names get one.
    most = np.argsort(-counts, kind="stable")[: len(COLOURS)]
    return np.sort(most[counts[most] > 0])
