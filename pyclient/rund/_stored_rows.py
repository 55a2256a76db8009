"""What a reader gets of batches that lie in files of a table: columns that it asked for, of rows that it wants."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from rund_rows import filter_columns, parse_filter, promote, recast, rows_kept, to_expression


@dataclass(frozen=True, slots=True)
class StoredRows:
    """How stored batches become the rows of a result.

    Attributes:
        schema: Of the result.
        constants: Scalars by column: values that are the same for every row and lie in no file.
        looked_at: The columns that the filter looks at.
        predicate: True for the rows to keep; None: all.
    """

    schema: pa.Schema
    constants: Mapping[str, Any]
    looked_at: pa.Schema
    predicate: Any = None

    @classmethod
    def of(cls, schema: pa.Schema, needed: pa.Schema, constants: Mapping[str, Any], filter_text: str) -> StoredRows:
        """Makes one.

        Args:
            schema: Of the result.
            needed: All columns of the table that the result or the filter needs, or more.
            constants: As above.
            filter_text: A filter; empty: all rows.

        Raises:
            FilterError: It can't be parsed, or does not fit the columns.
        """
        if not filter_text:
            return cls(schema, constants, pa.schema([]))
        tree = parse_filter(filter_text)
        names = filter_columns(tree, needed)
        looked_at = pa.schema([field for field in needed if field.name in names])
        return cls(schema, constants, looked_at, to_expression(tree, needed))

    def take(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Gives the rows of batches. What has the wanted type, and of which all rows are kept, is not copied."""
        if self.predicate is None:
            for batch in batches:
                if batch.num_rows:
                    yield self._complete(batch, self.schema)
            return
        # Together: to have an expression evaluated costs as much as some ten thousand rows.
        stored = [batch for batch in batches if batch.num_rows]
        if not stored:
            return
        looked_at = [self._looked_at(batch) for batch in stored]
        kept, begin = rows_kept(pa.Table.from_batches(looked_at), self.predicate), 0
        for batch in stored:
            mask = kept.slice(begin, batch.num_rows)
            begin += batch.num_rows
            count = mask.true_count
            if count == batch.num_rows:
                yield self._complete(batch, self.schema)
            elif count:
                yield self._filtered(batch, mask, count)

    def _filtered(self, batch: pa.RecordBatch, mask: pa.BooleanArray, count: int) -> pa.RecordBatch:
        if not len(self.schema):
            return batch_of({}, self.schema, count)
        return self._complete(batch, self.schema).filter(mask)

    def _looked_at(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        # A filter may look at nothing, and must still say of each row that it holds.
        if len(self.looked_at):
            return self._complete(batch, self.looked_at)
        return pa.record_batch({"none": pa.nulls(batch.num_rows)})

    def _complete(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        arrays: dict[str, pa.Array[Any]] = {}
        for field in schema:
            index = batch.schema.get_field_index(field.name)
            if index >= 0:
                column = batch.column(index)
                arrays[field.name] = recast(column, field.type, promote)
            elif field.name in self.constants:
                arrays[field.name] = pa.repeat(self.constants[field.name], batch.num_rows)
        return batch_of(arrays, schema, batch.num_rows)


def batch_of(arrays: Mapping[str, pa.Array[Any]], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    """A batch of a schema; columns that are not given are null."""
    if not len(schema):
        # A batch without columns still counts rows.
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["none"]).select([])
    columns = [arrays[field.name] if field.name in arrays else pa.nulls(rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
