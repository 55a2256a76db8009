"""Rows of a metrics table of a bundle, read from its files without a daemon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa

from ._bundle_files import BundleFile, BundleFiles
from ._errors import CorruptDataError, InvalidColumnError, InvalidFieldError, UnsupportedError
from ._transport import RowRequest
from ._types import MetricTableInfo


@dataclass(frozen=True, slots=True)
class BundleRows:
    """A metrics table of a bundle: nothing is read, or checked, before it is asked for."""

    files: BundleFiles
    info: MetricTableInfo

    @property
    def url(self) -> str:
        """Its folder in the bundle."""
        return f"{self.files.url}/{self.info.url}"

    def record(self) -> MetricTableInfo:
        """Its record, which never changes."""
        return self.info

    def read(self, rows: RowRequest) -> Iterator[pa.RecordBatch]:
        """The rows in the order of their commits.

        Raises:
            InvalidColumnError: There is no such column, or it is named twice.
            CorruptDataError: A file is not as it was written.
        """
        if rows.filter:
            raise UnsupportedError(
                "a bundle is read without a filter: filter what to_arrow() gives, or query() the run with SQL"
            )
        if rows.start_row < 0 or (rows.row_limit or 0) < 0:
            raise InvalidFieldError("start_row and row_limit can't be negative")
        schema = self._selected(rows.columns)
        yield from self._read(schema, rows.start_row, rows.row_limit)

    def _read(self, schema: pa.Schema, skip: int, limit: int | None) -> Iterator[pa.RecordBatch]:
        # The first batch brings the schema, whether there are rows or not.
        yield _batch({}, schema, 0)
        left = self.info.row_count if limit is None else limit
        for entry in self._entries():
            if left <= 0:
                return
            if entry.rows <= skip:
                skip -= entry.rows
                continue
            for stored in self._batches(entry):
                part = stored.slice(skip, left)
                skip = max(0, skip - stored.num_rows)
                if part.num_rows:
                    left -= part.num_rows
                    yield self._conformed(part, schema)
                if left <= 0:
                    return

    def _entries(self) -> list[BundleFile]:
        prefix = f"{self.info.url}/"
        return [entry for path, entry in self.files.entries.items() if path.startswith(prefix)]

    def _batches(self, entry: BundleFile) -> Iterator[pa.RecordBatch]:
        content = self.files.read(entry.path)
        try:
            reader = pa.ipc.open_file(content)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
        except pa.ArrowException as error:
            raise CorruptDataError(f"{self.files.url}/{entry.path} is no Arrow file: {error}") from error

    def _stored(self) -> pa.Schema:
        head = self.info.arrow_schema
        return pa.ipc.read_schema(pa.py_buffer(head)) if head else pa.schema([])

    def _selected(self, columns: Sequence[str] | None) -> pa.Schema:
        stored = self._stored()
        constants = {name: _constant(value).type for name, value in self.info.constants.items()}
        missing = [pa.field(name, kind) for name, kind in constants.items() if name not in stored.names]
        full = pa.schema([*stored, *missing])
        if columns is None:
            return full
        for name in columns:
            if name not in full.names:
                raise InvalidColumnError(f"the table has no column {name!r}; it has: {', '.join(full.names[:20])}")
        if len(set(columns)) != len(columns):
            raise InvalidColumnError("a column is asked for twice")
        return pa.schema([full.field(name) for name in columns])

    def _conformed(self, batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
        arrays: dict[str, pa.Array[Any]] = {}
        for field in schema:
            index = batch.schema.get_field_index(field.name)
            if index >= 0:
                column = batch.column(index)
                arrays[field.name] = column if column.type.equals(field.type) else column.cast(field.type)
            elif field.name in self.info.constants:
                arrays[field.name] = pa.repeat(_constant(self.info.constants[field.name]), batch.num_rows)
        return _batch(arrays, schema, batch.num_rows)


def _batch(arrays: dict[str, pa.Array[Any]], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if not len(schema):
        # A batch without columns still counts rows.
        return pa.RecordBatch.from_arrays([pa.nulls(rows)], names=["none"]).select([])
    columns = [arrays[field.name] if field.name in arrays else pa.nulls(rows, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _constant(value: object) -> Any:
    try:
        return pa.scalar(cast(Any, value))
    except (pa.ArrowException, OverflowError):
        # A value of mixed types has no Arrow type; its text says what it is.
        return pa.scalar(repr(value))
