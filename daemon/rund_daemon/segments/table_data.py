"""Writes the rows of an input table, and checks them: one sealed Arrow file in a folder of its own."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import xxhash

from rund_daemon.errors import CorruptError

from .checked_segments import FileState
from .layout import TABLE_DATA, make_durable_folder, sync_folder

_PREAMBLE_BYTES = 8  # "ARROW1" and two zeros; a schema message follows


@dataclass(frozen=True, slots=True)
class TableData:
    """What was written. `content_hash` is the same for the same rows in the same batches."""

    row_count: int
    file_size: int
    content_hash: bytes


@dataclass(frozen=True, slots=True)
class StoredPlace:
    """Where a record batch message lies in the file, and how many rows it has."""

    offset: int
    length: int
    rows: int


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file that was found whole, and its batches in order."""

    state: FileState
    batches: tuple[StoredPlace, ...]


class CheckedFiles:
    """Files of input tables that were found whole, so that each is checked once, and again if it has changed."""

    def __init__(self) -> None:
        self._whole: dict[Path, CheckedFile] = {}

    def check(self, path: Path, content_hash: bytes) -> CheckedFile:
        """Checks a file before rows of it are given away, and says what lies in it.

        The whole file is read: Arrow would give zeros for rows that have become zeros.

        Raises:
            CorruptError: it is gone, can't be read, or does not have the content that was written.
        """
        try:
            found = path.stat()
            state = FileState(found.st_ino, found.st_size, found.st_mtime_ns)
            known = self._whole.get(path)
            if known is not None and known.state == state:
                return known
            digest, batches = _content_of(path)
        except Exception as error:  # Arrow raises at least seven kinds on broken files
            raise CorruptError(f"{path} can't be read: {str(error)[:200]}; restore it from a copy") from error
        if digest != content_hash:
            raise CorruptError(f"the rows of {path} do not match their checksum; restore it from a copy")
        self._whole[path] = CheckedFile(state, batches)
        return self._whole[path]


def content_hash_of(path: Path) -> bytes:
    """The content hash of a table that was written, read from its file again."""
    return _content_of(path)[0]


def _content_of(path: Path) -> tuple[bytes, tuple[StoredPlace, ...]]:
    with pa.OSFile(str(path), "rb") as source:
        with pa.ipc.open_file(source) as reader:
            schema, count = reader.schema, reader.num_record_batches
        digest = _hash_of_schema(schema)
        source.seek(_PREAMBLE_BYTES)
        pa.ipc.read_message(source)  # the schema's
        places = []
        for _ in range(count):
            offset = source.tell()
            batch = pa.ipc.read_record_batch(pa.ipc.read_message(source), schema)
            batch.validate(full=True)
            digest.update(memoryview(batch.serialize()))
            places.append(StoredPlace(offset, source.tell() - offset, batch.num_rows))
    return digest.digest(), tuple(places)


def _hash_of_schema(schema: pa.Schema) -> xxhash.xxh3_128:
    return xxhash.xxh3_128(schema.remove_metadata().serialize().to_pybytes())


class TableDataWriter:
    """Writes a table into a staging folder; nobody sees it until the folder is moved."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        make_durable_folder(folder)
        self._path = folder / TABLE_DATA
        self._sink = pa.OSFile(str(self._path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
        self._hash = _hash_of_schema(schema)
        self._rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Writes a batch."""
        self._writer.write_batch(batch)
        self._hash.update(memoryview(batch.serialize()))
        self._rows += batch.num_rows

    def finish(self) -> TableData:
        """Makes the table durable and says what it is."""
        self._writer.close()
        self._sink.close()
        descriptor = os.open(self._path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            size = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        sync_folder(self._path.parent)
        return TableData(self._rows, size, self._hash.digest())

    def abort(self) -> None:
        """Removes what was written."""
        with suppress(OSError):  # on a full disk it can't write its last bytes
            self._sink.close()
        shutil.rmtree(self._path.parent, ignore_errors=True)
