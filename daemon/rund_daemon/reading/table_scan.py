"""Reads rows of input tables, as messages of an Arrow IPC stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from rund_daemon.errors import InvalidError
from rund_daemon.model import InputTable
from rund_daemon.segments.heads import read_head
from rund_daemon.tables import InputTables

from .filters import parse_filter, to_expression
from .projection import select
from .scan import Piece, split


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
        predicate = to_expression(parse_filter(filter_text), full) if filter_text else None
        yield Piece(schema.serialize().to_pybytes(), b"", start_row, table.row_count)
        row = start_row
        async for batch in self._tables.read(table, columns, predicate, start_row, row_limit):
            # With a filter the number of rows read is not known; a broken read begins again.
            row = row + batch.num_rows if predicate is None else start_row
            for part in split(batch):
                yield Piece(b"", part.serialize().to_pybytes(), row, table.row_count)
