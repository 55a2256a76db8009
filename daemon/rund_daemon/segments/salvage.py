"""Reads what a segment file proves by itself, when no catalog says what is in it: its whole batches from the begin."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from rund_daemon.errors import InvalidError
from rund_daemon.model import BatchRef, ColumnRange

from .compression import MAX_DECODED_BYTES, decompress
from .file_format import PREAMBLE
from .messages import RECORD_BATCH, SCHEMA, Message, decoded_bytes, read_message
from .ranges import column_ranges


@dataclass(frozen=True, slots=True)
class Salvage:
    """What a file holds.

    Attributes:
        head: its schema message; empty if it does not begin with a whole one.
        refs: its whole and valid batches; the first has row 0 of the file.
        end: where the last of them ends.
        size: bytes of the file.
        problem: why reading ended before the end of the data, or empty.
    """

    head: bytes
    refs: tuple[BatchRef, ...]
    end: int
    size: int
    problem: str = ""

    @property
    def rows(self) -> int:
        """Rows of the batches."""
        return sum(ref.rows for ref in self.refs)


def salvage_segment(path: Path, number: int, *, start: int = 0, limit: int | None = None) -> Salvage:
    """Reads a segment from its begin, or from a place where a batch begins.

    Every batch is validated in full: bytes that came from elsewhere, zeros apart, do not pass for rows.

    Args:
        path: the file, `.arrow` or `.arrows`.
        number: the segment's number.
        start: where to begin behind the schema; 0 for the first batch.
        limit: how many batches to read at most.
    """
    size = path.stat().st_size
    if not size:
        return Salvage(b"", (), 0, 0, "it is empty")
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        return _salvage(data, number, start, limit)


def _salvage(data: memoryview, number: int, start: int, limit: int | None) -> Salvage:
    size = len(data)
    begin = len(PREAMBLE) if data[: len(PREAMBLE)] == PREAMBLE else 0
    try:
        first = read_message(data, begin, "")
        if first is None or first.kind != SCHEMA:
            return Salvage(b"", (), 0, size, "it does not begin with a schema")
        head = bytes(data[first.begin : first.end])
        schema = pa.ipc.read_schema(pa.py_buffer(head))
    except (InvalidError, pa.ArrowException, OSError, ValueError) as error:
        return Salvage(b"", (), 0, size, _reason(error))
    refs: list[BatchRef] = []
    position = max(start, first.end)
    rows, problem = 0, ""
    while limit is None or len(refs) < limit:
        try:
            message = read_message(data, position, "", compressed=True)
            if message is None:
                break
            checksum, ranges, decoded = _check(data, message, schema)
        except Exception as error:  # Arrow raises at least seven kinds on broken bytes
            problem = _reason(error)
            break
        length = message.end - message.begin
        if message.rows:
            refs.append(BatchRef(number, message.begin, length, message.rows, checksum, rows, ranges, decoded))
        rows += message.rows
        position = message.end
    return Salvage(head, tuple(refs), position, size, problem)


def _check(data: memoryview, message: Message, schema: pa.Schema) -> tuple[int, tuple[ColumnRange, ...], int]:
    if message.kind != RECORD_BATCH:
        raise ValueError("what follows is no batch of rows")
    # A copy: Arrow must not hold the mapping when it is closed.
    part = memoryview(bytes(data[message.begin : message.end]))
    batch = decompress(part, schema, MAX_DECODED_BYTES)
    batch.validate(full=True)
    return xxhash.xxh3_64_intdigest(part), column_ranges(batch), decoded_bytes(part)


def _reason(error: Exception) -> str:
    return str(error).removeprefix(": ")[:200]
