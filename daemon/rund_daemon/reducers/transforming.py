"""Maps vectors with a fitted model, in chunks of the size that it names: whoever does it, rows are the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rund_daemon.errors import InvalidError, Reason

from .chunks import Executor
from .equal_rows import equal_row_of
from .fitted import Fitted
from .local_threads import LocalThreads
from .vectors import Matrix, check_magnitudes


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
        executor: maps the chunks; as many threads as there are cores if nothing is said.

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
    known = equal_row_of(scaled, fitted.vectors)
    fresh = np.flatnonzero(known < 0)
    places[known >= 0] = fitted.map[known[known >= 0]]
    if len(fresh):
        done = 0
        left = scaled if len(fresh) == len(scaled) else scaled[fresh]
        for mapped in (executor or LocalThreads()).map(fitted, left):
            places[fresh[done : done + len(mapped)]] = mapped
            done += len(mapped)
            report(done / len(fresh))
    if not np.isfinite(places).all():
        raise InvalidError("spec.method", f"the map of column {column!r} of {table} is not finite; nothing was stored")
    return places
