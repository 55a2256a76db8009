"""Rows of a daemon's sealed files, mapped into memory: they are neither sent nor copied.

A sealed file never changes. It may be gone when it is to be opened, because it was joined with others or because its
run was renamed or removed; once it is mapped it stays readable even then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

_PREAMBLE_BYTES = 8  # "ARROW1" and two zeros; a schema message follows


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Rows of a record batch message that lies in a file.

    Attributes:
        offset: Where the message begins.
        length: Its bytes.
        skipped_rows: How many of its first rows are not wanted.
        row_count: How many of the rows behind those are.
    """

    offset: int
    length: int
    skipped_rows: int
    row_count: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that a daemon has named.

    Attributes:
        path: Where the daemon sees it.
        inode: Its inode. What differs in this, in size or in time is another file.
        size: Its bytes.
        modify_time_ns: When its content last changed, in nanoseconds since 1970.
        batches: What is to be read of it, in order.
    """

    path: str
    inode: int
    size: int
    modify_time_ns: int
    batches: tuple[StoredBatch, ...]


class StoredFileGoneError(Exception):
    """The file is not there, or is not to be found from here, or can't be read: the daemon knows more."""


def map_rows(files: Sequence[StoredFile]) -> list[pa.RecordBatch]:
    """The rows of files; all are open when this returns. Only bodies that are compressed take memory.

    Raises:
        StoredFileGoneError: One of them can't be read here.
    """
    try:
        return [batch for file in files for batch in _map(file)]
    except (OSError, ValueError, pa.ArrowException) as error:
        raise StoredFileGoneError(str(error)) from error


def _map(file: StoredFile) -> list[pa.RecordBatch]:
    # A buffer keeps the mapping; the file need not stay open for it.
    with pa.memory_map(file.path) as source:
        content = source.read_buffer()
    found = Path(file.path).stat()
    if (found.st_ino, found.st_size, found.st_mtime_ns) != (file.inode, file.size, file.modify_time_ns):
        raise FileNotFoundError(f"{file.path} is another file than the daemon's")
    schema = pa.ipc.read_schema(content.slice(_PREAMBLE_BYTES))
    return [
        pa.ipc.read_record_batch(content.slice(batch.offset, batch.length), schema).slice(
            batch.skipped_rows, batch.row_count
        )
        for batch in file.batches
    ]
