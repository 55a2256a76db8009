"""The files of a table that is read where it lies: which they are, in which order, and whether they changed.

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

import xxhash

from rund_daemon.errors import InvalidError, NotFoundError, Reason
from rund_daemon.model import TableFormat

ARROW_FILE_MAGIC = b"ARROW1"
_ARROW_STREAM_MAGIC = b"\xff\xff\xff\xff"
_PARQUET_MAGIC = b"PAR1"
_CSV_SUFFIX = ".csv"
_BINARY_SUFFIXES = frozenset({".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc"})
_FACTS = struct.Struct("<qqq")


@dataclass(frozen=True, slots=True)
class DataFile:
    """A file with rows, its size in bytes and when it was last written, in nanoseconds since 1970."""

    path: Path
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


def find_files(path: Path) -> TableFiles:
    """Finds the files of the table at a path.

    Raises:
        NotFoundError: TABLE_NOT_FOUND, if nothing is there.
        InvalidError: INVALID_URL, if it is no Parquet, Arrow or CSV file and no folder of such files.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return _find_in_folder(path)
        table_format = _detect(path) if stat.S_ISREG(mode) else None
        if table_format is None:
            raise invalid_table(path, "is not a Parquet, Arrow or CSV (`.csv`) file, nor a folder of such files")
        return TableFiles(table_format, (_data_file(path),))
    except FileNotFoundError as error:
        raise missing_table(path) from error
    except (OSError, ValueError) as error:
        raise invalid_table(path, f"can't be read: {error}") from error


def missing_table(path: Path) -> NotFoundError:
    """Makes the error of a table that is not there."""
    return NotFoundError(Reason.TABLE_NOT_FOUND, f"url: there is no file or folder {path}", field="url")


def invalid_table(path: Path, message: str) -> InvalidError:
    """Makes the error of a file that can't be read as a table."""
    return InvalidError("url", f"{path} {message}", reason=Reason.INVALID_URL)


def _find_in_folder(folder: Path) -> TableFiles:
    by_format: dict[TableFormat, list[DataFile]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        if path.name.startswith((".", "_")):
            continue
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise invalid_table(folder, f"holds the folder {path.name!r}; register a folder of files alone")
        if stat.S_ISREG(mode) and (table_format := _detect(path)):
            by_format.setdefault(table_format, []).append(_data_file(path))
    if not by_format:
        raise invalid_table(folder, "holds no Parquet, Arrow or CSV file")
    if len(by_format) > 1:
        examples = " and ".join(repr(files[0].path.name) for files in by_format.values())
        raise invalid_table(folder, f"holds files of different formats, {examples}; keep one format a folder")
    ((table_format, files),) = by_format.items()
    return TableFiles(table_format, tuple(files))


def _detect(path: Path) -> TableFormat | None:
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
