"""Reads rows of input tables, as messages of an Arrow IPC stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pyarrow as pa

from rund_daemon.errors import InvalidError
from rund_daemon.model import InputTable
from rund_daemon.segments.heads import read_head
from rund_daemon.tables import InputTables

from .filters import filter_columns, parse_filter, to_expression
from .pieces import cut, join
from .projection import select
from .scan import Piece


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
    ) -> AsyncIterator[Piece]:
        """Gives rows, piece by piece; the first piece has the schema. Bounds count before filtering.

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
        needed = dict.fromkeys([*schema.names, *(filter_columns(tree, full) if filter_text else ())])

        def apply(rows: pa.RecordBatch) -> list[pa.RecordBatch]:
            kept = rows if predicate is None else rows.filter(predicate)
            return [kept.select(schema.names)] if kept.num_rows else []

        yield Piece(schema.serialize().to_pybytes(), b"", start_row, table.row_count)
        row, loop = start_row, asyncio.get_running_loop()
        async for batch in self._tables.read(table, list(needed), start_row, row_limit):
            parts = cut(batch, row, schema, apply)
            for data, row in await loop.run_in_executor(None, join, parts):
                yield Piece(b"", data, row, table.row_count)
