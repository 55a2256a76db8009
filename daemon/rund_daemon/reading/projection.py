"""Which columns and rows of a table a reader wants, and how stored batches become that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from rund_rows.row_filter import keep_rows

from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import MetricsTable, Value, Values
from rund_daemon.segments.heads import read_head
from rund_daemon.segments.schemas import conform
from rund_daemon.segments.type_lattice import unify_types

from .filters import filter_columns, parse_filter, to_expression
from .pruning import Pruning


@dataclass(frozen=True, slots=True)
class Projection:
    """What a reader gets of one table.

    Attributes:
        source: schema message of the table when this was made.
        schema: columns of the result, constants included.
        needed: columns of the table that the result and the filter need, constants included.
        read: those of them that are taken from the stored batches.
        constants: values of every row, by column.
        predicate: rows to keep, or None for all.
        pruning: which batches can be skipped for it, or None for none.
        whole: whether the result is the stored rows as they are.
    """

    source: bytes
    schema: pa.Schema
    needed: pa.Schema
    read: pa.Schema
    constants: Values
    predicate: pc.Expression | None
    pruning: Pruning | None
    whole: bool

    @classmethod
    def of(cls, table: MetricsTable, columns: Sequence[str] | None, filter_text: str) -> Projection:
        """Makes the projection of a table.

        Raises:
            InvalidError: INVALID_COLUMN or INVALID_FILTER.
        """
        stored = read_head(table.arrow_schema)
        constants = {name: value for name, value in table.constants.items() if name not in stored.names}
        full = pa.schema([*stored, *(constant_field(name, value) for name, value in constants.items())])
        schema = full if columns is None else select(full, columns)
        tree = parse_filter(filter_text)
        predicate = to_expression(tree, full) if filter_text else None
        names = {*schema.names, *(filter_columns(tree, full) if filter_text else ())}
        needed = pa.schema([field for field in full if field.name in names])
        read = pa.schema([field for field in stored if field.name in names])
        whole = columns is None and predicate is None and not constants
        return cls(table.arrow_schema, schema, needed, read, constants, predicate, Pruning.of(tree, stored), whole)

    @property
    def schema_message(self) -> bytes:
        """The schema of the result as a message."""
        return self.schema.serialize().to_pybytes()

    @property
    def needed_message(self) -> bytes:
        """The schema of what is needed as a message."""
        return self.needed.serialize().to_pybytes()

    @property
    def needed_constants(self) -> bytes:
        """The values of needed columns that no file has, as an Arrow stream of one row; empty if there are none."""
        values = {name: _constant(value) for name, value in self.constants.items() if name in self.needed.names}
        if not values:
            return b""
        sink = pa.BufferOutputStream()
        row = pa.record_batch({name: pa.repeat(value, 1) for name, value in values.items()})
        with pa.ipc.new_stream(sink, row.schema) as writer:
            writer.write_batch(row)
        return sink.getvalue().to_pybytes()

    def fits(self, head: bytes) -> bool:
        """Says whether the columns that a segment has are of the types that the reader sees."""
        return head == self.source or _fits(head, self.read)

    def passes(self, head: bytes) -> bool:
        """Says whether batches of a segment can be sent as they are stored."""
        return self.whole and (head == self.source or read_head(head).equals(self.read))

    def apply(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Makes a stored batch what the reader wants; it may become none."""
        present = [field.name for field in self.read if field.name in batch.schema.names]
        read = conform(self._narrowed(batch.select(present)), self.read) if len(self.read) else batch.select([])
        arrays = dict(zip(self.read.names, read.columns, strict=True))
        for name, value in self.constants.items():
            arrays[name] = pa.repeat(_constant(value), batch.num_rows)
        if self.predicate is None:
            return [_record_batch(arrays, self.schema, batch.num_rows)]
        table = keep_rows(pa.table(arrays), self.predicate).select(self.schema.names).combine_chunks()
        rows = [
            _record_batch(dict(zip(part.schema.names, part.columns, strict=True)), self.schema, part.num_rows)
            for part in table.to_batches()
        ]
        return [part for part in rows if part.num_rows]

    def _narrowed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Takes back what sealing made of rows when others of a wider type came after this read began."""
        for number, field in enumerate(batch.schema):
            wanted = self.read.field(field.name)
            if field.type != wanted.type and unify_types(field.type, wanted.type) != wanted.type:
                column = batch.column(number).cast(wanted.type, safe=False)
                batch = batch.set_column(number, wanted, column)
        return batch


def _fits(head: bytes, wanted: pa.Schema) -> bool:
    stored = read_head(head)
    return all(
        stored.field(field.name).type.equals(field.type) for field in wanted if stored.get_field_index(field.name) >= 0
    )


def select(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Gives some columns of a schema, in the order asked for.

    Raises:
        InvalidError: INVALID_COLUMN: there is no such column, or it is asked for twice.
    """
    if len(set(columns)) != len(columns):
        raise InvalidError("columns", "a column is asked for twice", reason=Reason.INVALID_COLUMN)
    for name in columns:
        if name not in schema.names:
            known = ", ".join(schema.names[:20]) or "none yet"
            raise InvalidError(
                "columns",
                f"the table has no column {name[:60]!r}; it has: {known}",
                reason=Reason.INVALID_COLUMN,
            )
    return pa.schema([schema.field(name) for name in columns])


def constant_field(name: str, value: Value) -> pa.Field[Any]:
    """The column of a constant."""
    return pa.field(name, _constant(value).type)


def _constant(value: Value) -> Any:
    try:
        return pa.scalar(cast("Any", value))
    except (pa.ArrowException, OverflowError):
        # A value of mixed types has no Arrow type; its text says what it is.
        return pa.scalar(repr(value))


def _record_batch(arrays: dict[str, pa.Array[Any]], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if not len(schema):
        # A batch without columns still counts rows.
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["none"]).select([])
    return pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)
