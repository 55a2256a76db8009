"""Reads Arrow files and streams that lie outside the root.

They are read and not mapped: a file that somebody truncates while it is mapped would kill the daemon. Batches
are validated in full before a value is touched, because broken offsets crash the reader. Memory is bounded by
the file's largest batch, of the columns that are wanted.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

import pyarrow as pa

from rund_daemon.segments.arrow_headers import RECORD_BATCH, Header, file_batch_rows, stream_headers
from rund_daemon.segments.plain_types import batch_of
from rund_daemon.segments.registered_files import ARROW_FILE_MAGIC, Place
from rund_daemon.segments.row_window import RowWindow
from rund_daemon.segments.schemas import unify

merge = unify


def measure(path: Place) -> tuple[int, pa.Schema]:
    """Gives the rows and the schema of a file. No batch is read."""
    with path.open("rb") as file:
        if _is_file_format(file):
            rows = sum(file_batch_rows(file))
            file.seek(0)
            with pa.ipc.open_file(file) as reader:
                return rows, reader.schema
        rows = sum(header.rows for header in stream_headers(file))
        file.seek(0)
        with pa.ipc.open_stream(file) as stream:
            return rows, stream.schema


def read_rows(path: Place, schema: pa.Schema, window: RowWindow) -> Iterator[pa.RecordBatch]:
    """Reads those columns of `schema` that the file has, of the rows in the window."""
    with path.open("rb") as file:
        read = _read_file if _is_file_format(file) else _read_stream
        for batch, first, count in read(file, schema.names, window):
            batch.validate(full=True)
            yield batch.slice(first, count)


def _read_file(
    file: io.BufferedReader, names: Sequence[str], window: RowWindow
) -> Iterator[tuple[pa.RecordBatch, int, int]]:
    batch_rows = file_batch_rows(file)
    file.seek(0)
    with pa.ipc.open_file(file) as reader:
        wanted = _indices(reader.schema, names)
    file.seek(0)
    with pa.ipc.open_file(file, options=_options(wanted)) as reader:
        for number, rows in enumerate(batch_rows):
            first, count = window.take(rows)
            if count:
                batch = reader.get_batch(number) if wanted else batch_of([], reader.schema, rows)
                yield batch, first, count
            if window.done:
                return


def _read_stream(
    file: io.BufferedReader, names: Sequence[str], window: RowWindow
) -> Iterator[tuple[pa.RecordBatch, int, int]]:
    headers = list(stream_headers(file))
    file.seek(0)
    with pa.ipc.open_stream(file) as stream:
        wanted = _indices(stream.schema, names)
    places = []
    shown = []
    for header in headers:
        first, count = window.take(header.rows)
        if header.kind != RECORD_BATCH:
            shown.append(header)
        elif count:
            places.append((first, count, header.rows))
            shown.append(header)
    if not wanted:
        yield from ((batch_of([], pa.schema([]), rows), first, count) for first, count, rows in places)
        return
    with pa.ipc.open_stream(io.BufferedReader(_Excerpt(file, shown)), options=_options(wanted)) as stream:
        for (first, count, _), batch in zip(places, stream, strict=True):
            yield batch, first, count


def _is_file_format(file: io.BufferedReader) -> bool:
    file.seek(0)
    magic = file.read(len(ARROW_FILE_MAGIC))
    file.seek(0)
    return magic == ARROW_FILE_MAGIC


def _indices(schema: pa.Schema, names: Sequence[str]) -> list[int]:
    return [index for index in (schema.get_field_index(name) for name in names) if index >= 0]


def _options(wanted: list[int]) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=wanted, use_threads=False)


class _Excerpt(io.RawIOBase):
    """Shows some messages of a stream as if it had no others: the batches before a row range are not read."""

    def __init__(self, file: io.BufferedReader, messages: Sequence[Header]) -> None:
        self._file = file
        self._spans = iter([(message.offset, message.length) for message in messages])
        self._left = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # any Buffer
        if self._left == 0:
            offset, self._left = next(self._spans, (0, 0))
            self._file.seek(offset)
        piece = self._file.read(min(self._left, len(buffer)))
        buffer[: len(piece)] = piece
        self._left -= len(piece)
        return len(piece)
