"""The points of a picture: which rows are shown, in which panel, in which order, seen from where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .columns import Categories, Column, Floats, Numbers, column_of
from .rows import Places, Rows

MAX_PANELS = 16

_SEED = 0
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Integers: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Points:
    """What is drawn. Points of one panel lie together, in an order that favours no class when they cover each other.

    Attributes:
        places: Where they lie on the map: float32, of shape (points, 2 or 3).
        panel: The panel of each.
        panel_names: What the panels are headed; one that is empty when there is only one.
        columns: Their values.
        left_out: Rows that have no place on the map.
        elsewhere: Rows of panels that are not shown, because there are too many.
        panel_count: How many panels there would be.
    """

    places: Places
    panel: Integers
    panel_names: tuple[str, ...]
    columns: Mapping[str, Column]
    left_out: int
    elsewhere: int
    panel_count: int

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, slots=True)
class View:
    """From where a map is seen at first: its middle, and the rotation to the axes along which it spreads most.

    Attributes:
        middle: Of shape (2 or 3,).
        rotation: Of shape (2, 2) or (3, 3): rows are right, up, and towards the eye.
    """

    middle: Floats
    rotation: Floats


def points_of(rows: Rows, by: str | None) -> Points:
    """Chooses the points and their order."""
    columns = {name: column_of(values, rows.sources[name].schema) for name, values in rows.columns.items()}
    has_place: npt.NDArray[np.bool_] = np.isfinite(rows.places).min(axis=1)
    codes, names = _panels(columns[by]) if by is not None else (np.zeros(len(has_place), np.int64), ("",))
    there = np.unique(codes[has_place])
    shown = there if len(there) <= MAX_PANELS else there[np.linspace(0, len(there) - 1, MAX_PANELS).round().astype(int)]
    chosen = np.flatnonzero(has_place & np.isin(codes, shown))
    shuffled = np.random.default_rng(_SEED).permutation(chosen)
    panel = np.searchsorted(shown, codes[shuffled])
    together = np.argsort(panel, kind="stable")
    order = shuffled[together]
    return Points(
        places=rows.places[order],
        panel=panel[together],
        panel_names=tuple(names[code] for code in shown) or ("",),
        columns={name: column.take(order) for name, column in columns.items()},
        left_out=int((~has_place).sum()),
        elsewhere=int(has_place.sum()) - len(order),
        panel_count=len(there),
    )


def view_of(places: Places) -> View:
    """Two dimensions are seen as they are, three from where they spread most."""
    exact = places.astype(np.float64)
    middle = (exact.min(axis=0) + exact.max(axis=0)) / 2
    if places.shape[1] == 2:
        return View(middle, np.eye(2))
    _, axes = np.linalg.eigh(np.cov(exact, rowvar=False) if len(exact) > 1 else np.eye(3))
    rotation = axes.T[::-1].copy()
    # The sign of an axis is arbitrary; this one is the same on every machine.
    largest = rotation[np.arange(3), np.abs(rotation).argmax(axis=1)]
    rotation *= np.sign(largest)[:, np.newaxis]
    rotation[2] = np.cross(rotation[0], rotation[1])
    return View(middle, rotation)


def _panels(column: Column) -> tuple[Integers, tuple[str, ...]]:
    """A code for each row, and the names of the codes in order; rows without a value come last."""
    if isinstance(column, Categories):
        names, codes = column.names, column.codes
    else:
        values, inverse = np.unique(column.values, return_inverse=True)
        names = tuple(_number_text(value, column) for value in values)
        codes = np.where(np.isnan(column.values), -1, inverse)
    return np.where(codes < 0, len(names), codes), (*names, "none")


def _number_text(value: float, column: Numbers) -> str:
    if column.is_time and np.isfinite(value):
        return (_EPOCH + timedelta(milliseconds=value)).isoformat(sep=" ", timespec="milliseconds")[:23]
    return str(int(value)) if np.isfinite(value) and value == int(value) else f"{value:.6g}"
