"""Reads the journal that another process left behind, up to where it is whole.

Every record's checksum is checked. What comes after the first record that is not whole is not looked at, and the
report says where that is and why. Nothing is changed on disk.
"""

from __future__ import annotations

import contextlib
import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from ._journal_files import DataFile
from ._journal_format import (
    CURSOR_OFFSET,
    CUT_SLOTS,
    CUTS_OFFSET,
    DATA_HEAD_BYTES,
    NO_CUT,
    SLOT_BYTES,
    WRITER_OFFSET,
    Cut,
    Identity,
    JournalFormatError,
    unpack_cut,
    unpack_data_head,
    unpack_head,
)
from ._journal_records import (
    CODE_END,
    CODE_SHAPE,
    CODE_VOID,
    FIRST_SHAPE_CODE,
    MAX_RECORD_BYTES,
    WORD,
    low_seed,
    unpack_shape,
)


@dataclass(frozen=True, slots=True)
class Problem:
    """Where a journal ends before its time.

    Attributes:
        path: The file.
        offset: The first byte in it that was not read.
        message: Why, for people.
    """

    path: Path
    offset: int
    message: str


@dataclass(frozen=True, slots=True)
class LeftJournal:
    """What a journal holds.

    Attributes:
        identity: Who wrote it.
        cursor: The last batch that was acknowledged.
        cuts: The batches that may have been sent since, in order and without a gap.
        closed: Whether the writer said that it was done.
        dropped_rows: Rows that the writer had no room for.
        files: Its data files, each with ``tail`` at the end of what is whole; ``JournalReader`` reads them.
        problems: What was found besides; none after a SIGKILL of the writer.
        passed: Data files before those, of which nothing is needed any more.
    """

    identity: Identity
    cursor: Cut
    cuts: tuple[Cut, ...]
    closed: bool
    dropped_rows: int
    files: list[DataFile]
    problems: list[Problem]
    passed: tuple[Path, ...]


def read_left_journal(path: Path) -> LeftJournal:
    """Reads a journal by its head file.

    Raises:
        OSError: The head can't be read.
        JournalFormatError: The head is none, of another version, or damaged.
    """
    return parse_left_journal(path.read_bytes(), path.parent)


def parse_left_journal(head: bytes, directory: Path, held: int = 0) -> LeftJournal:
    """Reads a journal by the bytes of its head, for whoever has it open already: see the trap of its locks.

    Args:
        head: The head.
        directory: Its folder.
        held: Position up to which the daemon holds the rows. What a loss of power has taken before it is not missed.

    Raises:
        OSError: A data file can't be read.
        JournalFormatError: The head is none, of another version, or damaged.
    """
    identity = unpack_head(head)
    closed, dropped = struct.unpack_from("<QQ", head, WRITER_OFFSET)
    cursor = read_cursor(head)
    problems: list[Problem] = []
    paths = data_paths(directory, identity.writer_id)
    begin = _first_needed(paths, identity.writer_id, held)
    files = list(_read_files(paths[begin:], identity.writer_id, held, problems))
    cuts, passed = read_cuts(head, cursor), tuple(paths[:begin])
    return LeftJournal(identity, cursor, cuts, closed != 0, dropped, files, problems, passed)


def left_journals(directory: Path) -> Iterator[Path]:
    """The head files in a folder."""
    for path in sorted(directory.glob("*.journal")):
        if "." not in path.stem:
            yield path


def read_cursor(head: bytes) -> Cut:
    """The last batch that the head knows to be acknowledged."""
    slots = (unpack_cut(head[CURSOR_OFFSET + n * SLOT_BYTES :][:SLOT_BYTES]) for n in range(2))
    return max((cut for cut in slots if cut is not None), key=lambda cut: cut.sequence, default=NO_CUT)


def read_cuts(head: bytes, cursor: Cut) -> tuple[Cut, ...]:
    """The batches that may have been sent after the cursor's, in order and without a gap."""
    cuts, last = list[Cut](), cursor
    while len(cuts) < CUT_SLOTS:
        slot = CUTS_OFFSET + (last.sequence + 1) % CUT_SLOTS * SLOT_BYTES
        cut = unpack_cut(head[slot : slot + SLOT_BYTES])
        if cut is None or cut.sequence != last.sequence + 1 or cut.begin != last.end:
            break
        cuts.append(cut)
        last = cut
    return tuple(cuts)


def _first_needed(paths: list[Path], writer_id: str, held: int) -> int:
    """The place of the last file that begins no later than a position."""
    for place in range(len(paths) - 1, 0, -1):
        with contextlib.suppress(JournalFormatError), paths[place].open("rb") as file:
            writer, _, base = unpack_data_head(file.read(DATA_HEAD_BYTES))
            if writer == writer_id and base <= held:
                return place
    return 0


def _read_files(paths: list[Path], writer_id: str, held: int, problems: list[Problem]) -> Iterator[DataFile]:
    last: DataFile | None = None
    for path in paths:
        try:
            file = _open(path, writer_id)
            if file is None:
                return
        except JournalFormatError as error:
            problems.append(Problem(path, 0, str(error)))
            return
        if last is not None and not (last.finished and _follows(file, last)):
            problems.append(Problem(path, 0, f"it does not go on where {last.path.name} ends"))
            return
        _find_end(file, held, problems)
        last = file
        yield file


def data_paths(directory: Path, writer_id: str) -> list[Path]:
    """The data files of a writer, in order, with one that it was still making."""
    numbered = [(path.stem.rpartition(".")[2], path) for path in directory.glob(f"{writer_id}.*.journal")]
    return [path for _, path in sorted((int(number), path) for number, path in numbered if number.isdecimal())]


def _open(path: Path, writer_id: str) -> DataFile | None:
    """The file; None if the writer was still making it."""
    with path.open("rb") as file:
        size = path.stat().st_size // WORD * WORD
        if not file.read().strip(b"\0"):
            return None
        if size < DATA_HEAD_BYTES:
            raise JournalFormatError(f"the file has {size} bytes, too few for its head")
        memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    writer, number, base = unpack_data_head(memory[:DATA_HEAD_BYTES])
    if writer != writer_id:
        raise JournalFormatError(f"the file belongs to writer {writer}")
    return DataFile(path, number, base, memory)


def _follows(file: DataFile, last: DataFile) -> bool:
    return file.number == last.number + 1 and file.base == last.position(last.tail)


def _find_end(file: DataFile, held: int, problems: list[Problem]) -> None:
    """Sets ``tail`` and ``finished``."""
    row_bytes: dict[int, int] = {}
    needed = min(file.size, held - file.base + DATA_HEAD_BYTES)
    offset, problem = _walk(file, DATA_HEAD_BYTES, row_bytes)
    if offset < needed and not file.finished:
        _cover(file, offset, needed)
        offset, problem = (needed, "") if needed == file.size else _walk(file, needed, row_bytes)
    file.tail = file.claimed = offset
    if problem:
        problems.append(Problem(file.path, offset, problem))


def _cover(file: DataFile, begin: int, end: int) -> None:
    """Has readers pass over records that the daemon holds and that are not whole here. The file stays as it is."""
    for place in range(begin, end, MAX_RECORD_BYTES):
        file.void(place, min(place + MAX_RECORD_BYTES, end))


def _walk(file: DataFile, offset: int, row_bytes: dict[int, int]) -> tuple[int, str]:
    """Gives the end of the whole records from an offset on, and what is wrong there. Sets ``finished``."""
    problem = ""
    while offset < file.size and not file.finished and not problem:
        word = file.words[offset >> 3]
        if word == 0:
            problem = _look_behind(file, offset, row_bytes)
            break
        size, code = (word & 0xFFFF) * WORD, word >> 16 & 0xFFFF
        problem = _check_record(file, offset, word, row_bytes)
        if not problem:
            file.finished = code == CODE_END
            offset += size
    if offset >= file.size and not (file.finished or problem):
        problem = "the file is cut off"
    return offset, problem


def _check_record(file: DataFile, offset: int, word: int, row_bytes: dict[int, int]) -> str:
    """What is wrong with a record, or nothing. Learns the shapes."""
    low = word & 0xFFFFFFFF
    size, code = (low & 0xFFFF) * WORD, low >> 16
    if size == 0 or offset + size > file.size:
        return f"a record claims {size} bytes"
    body = b"" if code == CODE_VOID else file.memory[offset + WORD : offset + size]
    if crc32(body, low_seed(low)) != word >> 32:
        return "the checksum of a record does not fit"
    if code == CODE_SHAPE:
        try:
            shape = unpack_shape(bytes(body))
        except JournalFormatError as error:
            return str(error)
        row_bytes[shape.code] = shape.row_bytes()
    elif code >= FIRST_SHAPE_CODE and row_bytes.get(code) != size:
        return f"a row of {size} bytes has shape {code}, which was not declared so"
    elif CODE_VOID < code < FIRST_SHAPE_CODE:
        return f"a record has code {code}, which this version does not know"
    return ""


def _look_behind(file: DataFile, offset: int, row_bytes: dict[int, int]) -> str:
    """What is wrong where the records end, or nothing.

    The body of a record that was being written may stand there, in any state: copying does not go from front to back.
    Whole records must not: what stood before them was lost.
    """
    used = len(bytes(file.memory[offset:]).rstrip(b"\0"))
    if used > MAX_RECORD_BYTES:
        return f"{used} bytes follow where the records end"
    for place in range(offset + WORD, offset + used, WORD):
        word = file.words[place >> 3]
        if word and not _check_record(file, place, word, row_bytes):
            return f"whole records follow {place - offset} bytes after the end"
    return ""
