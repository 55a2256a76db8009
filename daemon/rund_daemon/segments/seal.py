"""Writes sealed segments: Arrow IPC files that any Arrow library reads with no daemon running.

A batch that is large and has the file's schema is copied as it lies; small ones are joined. Nothing that is written is
read again: the checksums of copied batches are known, those of joined ones are taken on their way.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa
import xxhash

from rund_daemon.failpoints import failpoint
from rund_daemon.model import BatchRef, ColumnRange

from .compression import Compression, compress
from .file_format import PREAMBLE, Block, ending
from .heads import read_head
from .messages import decoded_bytes
from .ranges import column_ranges
from .reader import StoredBatch
from .schemas import conform

# Small batches are merged until they have this many rows or bytes: large enough that their heads cost nothing, small
# enough that a reader of one column of a few rows does not pay for all.
MERGED_ROWS = 65_536
MERGED_BYTES = 4 * 1024 * 1024
LARGE_BYTES = 256 * 1024
"""A batch of this size is not joined with others: the head of one with ten columns is 0.2 % of it."""


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed segment that was written: its bytes, its rows and where its batches lie."""

    length: int
    rows: int
    batches: tuple[BatchRef, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """A batch as it goes into the file: its message, the row that it begins with and the ranges of its columns."""

    data: bytes | memoryview
    rows: int
    checksum: int
    first_row: int
    ranges: tuple[ColumnRange, ...]
    decoded_bytes: int = 0

    @classmethod
    def encode(cls, batch: pa.RecordBatch, compression: Compression, first_row: int) -> Self:
        """Makes one of rows."""
        compressed = compress(batch, compression)
        data = memoryview(batch.serialize()) if compressed is None else compressed
        decoded = 0 if compressed is None else decoded_bytes(compressed)
        checksum = xxhash.xxh3_64_intdigest(data)
        return cls(data, batch.num_rows, checksum, first_row, column_ranges(batch), decoded)

    def lies(self, segment: int, offset: int) -> BatchRef:
        """Its record, when it lies there."""
        length = len(self.data)
        return BatchRef(
            segment, offset, length, self.rows, self.checksum, self.first_row, self.ranges, self.decoded_bytes
        )


def write_sealed(
    path: Path, head: bytes, batches: Iterable[StoredBatch], number: int, compression: Compression = Compression.NONE
) -> SealedFile:
    """Writes a sealed segment, durable and whole when it has its name.

    Args:
        path: its final path, in a folder that is there.
        head: schema message; batches are made to conform to it.
        batches: the rows, in order.
        number: the segment's number.
        compression: of the bodies that shrink by it; those that are compressed already stay so.
    """
    return _write(path, head, merge(batches, read_head(head), compression), number)


def write_rows(
    path: Path, head: bytes, batches: Iterable[pa.RecordBatch], number: int, compression: Compression, first_row: int
) -> SealedFile:
    """As `write_sealed`, of rows that no segment holds yet.

    Args:
        path: as there.
        head: schema message, whose schema the batches have.
        batches: the rows, in order.
        number: the segment's number.
        compression: of the bodies that shrink by it.
        first_row: the number of the first of them in the table.
    """
    return _write(path, head, _parts(batches, compression, first_row), number)


def _parts(batches: Iterable[pa.RecordBatch], compression: Compression, first_row: int) -> Iterator[Part]:
    gathered = _Gathered(compression)
    for batch in batches:
        if not gathered.takes(batch, first_row):
            yield from gathered.take()
        gathered.add(batch, first_row)
        first_row += batch.num_rows
    yield from gathered.take()


def _write(path: Path, head: bytes, parts: Iterable[Part], number: int) -> SealedFile:
    temporary = temporary_name(path.name)
    refs: list[BatchRef] = []
    # All by the folder's descriptor: its run may be renamed or go to trash meanwhile, and no half file must stay there.
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with _File(temporary, folder, head) as file:
            refs.extend(part.lies(number, file.add(part.data)) for part in parts)
            length = file.finish()
        failpoint("seal.written")
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        failpoint("seal.renamed")
        os.fsync(folder)
    except BaseException:
        # The disk may be full: half a file must not keep it so.
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(folder)
    return SealedFile(length, sum(ref.rows for ref in refs), tuple(refs))


def temporary_name(file_name: str) -> str:
    """The name of a sealed segment until it is whole."""
    return f".{file_name}.new"


def merge(
    batches: Iterable[StoredBatch], schema: pa.Schema, compression: Compression = Compression.NONE
) -> Iterator[Part]:
    """Joins small neighbours; a batch that is large already passes as it is, or compressed if it is to be."""
    gathered = _Gathered(compression)
    for stored in batches:
        ref = stored.ref
        if ref.size >= LARGE_BYTES and _has_schema(stored, schema):
            yield from gathered.take()
            yield _large(stored, compression)
            continue
        batch = conform(stored.decode(), schema)
        if not gathered.takes(batch, ref.first_row):
            yield from gathered.take()
        gathered.add(batch, ref.first_row)
    yield from gathered.take()


class _Gathered:
    """Batches that will be one."""

    def __init__(self, compression: Compression) -> None:
        self._compression = compression
        self._batches: list[pa.RecordBatch] = []
        self._first_row = self._rows = self._size = 0

    def takes(self, batch: pa.RecordBatch, first_row: int) -> bool:
        # Where a repair has taken rows out, those behind keep their numbers.
        follows = first_row == self._first_row + self._rows
        return follows and self._rows + batch.num_rows <= MERGED_ROWS and self._size + batch.nbytes <= MERGED_BYTES

    def add(self, batch: pa.RecordBatch, first_row: int) -> None:
        if not self._batches:
            self._first_row = first_row
        self._batches.append(batch)
        self._rows += batch.num_rows
        self._size += batch.nbytes

    def take(self) -> Iterator[Part]:
        batches = self._batches
        self._batches, self._rows, self._size = [], 0, 0
        if batches:
            yield Part.encode(_joined(batches), self._compression, self._first_row)


def _large(stored: StoredBatch, compression: Compression) -> Part:
    ref = stored.ref
    if not ref.decoded_bytes and (data := compress(stored.decode(), compression)) is not None:
        checksum = xxhash.xxh3_64_intdigest(data)
        return Part(data, ref.rows, checksum, ref.first_row, ref.ranges, decoded_bytes(data))
    return Part(stored.data, ref.rows, ref.checksum, ref.first_row, ref.ranges, ref.decoded_bytes)


def _has_schema(stored: StoredBatch, schema: pa.Schema) -> bool:
    return read_head(stored.segment.arrow_schema).equals(schema)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches)  # type: ignore[attr-defined,no-any-return]  # newer than the stubs


class _File:
    """An Arrow IPC file that is being written."""

    def __init__(self, file_name: str, folder: int, head: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._descriptor = os.open(file_name, flags, 0o644, dir_fd=folder)
        self._head = head
        self._blocks: list[Block] = []
        self._length = 0

    def __enter__(self) -> Self:
        self._write(PREAMBLE)
        self._write(self._head)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def add(self, message: bytes | memoryview) -> int:
        """Puts a record batch message at the end and gives its offset."""
        offset = self._length
        self._blocks.append(Block.of(offset, message))
        self._write(message)
        return offset

    def finish(self) -> int:
        """Makes the file whole and durable, and gives its length."""
        self._write(ending(self._head, self._blocks))
        os.fsync(self._descriptor)
        return self._length

    def _write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._length += len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
