"""Fits vectors: scales, leaves out repeated rows, takes a sample of too many, and says what it did."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rund_daemon.errors import InvalidError, Reason

from .equal_rows import first_of_each
from .fitted import CELLS_FOUND, Fitted, Origin, Scaler
from .methods import reducer_of
from .parameters import Parameters
from .quality import measure
from .vectors import Matrix, check_magnitudes

LEAST_ROWS = 10
"""With fewer distinct rows than this the map is made of principal components."""

_LIBRARIES = ("rund", "umap-learn", "pacmap", "numba", "numpy", "scikit-learn", "scipy", "faiss-cpu")


def fit(
    rows: Matrix, parameters: Parameters, table: str, column: str, report: Callable[[str], None] = lambda _: None
) -> Fitted:
    """Fits a model.

    Args:
        rows: finite vectors.
        parameters: how.
        table: what errors call the table.
        column: and the column.
        report: is told each phase.

    Raises:
        InvalidError: there are no rows, their magnitudes are too large, or the map is not finite.
    """
    if not len(rows):
        raise InvalidError(
            "spec.source_embedding_column",
            f"column {column!r} of {table} has no row whose vector is finite; there is nothing to fit",
            reason=Reason.INVALID_COLUMN,
        )
    scaler = Scaler.fit(rows) if parameters.standard_scaler_normalize else None
    scaled = scaler.apply(rows) if scaler else rows
    check_magnitudes(scaled, table, column)
    report("leaving out repeated rows")
    first = first_of_each(scaled)
    chosen = _rows_of(scaled, first[sample(len(first), parameters.max_fit_rows, parameters.seed)])
    kind = parameters.method if len(chosen) >= LEAST_ROWS else "pca"
    report(f"fitting {kind} on {len(chosen)} rows of {len(rows)}")
    fitted = reducer_of(kind).fit(chosen, parameters)
    if not np.isfinite(fitted.map).all():
        raise InvalidError(
            "spec.method", f"{kind} gave a map that is not finite for column {column!r} of {table}; nothing was stored"
        )
    report("measuring the map")
    origin = Origin(
        library_versions=_versions(),
        cpu=_cpu(),
        fit_rows=len(chosen),
        sampled=len(chosen) < len(first),
        quality=measure(chosen, fitted.map, parameters.metric, parameters.seed) | _neighbours_found(fitted),
        warnings=tuple(_warnings(parameters, fitted, len(first))),
    )
    return replace(fitted, scaler=scaler, origin=origin)


def sample(count: int, most: int, seed: int) -> npt.NDArray[np.intp]:
    """Chooses rows: all of them, or one of each of `most` equal stretches, for each part of a data set its share."""
    if count <= most:
        return np.arange(count)
    edges = np.linspace(0, count, most + 1).astype(np.intp)
    widths = np.diff(edges)
    drawn: npt.NDArray[np.intp] = edges[:-1] + np.floor(np.random.default_rng(seed).random(most) * widths).astype(
        np.intp
    )
    return drawn


def _rows_of(rows: Matrix, numbers: npt.NDArray[np.intp]) -> Matrix:
    """Those rows, without a copy if they are all of them."""
    return rows if len(numbers) == len(rows) else rows[numbers]


def _neighbours_found(fitted: Fitted) -> dict[str, float]:
    found = fitted.numbers.get(CELLS_FOUND)
    return {} if found is None else {"neighbours_found": round(found, 4)}


def _warnings(parameters: Parameters, fitted: Fitted, distinct: int) -> list[str]:
    said = []
    if fitted.kind != parameters.method:
        said.append(f"{distinct} distinct rows are too few for {parameters.method}; the map is of principal components")
    elif fitted.n_neighbors < parameters.n_neighbors:
        said.append(
            f"n_neighbors is {fitted.n_neighbors} and not {parameters.n_neighbors}: there are {distinct} distinct rows"
        )
    if len(fitted.vectors) < distinct:
        said.append(f"fitted on a sample of {len(fitted.vectors)} of {distinct} distinct rows; the rest is transformed")
    return said


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()
