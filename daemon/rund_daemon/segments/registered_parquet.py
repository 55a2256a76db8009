"""Reads Parquet files that lie outside the root: here, or in a process of their own where Arrow can't be trusted."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from rund_daemon.segments import parquet_rows
from rund_daemon.segments.parquet_child import needs_child, read_apart
from rund_daemon.segments.plain_types import batch_of
from rund_daemon.segments.registered_files import Place
from rund_daemon.segments.row_window import RowWindow
from rund_daemon.segments.schemas import unify

merge = unify


def measure(path: Place) -> tuple[int, pa.Schema]:
    """Gives the rows and the schema of a file, from its metadata."""
    with parquet_rows.open_file(path) as file:
        return file.metadata.num_rows, file.schema_arrow


def read_rows(path: Place, schema: pa.Schema, window: RowWindow) -> Iterator[pa.RecordBatch]:
    """Reads those columns of `schema` that the file has, of the rows in the window."""
    rows, found = measure(path)
    names = [name for name in schema.names if name in set(found.names)]
    if names and not needs_child(found, names):
        yield from parquet_rows.read(path, names, window)
        return
    first, count = window.take(rows)
    if count and names:
        yield from read_apart(path, names, first, count)
    elif count:
        yield batch_of([], schema, count)
