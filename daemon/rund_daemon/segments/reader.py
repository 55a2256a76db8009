"""Reads committed batches of segments. Every batch is checked against its checksum: zeros are a valid batch to Arrow.

Files are read, not mapped: a read costs a copy, and no cut, no network mount and no bad disk can kill the daemon with
it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, Segment

from .compression import decompress
from .heads import read_head

# Neighbours are read together up to this much: small batches would cost a system call each.
_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A committed batch as bytes: one encapsulated record batch message of `segment`'s schema."""

    ref: BatchRef
    segment: Segment
    data: memoryview

    def decode(self) -> pa.RecordBatch:
        """Gives its rows; they share the memory of `data` if it is not compressed.

        Raises:
            CorruptError: it would become more bytes than its record says.
        """
        if self.ref.decoded_bytes:
            return decompress(self.data, read_head(self.segment.arrow_schema), self.ref.decoded_bytes)
        return pa.ipc.read_record_batch(pa.py_buffer(self.data), read_head(self.segment.arrow_schema))


class SegmentReader:
    """Reads batches of one table. Open files stay readable when they are sealed, moved or deleted meanwhile."""

    def __init__(self, folder: Path, segments: Sequence[Segment]) -> None:
        """Opens the files.

        Raises:
            FileNotFoundError: the table has been sealed or moved since its records were read; read them again.
        """
        self._segments = {segment.number: segment for segment in segments}
        self._descriptors: dict[int, int] = {}
        try:
            for segment in segments:
                path = folder / segment.file_name
                self._descriptors[segment.number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    def read(self, refs: Sequence[BatchRef]) -> Iterator[StoredBatch]:
        """Gives batches in the order asked for.

        Raises:
            CorruptError: the bytes are not those that were committed.
        """
        for group in _neighbours(refs):
            segment = self._segments[group[0].segment]
            begin = group[0].offset
            data = self._read(segment, begin, group[-1].offset + group[-1].length - begin)
            for ref in group:
                part = data[ref.offset - begin : ref.offset - begin + ref.length]
                if xxhash.xxh3_64_intdigest(part) != ref.checksum:
                    raise CorruptError(
                        f"segment {segment.file_name}: the batch at {ref.offset} (rows {ref.first_row} to "
                        f"{ref.first_row + ref.rows - 1}) does not match its checksum; restore it from a copy"
                    )
                yield StoredBatch(ref, segment, part)

    def state(self, number: int) -> os.stat_result:
        """What the file system says of a segment's file."""
        return os.fstat(self._descriptors[number])

    def close(self) -> None:
        """Closes the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _read(self, segment: Segment, offset: int, length: int) -> memoryview:
        data = os.pread(self._descriptors[segment.number], length, offset)
        while len(data) < length:
            more = os.pread(self._descriptors[segment.number], length - len(data), offset + len(data))
            if not more:
                raise CorruptError(
                    f"segment {segment.file_name} ends at {offset + len(data)}, of {segment.length} committed bytes"
                )
            data += more
        return memoryview(data)


def _neighbours(refs: Sequence[BatchRef]) -> Iterator[list[BatchRef]]:
    """Groups batches that lie one behind the other in one segment."""
    group: list[BatchRef] = []
    for ref in refs:
        if group:
            last = group[-1]
            adjacent = ref.segment == last.segment and ref.offset == last.offset + last.length
            if not adjacent or ref.offset + ref.length - group[0].offset > _READ_BYTES:
                yield group
                group = []
        group.append(ref)
    if group:
        yield group
