"""Points of many metrics, one (key, step, time, value) each, brought into the order of rows.

They wait in a temporary SQLite database, which lies on disk beyond a few megabytes: a source may have millions of them,
in one file a metric.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from typing import NamedTuple

import pyarrow as pa

from .foreign import Chunk, Notes
from .row_batches import Cell, RowBatches


class Point(NamedTuple):
    """One value of one metric; the time in microseconds since 1970 (UTC)."""

    key: str
    step: int | None
    time: int | None
    value: Cell


def rows_of_points(
    points: Iterable[Point], position: int, known: Mapping[str, pa.DataType], notes: Notes
) -> Iterator[Chunk]:
    """Joins neighbours of one step and time into rows. A position is the number of points behind it."""
    batches = RowBatches(known, notes)
    place: tuple[int | None, int | None] = (None, None)
    cells: dict[str, Cell] = {}
    count = position
    for point in points:
        if cells and (place != (point.step, point.time) or point.key in cells):
            yield from batches.add((*place, cells), count)
            cells = {}
        place = (point.step, point.time)
        cells[point.key] = point.value
        count += 1
    if cells:
        yield from batches.add((*place, cells), count)
    yield from batches.rest()


def sorted_points(points: Iterable[Point], skip: int) -> Iterator[Point]:
    """Gives points by time and step, those of one moment as they came, without the first ones.

    A source that only grows in time keeps its first ones, however it is laid out.
    """
    with closing(sqlite3.connect("")) as spool:
        # It is thrown away in any case.
        spool.execute("PRAGMA journal_mode = OFF")
        spool.execute("CREATE TABLE points (key TEXT, step INTEGER, time INTEGER, value)")
        spool.executemany("INSERT INTO points VALUES (?, ?, ?, ?)", map(_kept, points))
        order = "SELECT key, step, time, value FROM points ORDER BY time, step, rowid LIMIT -1 OFFSET ?"
        for key, step, time, value in spool.execute(order, (skip,)):
            yield Point(key, step, time, math.nan if value == _NAN_MARK else value)


_NAN_MARK = b"nan"
"""SQLite keeps a NaN as NULL."""


def _kept(point: Point) -> tuple[str, int | None, int | None, object]:
    is_nan = isinstance(point.value, float) and math.isnan(point.value)
    return point.key, point.step, point.time, _NAN_MARK if is_nan else point.value
