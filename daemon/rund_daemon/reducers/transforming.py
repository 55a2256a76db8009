"""Maps vectors with a fitted model, in chunks of the size that it names: whoever does it, rows are the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np

from rund_daemon.errors import InvalidError, Reason

from .fitted import Fitted
from .fitting import reducer_of
from .vectors import Matrix, check_magnitudes


class Executor(Protocol):
    """Carries out work on chunks, in any order and place, and gives the results in theirs."""

    def map(self, work: Callable[[Matrix], Matrix], chunks: Iterable[Matrix]) -> Iterable[Matrix]:
        """Gives the result of each chunk."""


class InPlace:
    """Carries chunks out one after the other in this process; the search of neighbours takes all cores as it is."""

    def map(self, work: Callable[[Matrix], Matrix], chunks: Iterable[Matrix]) -> Iterable[Matrix]:
        """Gives the result of each chunk."""
        return map(work, chunks)


def transform(
    fitted: Fitted,
    rows: Matrix,
    table: str,
    column: str,
    *,
    report: Callable[[float], None] = lambda _: None,
    executor: Executor | None = None,
) -> Matrix:
    """Maps rows. Those that the model was fitted on get the places that they have in its map.

    Args:
        fitted: the model.
        rows: finite vectors.
        table: what errors call the table.
        column: and the column.
        report: is told the share that is done.
        executor: carries out the chunks.

    Raises:
        InvalidError: the rows have another width than the model takes, or magnitudes that are too large.
    """
    components = fitted.map.shape[1]
    if not len(rows):
        return np.empty((0, components), dtype=np.float32)
    if rows.shape[1] != fitted.width:
        raise InvalidError(
            "spec.source_embedding_column",
            f"column {column!r} of {table} holds vectors of {rows.shape[1]} numbers, and the reducer takes "
            f"{fitted.width}",
            reason=Reason.INVALID_COLUMN,
        )
    scaled = fitted.scaler.apply(rows) if fitted.scaler else rows
    check_magnitudes(scaled, table, column)
    places = np.empty((len(rows), components), dtype=np.float32)
    known = _known_places(fitted, scaled)
    fresh = np.flatnonzero(known < 0)
    places[known >= 0] = fitted.map[known[known >= 0]]
    reducer = reducer_of(fitted.kind) if len(fresh) else None
    done = 0
    if reducer is not None:
        chunks = (
            scaled[part] for part in np.array_split(fresh, range(fitted.chunk_rows, len(fresh), fitted.chunk_rows))
        )
        for mapped in (executor or InPlace()).map(lambda chunk: reducer.transform(fitted, chunk), chunks):
            places[fresh[done : done + len(mapped)]] = mapped
            done += len(mapped)
            report(done / len(fresh))
    if not np.isfinite(places).all():
        raise InvalidError("spec.method", f"the map of column {column!r} of {table} is not finite; nothing was stored")
    return places


def _known_places(fitted: Fitted, rows: Matrix) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Of each row, which row of the model it equals, byte for byte; -1 if none."""
    known = {row.tobytes(): number for number, row in enumerate(np.ascontiguousarray(fitted.vectors))}
    return np.array([known.get(row.tobytes(), -1) for row in np.ascontiguousarray(rows)], dtype=np.intp)
