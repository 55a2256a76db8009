"""The files of a table that is read where it lies: which they are, in which order, and whether they changed.

It lies on a file system or in an object store.

A table is one file, or a folder of files of one format. The files of a folder are ordered by name, character
by character (`part-10` before `part-2`), as pyarrow, Polars and DuckDB order them: an `example_id` then means
the same row in every tool. Left out are hidden files, names that begin with `_`, and files of other kinds,
such as a README. A folder in the folder is refused, because leaving out its rows would go unnoticed.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import xxhash
from pyarrow import fs

from rund_daemon.errors import InvalidError, NotFoundError, Reason
from rund_daemon.model import TableFormat
from rund_daemon.segments.object_stores import ObjectPath

Place: TypeAlias = Path | ObjectPath

ARROW_FILE_MAGIC = b"ARROW1"
_ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
_PARQUET_MAGIC = b"PAR1"
_CSV_SUFFIX = ".csv"
_BINARY_SUFFIXES = frozenset({".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc"})
_FACTS = struct.Struct("<qqq")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with rows, its size in bytes and when it was last written, in nanoseconds since 1970."""

    path: Place
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of a table, in the order of their rows."""

    format: TableFormat
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def content_hash(self) -> bytes:
        """xxh3-128 over the files' names, sizes and times: changes when a file is written."""
        digest = xxhash.xxh3_128()
        for file in self.files:
            name = file.path.name.encode(errors="surrogateescape")
            digest.update(_FACTS.pack(len(name), file.size, file.mtime_ns))
            digest.update(name)
        return digest.digest()


def find_files(place: Place) -> TableFiles:
    """Finds the files of the table at a place.

    Raises:
        NotFoundError: TABLE_NOT_FOUND, if nothing is there.
        InvalidError: INVALID_URL, if it is no Parquet, Arrow or CSV file and no folder of such files.
    """
    try:
        files, is_folder = _files_at(place)
        if is_folder:
            return _of_one_format(place, files)
        table_format = _detect(place) if files else None
        if table_format is None:
            raise invalid_table(place, "is not a Parquet, Arrow or CSV (`.csv`) file, nor a folder of such files")
        return TableFiles(table_format, tuple(files))
    except FileNotFoundError as error:
        raise missing_table(place) from error
    except (OSError, ValueError) as error:
        raise invalid_table(place, f"can't be read: {error}") from error


def missing_table(path: Place) -> NotFoundError:
    """Makes the error of a table that is not there."""
    return NotFoundError(Reason.TABLE_NOT_FOUND, f"url: there is no file or folder {path}", field="url")


def invalid_table(path: Place, message: str) -> InvalidError:
    """Makes the error of a file that can't be read as a table."""
    return InvalidError("url", f"{path} {message}", reason=Reason.INVALID_URL)


def _files_at(place: Place) -> tuple[list[DataFile], bool]:
    """The file at a place, or those in the folder there, with word of which it is."""
    if isinstance(place, ObjectPath):
        return _objects_at(place)
    mode = place.stat().st_mode
    if not stat.S_ISDIR(mode):
        return ([_data_file(place)] if stat.S_ISREG(mode) else []), False
    paths = [path for path in place.iterdir() if not path.name.startswith((".", "_"))]
    modes = {path: path.stat().st_mode for path in paths}
    for path, mode in modes.items():
        if stat.S_ISDIR(mode):
            raise _nested(place, path.name)
    return [_data_file(path) for path, mode in modes.items() if stat.S_ISREG(mode)], True


def _objects_at(place: ObjectPath) -> tuple[list[DataFile], bool]:
    info = place.info()
    if info.type == fs.FileType.NotFound:
        raise missing_table(place)
    if info.type == fs.FileType.File:
        return [DataFile(place, info.size, info.mtime_ns or 0)], False
    entries = [entry for entry in place.entries() if not entry.base_name.startswith((".", "_"))]
    for entry in entries:
        if entry.type == fs.FileType.Directory:
            raise _nested(place, entry.base_name)
    return [DataFile(place.entry(entry.base_name), entry.size, entry.mtime_ns or 0) for entry in entries], True


def _nested(folder: Place, name: str) -> InvalidError:
    return invalid_table(folder, f"holds the folder {name!r}; register a folder of files alone")


def _of_one_format(folder: Place, files: list[DataFile]) -> TableFiles:
    by_format: dict[TableFormat, list[DataFile]] = {}
    for file in sorted(files, key=lambda file: file.path.name):
        if table_format := _detect(file.path):
            by_format.setdefault(table_format, []).append(file)
    if not by_format:
        raise invalid_table(folder, "holds no Parquet, Arrow or CSV file")
    if len(by_format) > 1:
        examples = " and ".join(repr(files[0].path.name) for files in by_format.values())
        raise invalid_table(folder, f"holds files of different formats, {examples}; keep one format a folder")
    ((table_format, found),) = by_format.items()
    return TableFiles(table_format, tuple(found))


def _detect(path: Place) -> TableFormat | None:
    """Tells the format of a file by its first bytes, of CSV by its name; None if it is of no known kind."""
    suffix = path.suffix.lower()
    if suffix == _CSV_SUFFIX:
        return TableFormat.CSV
    with path.open("rb") as file:
        head = file.read(len(ARROW_FILE_MAGIC))
    if head.startswith(_PARQUET_MAGIC):
        return TableFormat.PARQUET
    if head == ARROW_FILE_MAGIC or head.startswith(_ARROW_STREAM_MAGIC):
        return TableFormat.ARROW
    if suffix in _BINARY_SUFFIXES:
        raise invalid_table(path, "is named like a Parquet or Arrow file but does not begin like one")
    return None


def _data_file(path: Path) -> DataFile:
    status = path.stat()
    return DataFile(path, status.st_size, status.st_mtime_ns)
