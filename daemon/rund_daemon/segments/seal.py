"""Writes sealed segments: Arrow IPC files that any Arrow library reads with no daemon running."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from rund_daemon.failpoints import failpoint
from rund_daemon.model import BatchRef

from .heads import read_head
from .layout import sync_folder
from .messages import RECORD_BATCH, read_messages
from .schemas import conform

# Small batches are merged until they have this many rows or bytes: large enough that their heads cost nothing, small
# enough that a reader of one column of a few rows does not pay for all.
MERGED_ROWS = 65_536
MERGED_BYTES = 4 * 1024 * 1024

# "ARROW1" and two bytes of padding.
_MAGIC_BYTES = 8


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A sealed segment that was written: its bytes, its rows and where its batches lie."""

    length: int
    rows: int
    batches: tuple[BatchRef, ...]


def write_sealed(path: Path, head: bytes, batches: Iterable[pa.RecordBatch], number: int, first_row: int) -> SealedFile:
    """Writes a sealed segment, durable and whole when it has its name.

    Args:
        path: its final path, in a folder that is there.
        head: schema message; batches are made to conform to it.
        batches: the rows, in order.
        number: the segment's number.
        first_row: number of the first row in the table.
    """
    temporary = path.with_name(f".{path.name}.new")
    schema = read_head(head)
    try:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in merge(batches, schema):
                writer.write_batch(batch)
        refs = tuple(_refs(temporary, number, first_row))
        length = _sync(temporary)
        failpoint("seal.written")
        temporary.rename(path)
        failpoint("seal.renamed")
    except BaseException:
        # The disk may be full: half a file must not keep it so.
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return SealedFile(length, sum(ref.rows for ref in refs), refs)


def merge(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Joins small neighbours; a batch that is large already passes as it is."""
    gathered: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        conformed = conform(batch, schema)
        if gathered and (rows + batch.num_rows > MERGED_ROWS or size + conformed.nbytes > MERGED_BYTES):
            yield _joined(gathered)
            gathered, rows, size = [], 0, 0
        gathered.append(conformed)
        rows += batch.num_rows
        size += conformed.nbytes
    if gathered:
        yield _joined(gathered)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(batches) == 1:
        return batches[0]
    return pa.concat_batches(batches)  # type: ignore[attr-defined,no-any-return]  # newer than the stubs


def _refs(path: Path, number: int, first_row: int) -> Iterator[BatchRef]:
    """Finds the batches of a file that was just written: behind its magic it is a stream."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as whole,
        whole[_MAGIC_BYTES:] as stream,
    ):
        for message in read_messages(stream, str(path)):
            if message.kind != RECORD_BATCH:
                continue
            with stream[message.begin : message.end] as data:
                checksum = xxhash.xxh3_64_intdigest(data)
            length, offset = message.end - message.begin, _MAGIC_BYTES + message.begin
            yield BatchRef(number, offset, length, message.rows, checksum, first_row)
            first_row += message.rows


def _sync(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        return os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)
