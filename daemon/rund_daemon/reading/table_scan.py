"""Reads rows of input tables, as messages of an Arrow IPC stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence

import pyarrow as pa

from rund_daemon.errors import InvalidError
from rund_daemon.model import InputTable
from rund_daemon.segments.heads import read_head
from rund_daemon.segments.table_data import CheckedFile
from rund_daemon.tables import InputTables

from .filters import filter_columns, parse_filter, to_expression
from .pieces import cut, join
from .projection import select
from .scan import Piece
from .stored import STORED_BYTES, StoredBatch, StoredFile


class TableReader:
    """Reads input tables, written or registered."""

    def __init__(self, tables: InputTables) -> None:
        self._tables = tables

    async def read(
        self,
        table: InputTable,
        columns: Sequence[str] | None,
        filter_text: str,
        start_row: int,
        row_limit: int | None,
        *,
        stored: bool = False,
    ) -> AsyncIterator[Piece]:
        """Gives rows, piece by piece; the first piece has the schema. Bounds count before filtering.

        With `stored` the file of a table that was written is named instead: the reader is on this host.

        Raises:
            InvalidError: a bound, a column or the filter does not fit the table.
            NotFoundError: a registered file is gone.
        """
        if start_row < 0 or (row_limit or 0) < 0:
            raise InvalidError("start_row", "start_row and row_limit can't be negative")
        full = read_head(table.arrow_schema)
        schema = full if columns is None else select(full, columns)
        tree = parse_filter(filter_text)
        predicate = to_expression(tree, full) if filter_text else None
        # Filtered here and not where they are read, so that the number of each row is known.
        if stored and not table.registered_url:
            yield Piece(_schema_bytes(schema), b"", start_row, table.row_count, stored_schema=_schema_bytes(full))
            end = table.row_count if row_limit is None else min(table.row_count, start_row + row_limit)
            path, file = await self._tables.checked_file(table)
            for batches, row in _named(file, start_row, end):
                yield Piece(b"", b"", row, table.row_count, (StoredFile(path, file.state, batches),))
            return
        needed = dict.fromkeys([*schema.names, *(filter_columns(tree, full) if filter_text else ())])

        def apply(rows: pa.RecordBatch) -> list[pa.RecordBatch]:
            kept = rows if predicate is None else rows.filter(predicate)
            return [kept.select(schema.names)] if kept.num_rows else []

        yield Piece(_schema_bytes(schema), b"", start_row, table.row_count)
        row, loop = start_row, asyncio.get_running_loop()
        async for batch in self._tables.read(table, list(needed), start_row, row_limit):
            parts = cut(batch, row, schema, apply)
            for data, row in await loop.run_in_executor(None, join, parts):
                yield Piece(b"", data, row, table.row_count)


def _schema_bytes(schema: pa.Schema) -> bytes:
    return schema.serialize().to_pybytes()


def _named(file: CheckedFile, begin: int, end: int) -> Iterator[tuple[tuple[StoredBatch, ...], int]]:
    """The batches with the rows from `begin` to `end`, as many at a time as a reader should hold, and the next row."""
    named: list[StoredBatch] = []
    size, first_row = 0, 0
    for place in file.batches:
        first, last = max(begin, first_row), min(end, first_row + place.rows)
        if first < last:
            if named and size + place.length > STORED_BYTES:
                yield tuple(named), first
                named, size = [], 0
            named.append(StoredBatch(place.offset, place.length, first - first_row, last - first))
            size += place.length
        first_row += place.rows
    if named:
        yield tuple(named), end
