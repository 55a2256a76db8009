"""The work itself, in a process of its own: reads vectors, fits, maps, and writes the new tables' segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import xxhash

from rund_daemon.errors import NotFoundError, Reason
from rund_daemon.model import BatchRef, Segment
from rund_daemon.reducers import fitted as models
from rund_daemon.reducers.fitted import Fitted
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.transforming import transform
from rund_daemon.reducers.vectors import Vectors, check_widths, read_vectors
from rund_daemon.segments.heads import read_head
from rund_daemon.segments.layout import make_durable_folder
from rund_daemon.segments.plain_types import batch_of
from rund_daemon.segments.reader import SegmentReader
from rund_daemon.segments.schemas import conform
from rund_daemon.segments.seal import write_rows
from rund_daemon.segments.spare_numbers import NUMBERS_A_SEGMENT

from .orders import FitOrder, Made, MadeFit, MadeTable, Order, TableOrder

SEGMENT_BYTES = 64 * 1024 * 1024
"""A new segment of so many bytes is closed and another begun."""

Report = Callable[[float, str], None]


@dataclass(slots=True)
class _Work:
    order: Order
    report: Report
    maps: dict[tuple[int, str], pa.Array[Any]] = field(default_factory=dict)

    def vectors(self, number: int, column: str) -> Vectors:
        table = self.order.tables[number]
        return read_vectors(table.url, column, (batch.column(column) for batch in _batches(table)))


def carry_out(order: Order, report: Report) -> Made:
    """Carries out an order.

    Args:
        order: the job.
        report: is told the share that is done and the phase.

    Raises:
        RundError: it can't be done; what was written so far is nobody's.
    """
    work = _Work(order, report)
    fits = tuple(_map(work, wanted, number) for number, wanted in enumerate(order.fits))
    tables = tuple(_write(work, number) for number in range(len(order.tables)))
    return Made(tables, fits)


def _map(work: _Work, wanted: FitOrder, number: int) -> MadeFit:
    """Fits or loads one model, and maps all its tables."""
    span = 0.8 / len(work.order.fits)
    begin = span * number
    work.report(begin, f"reading {wanted.column}")
    fitted_on = _looked_through(work, wanted)
    model, digest, used = _model(work, wanted, fitted_on, begin + 0.05 * span)
    begin, part = begin + 0.6 * span, 0.4 * span / len(wanted.members)
    for place, member in enumerate(wanted.members):
        same = fitted_on is not None and member == wanted.fitted_on
        vectors = fitted_on if same and fitted_on is not None else work.vectors(member, wanted.column)
        told = _Told(work.report, begin + part * place, part, f"mapping {wanted.column} of {vectors.table}")
        told(0.0)
        places = transform(model, vectors.rows, vectors.table, wanted.column, report=told)
        work.maps[member, wanted.target] = vectors.spread(places)
    origin = model.origin
    return MadeFit(digest, used, origin.fit_rows, model.width, origin.library_versions, origin.quality, origin.warnings)


def _looked_through(work: _Work, wanted: FitOrder) -> Vectors | None:
    """Reads all vectors once, so that what can't be mapped is refused before the fit, and gives those to fit on."""
    widths: list[tuple[str, int]] = []
    fitted_on = None
    for member in wanted.members:
        vectors = work.vectors(member, wanted.column)
        if vectors.width:
            widths.append((vectors.table, vectors.width))
        if member == wanted.fitted_on:
            fitted_on = vectors
    check_widths(widths, wanted.column)
    return fitted_on


def _model(work: _Work, wanted: FitOrder, fitted_on: Vectors | None, share: float) -> tuple[Fitted, bytes, Path | None]:
    """The model, the digest of the vectors it is for, and the file that it came from if it was there."""
    digest = b""
    if fitted_on is not None and len(fitted_on.rows):
        rows: Any = fitted_on.rows  # numpy's types do not say that an array is a buffer
        digest = xxhash.xxh3_128_digest(memoryview(rows).cast("B"))
    if (used := wanted.model or wanted.known.get(digest)) is not None:
        try:
            return models.load(used), digest, used
        except FileNotFoundError as error:
            if fitted_on is None:
                raise NotFoundError(
                    Reason.REDUCER_NOT_FOUND,
                    f"reducer: {used.parent.name!r} was removed meanwhile; nothing was changed",
                ) from error
    assert fitted_on is not None
    model = fit(
        fitted_on.rows,
        work.order.parameters,
        fitted_on.table,
        wanted.column,
        lambda phase: work.report(share, phase),
    )
    models.save(model, wanted.made)
    return model, digest, None


@dataclass(frozen=True, slots=True)
class _Told:
    """Tells of a part of the work."""

    report: Report
    begin: float
    span: float
    phase: str

    def __call__(self, done: float) -> None:
        self.report(self.begin + self.span * done, self.phase)


def _write(work: _Work, number: int) -> MadeTable:
    order = work.order
    table = order.tables[number]
    work.report(0.8 + 0.19 * number / len(order.tables), f"writing what replaces {table.url}")
    make_durable_folder(table.made)
    rows = _Rows(_new_batches(work, number))
    segments: list[Segment] = []
    refs: list[BatchRef] = []
    first_row = segment_number = 0
    while rows.more() or not segments:
        # A table without rows has a file all the same: it says what its columns are.
        path = table.made / f"{segment_number:06d}.arrow"
        made = write_rows(path, table.new_head, rows.take(), segment_number, order.compression, first_row)
        segments.append(Segment(segment_number, True, made.length, made.rows, table.new_head, len(made.batches)))
        refs += made.batches
        first_row += made.rows
        segment_number += NUMBERS_A_SEGMENT
    return MadeTable(tuple(segments), tuple(refs))


class _Rows:
    """Batches, cut into stretches that are a segment each."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._next = next(batches, None)

    def more(self) -> bool:
        return self._next is not None

    def take(self) -> Iterator[pa.RecordBatch]:
        size = 0
        while (batch := self._next) is not None and size < SEGMENT_BYTES:
            self._next = next(self._batches, None)
            size += batch.nbytes
            yield batch


def _new_batches(work: _Work, number: int) -> Iterator[pa.RecordBatch]:
    table = work.order.tables[number]
    schema = read_head(table.new_head)
    row = 0
    for batch in _batches(table):
        columns = [
            work.maps[number, name].slice(row, batch.num_rows) if (number, name) in work.maps else batch.column(name)
            for name in schema.names
        ]
        yield batch_of(columns, schema, batch.num_rows)
        row += batch.num_rows


def _batches(table: TableOrder) -> Iterator[pa.RecordBatch]:
    schema = read_head(table.head)
    reader = SegmentReader(table.folder, table.segments)
    try:
        for stored in reader.read(table.refs):
            yield conform(stored.decode(), schema)
    finally:
        reader.close()
