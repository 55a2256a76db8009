"""Reads tables that lie outside the root: Parquet, Arrow and CSV files, or folders of one of them.

Nothing is copied or kept open. What kind of files they are is the business of the modules `registered_*`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from rund_daemon.errors import InvalidError, Reason, RundError
from rund_daemon.model import TableFormat
from rund_daemon.segments import registered_arrow, registered_csv, registered_parquet
from rund_daemon.segments.plain_types import plain_schema
from rund_daemon.segments.registered_files import Place, find_files, invalid_table, missing_table
from rund_daemon.segments.row_window import RowWindow
from rund_daemon.segments.schemas import check_schema, conform

_MAX_COLUMNS = 10_000
_BATCH_ROWS = 32_768
_BATCH_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class TableProbe:
    """What is known of a table without its rows.

    Attributes:
        format: of all its files.
        row_count: rows.
        file_size: bytes of its files.
        schema: its columns, of plain types.
        content_hash: xxh3-128 over the files' names, sizes and times; changes when a file is written.
    """

    format: TableFormat
    row_count: int
    file_size: int
    schema: pa.Schema
    content_hash: bytes


class FileReader(Protocol):
    """Reads files of one format."""

    def measure(self, path: Place) -> tuple[int, pa.Schema]:
        """Gives the rows and the schema of a file."""

    def merge(self, a: pa.Schema, b: pa.Schema) -> pa.Schema:
        """Gives the schema that holds the rows of two files."""

    def read_rows(self, path: Place, schema: pa.Schema, window: RowWindow) -> Iterator[pa.RecordBatch]:
        """Reads those columns of `schema` that the file has, of the rows in the window."""


_READERS: Mapping[TableFormat, FileReader] = {
    TableFormat.ARROW: registered_arrow,
    TableFormat.PARQUET: registered_parquet,
    TableFormat.CSV: registered_csv,
}


def probe(path: Place | str, *, max_columns: int = _MAX_COLUMNS) -> TableProbe:
    """Looks at a table. Of Parquet and Arrow files only the metadata is read, CSV files are read once.

    Args:
        path: a file, or a folder of files of one format, as `registered_files` says. Files whose columns
            differ are unified as the segments of a metrics table are.
        max_columns: how many columns it may have.

    Raises:
        NotFoundError: TABLE_NOT_FOUND, if nothing is there.
        InvalidError: INVALID_URL, if it can't be read; INVALID_COLUMN, if a column has a type without a plain
            form, or another kind of type in another file.
        ExhaustedError: OVER_LIMIT, if there are too many columns.
    """
    table = find_files(_place(path))
    reader = _READERS[table.format]
    row_count = 0
    merged: pa.Schema | None = None
    for file in table.files:
        with _blaming(file.path):
            rows, schema = reader.measure(file.path)
            check_schema(plain_schema(schema), max_columns)
            row_count += rows
            merged = plain_schema(schema) if merged is None else reader.merge(merged, plain_schema(schema))
    assert merged is not None  # find_files gives at least one file
    with _blaming(_place(path)):
        check_schema(merged, max_columns)
    return TableProbe(table.format, row_count, table.size, merged, table.content_hash())


def scan(  # noqa: PLR0917  # the order in which ReadTableRequest has them
    path: Place | str,
    table_format: TableFormat,
    schema: pa.Schema,
    columns: Sequence[str] | None = None,
    row_filter: pc.Expression | None = None,
    start_row: int = 0,
    row_limit: int | None = None,
    *,
    filter_columns: Collection[str] | None = None,
) -> Iterator[pa.RecordBatch]:
    """Reads rows of a table, in the order of its files, as they are asked for.

    Row groups and batches outside the range are not read. What is read is cut into batches of at most 32,768
    rows and about 8 MiB.

    Args:
        path: as for `probe`.
        table_format: as `probe` gave it.
        schema: as `probe` gave it.
        columns: names, in the order in which they are wanted; None means all, none gives batches of rows
            without columns.
        row_filter: which rows of the range are wanted.
        start_row: the first row, from 0, before filtering.
        row_limit: how many rows from there, before filtering; None means all.
        filter_columns: the columns that `row_filter` looks at; None if not known, which reads all of them.

    Raises:
        NotFoundError: TABLE_NOT_FOUND, if nothing is there any more.
        InvalidError: INVALID_COLUMN, if a column is not in the schema, or a file has changed so that one does
            not fit the schema; INVALID_URL, if a file can't be read.
    """
    table = find_files(_place(path))
    if table.format is not table_format:
        raise invalid_table(_place(path), f"was {table_format} and is {table.format} now; register it again")
    names = schema.names if columns is None else list(columns)
    _check_columns(names, schema)
    filtered = () if row_filter is None else schema.names if filter_columns is None else filter_columns
    needed = {*names, *filtered}
    read_schema = pa.schema([field for field in schema if field.name in needed])
    files = [file.path for file in table.files]
    batches = _read(files, _READERS[table_format], read_schema, RowWindow(start_row, row_limit))
    return _select(batches, names, row_filter)


def _place(path: Place | str) -> Place:
    return Path(path) if isinstance(path, str) else path


def _read(files: Sequence[Place], reader: FileReader, schema: pa.Schema, window: RowWindow) -> Iterator[pa.RecordBatch]:
    for path in files:
        if window.done:
            return
        with _blaming(path):
            for batch in reader.read_rows(path, schema, window):
                for piece in _pieces(batch):
                    yield conform(piece, schema)


def _select(
    batches: Iterator[pa.RecordBatch], names: Sequence[str], row_filter: pc.Expression | None
) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        rows = batch if row_filter is None else batch.filter(row_filter)
        if rows.num_rows:
            yield rows.select(names)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * batch.num_rows // max(batch.nbytes, 1)))
    for first in range(0, batch.num_rows, rows):
        yield batch.slice(first, rows)


def _check_columns(names: Sequence[str], schema: pa.Schema) -> None:
    unknown = [name for name in names if name not in set(schema.names)]
    if unknown:
        raise InvalidError(
            "columns",
            f"there is no column {unknown[0][:80]!r}; the table has {', '.join(schema.names)[:500]}",
            reason=Reason.INVALID_COLUMN,
        )
    if len(set(names)) < len(names):
        raise InvalidError("columns", "names a column twice", reason=Reason.INVALID_COLUMN)


@contextmanager
def _blaming(path: Place) -> Iterator[None]:
    """Turns whatever a file's content provokes into an error that names the file."""
    try:
        yield
    except InvalidError as error:
        message = error.message.removeprefix(f"{error.field}: ")
        raise InvalidError("url", f"{path}: {message}", reason=error.reason) from error
    except RundError:
        raise
    except FileNotFoundError as error:
        raise missing_table(path) from error
    except Exception as error:  # Arrow raises at least seven kinds on broken files
        raise invalid_table(path, f"can't be read: {str(error)[:500]}") from error
