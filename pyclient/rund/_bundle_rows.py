"""Rows of a metrics table of a bundle, read from its files without a daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import pyarrow as pa
from rund_rows import FilterError

from ._bundle_files import BundleFile, BundleFiles
from ._errors import CorruptDataError, InvalidColumnError, InvalidFieldError, InvalidFilterError
from ._stored_rows import StoredRows, batch_of
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
            InvalidFilterError: The filter can't be parsed, or does not fit the columns.
            CorruptDataError: A file is not as it was written.
        """
        if rows.start_row < 0 or (rows.row_limit or 0) < 0:
            raise InvalidFieldError("start_row and row_limit can't be negative")
        constants = {name: _constant(value) for name, value in self.info.constants.items()}
        full = self._full(constants)
        schema = full if rows.columns is None else _selected(full, rows.columns)
        try:
            stored = StoredRows.of(schema, full, constants, rows.filter)
        except FilterError as error:
            raise InvalidFilterError(f"filter: {error.message}", details={"position": str(error.position)}) from error
        # The first batch brings the schema, whether there are rows or not.
        yield batch_of({}, schema, 0)
        for batches in self._range(rows.start_row, rows.row_limit):
            yield from stored.take(batches)

    def _range(self, skip: int, limit: int | None) -> Iterator[list[pa.RecordBatch]]:
        """Stored batches of some rows, file by file."""
        left = self.info.row_count if limit is None else limit
        for entry in self._entries():
            if left <= 0:
                return
            if entry.rows <= skip:
                skip -= entry.rows
                continue
            parts = []
            for stored in self._batches(entry):
                parts.append(stored.slice(skip, left))
                skip = max(0, skip - stored.num_rows)
                left -= parts[-1].num_rows
                if left <= 0:
                    break
            yield parts

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

    def _full(self, constants: Mapping[str, Any]) -> pa.Schema:
        stored = self._stored()
        missing = [pa.field(name, value.type) for name, value in constants.items() if name not in stored.names]
        return pa.schema([*stored, *missing])


def _selected(full: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    for name in columns:
        if name not in full.names:
            raise InvalidColumnError(f"the table has no column {name!r}; it has: {', '.join(full.names[:20])}")
    if len(set(columns)) != len(columns):
        raise InvalidColumnError("a column is asked for twice")
    return pa.schema([full.field(name) for name in columns])


def _constant(value: object) -> Any:
    try:
        return pa.scalar(cast(Any, value))
    except (pa.ArrowException, OverflowError):
        # A value of mixed types has no Arrow type; its text says what it is.
        return pa.scalar(repr(value))
