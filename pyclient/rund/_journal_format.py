"""The heads and the cut log of a journal, as docs/journal.md describes them.

Pure: it knows layouts and checksums, and nothing of files or threads. All numbers are little-endian. The
records are in ``_journal_records``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from zlib import crc32

VERSION = 1

HEAD_MAGIC = b"RUNDJRNH"
HEAD_BYTES = 32 * 1024
WRITER_OFFSET = 8 * 1024
"""Two words that the writer keeps: whether it has closed the journal, and how many rows it has dropped."""
CURSOR_OFFSET = 12 * 1024
"""Two slots, used in turn, with the last cut that was acknowledged."""
CUTS_OFFSET = 16 * 1024
CUT_SLOTS = 256
SLOT_BYTES = 64

DATA_MAGIC = b"RUNDJRND"
DATA_HEAD_BYTES = 128

FLAG_SENDER = 1
"""The writing process sends the rows itself."""
FLAG_LOCKS = 2
"""The writing process holds the byte locks; without them its pid and start time say whether it lives."""

_HEAD = struct.Struct("<8sHHIqqqiI")
_DATA_HEAD = struct.Struct("<8sHHIQQH78s")
_SLOT = struct.Struct("<QQQQ")
_CRC = struct.Struct("<I")
_LENGTH = struct.Struct("<H")
_TEXTS_OFFSET = _HEAD.size + 8


class JournalFormatError(ValueError):
    """Bytes that are no journal, or one of a version that this code does not know."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes a journal, for which run.

    Attributes:
        writer_id: UUID of the writing process; the files are named after it.
        stream_id: The write stream that the rows belong to.
        run: Resource name of the run when the journal was made.
        run_uid: The run's uid, which outlives a rename; empty when the writer did not know it.
        root: Path of the daemon's root.
        host: Name of the writer's host.
        boot_id: The host's boot id, or empty.
        parent_writer_id: In a forked child, the writer it was forked from; else empty.
        pid: The writer's process id.
        start_ticks: When that process started, in clock ticks since boot.
        created: When the journal was made, in nanoseconds since 1970 UTC.
        rank: Rank of the process.
        flags: ``FLAG_SENDER`` and ``FLAG_LOCKS``.
    """

    writer_id: str
    stream_id: str
    run: str
    run_uid: str
    root: str
    host: str
    boot_id: str
    parent_writer_id: str
    pid: int
    start_ticks: int
    created: int
    rank: int
    flags: int

    def texts(self) -> tuple[str, ...]:
        """Its texts, in the order of the file."""
        names = (self.writer_id, self.stream_id, self.run, self.run_uid)
        return (*names, self.root, self.host, self.boot_id, self.parent_writer_id)


@dataclass(frozen=True, slots=True)
class Cut:
    """One batch of the stream: which rows of the journal it holds, for ever.

    Attributes:
        sequence: The batch's sequence, from 1.
        begin: Position of its first record.
        end: Position after its last record.
        rows: Rows from the journal's begin up to ``end``.
    """

    sequence: int
    begin: int
    end: int
    rows: int


NO_CUT = Cut(0, 0, 0, 0)


def pack_head(identity: Identity) -> bytes:
    """The fixed part of a head file.

    Raises:
        JournalFormatError: The names in it are too long.
    """
    who = identity
    texts = b"".join(_pack_text(text) for text in who.texts())
    numbers = (who.flags, who.pid, who.start_ticks, who.created, who.rank)
    fixed = _HEAD.pack(HEAD_MAGIC, VERSION, 0, *numbers, len(texts))
    head = fixed + _CRC.pack(crc32(texts, crc32(fixed))) + bytes(4) + texts
    if len(head) > WRITER_OFFSET:
        raise JournalFormatError(f"the journal's head has {len(head)} bytes and holds {WRITER_OFFSET}")
    return head


def unpack_head(data: bytes) -> Identity:
    """Reads what ``pack_head`` made.

    Raises:
        JournalFormatError: It is no head, of another version, or damaged.
    """
    _check_magic(data, HEAD_MAGIC, HEAD_BYTES)
    _, _, _, flags, pid, start_ticks, created, rank, length = _HEAD.unpack_from(data)
    texts = data[_TEXTS_OFFSET : _TEXTS_OFFSET + length]
    if crc32(texts, crc32(data[: _HEAD.size])) != _CRC.unpack_from(data, _HEAD.size)[0]:
        raise JournalFormatError("the checksum of the journal's head does not fit")
    writer, stream, run, run_uid, root, host, boot_id, parent = _unpack_texts(texts, 8)
    names = (writer, stream, run, run_uid, root, host, boot_id, parent)
    return Identity(*names, pid, start_ticks, created, rank, flags)


def pack_data_head(writer_id: str, number: int, base: int) -> bytes:
    """The head of a data file: which file of which writer it is, and the position of its first record."""
    name = writer_id.encode()
    fixed = _DATA_HEAD.pack(DATA_MAGIC, VERSION, 0, 0, base, number, len(name), name)
    return fixed + bytes(DATA_HEAD_BYTES - _CRC.size - len(fixed)) + _CRC.pack(crc32(fixed))


def unpack_data_head(data: bytes) -> tuple[str, int, int]:
    """Gives writer id, number and base of a data file.

    Raises:
        JournalFormatError: It is no data file, of another version, or damaged.
    """
    _check_magic(data, DATA_MAGIC, DATA_HEAD_BYTES)
    fixed, stored = data[: _DATA_HEAD.size], _CRC.unpack_from(data, DATA_HEAD_BYTES - _CRC.size)[0]
    if crc32(fixed) != stored:
        raise JournalFormatError("the checksum of the file's head does not fit")
    _, _, _, _, base, number, length, name = _DATA_HEAD.unpack(fixed)
    return name[:length].decode(), number, base


def pack_cut(cut: Cut) -> bytes:
    """A slot of the cut log or of the cursor."""
    entry = _SLOT.pack(cut.sequence, cut.begin, cut.end, cut.rows)
    return (entry + _CRC.pack(crc32(entry))).ljust(SLOT_BYTES, b"\0")


def unpack_cut(data: bytes) -> Cut | None:
    """Reads a slot; None when nothing whole stands in it."""
    entry, stored = data[: _SLOT.size], _CRC.unpack_from(data, _SLOT.size)[0]
    return Cut(*_SLOT.unpack(entry)) if crc32(entry) == stored else None


def _check_magic(data: bytes, magic: bytes, size: int) -> None:
    if len(data) < size or data[:8] != magic:
        raise JournalFormatError("the file does not begin as a journal does")
    version = _LENGTH.unpack_from(data, 8)[0]
    if version != VERSION:
        raise JournalFormatError(f"the journal has version {version}; this code reads version {VERSION}")


def _pack_text(text: str) -> bytes:
    data = text.encode()
    return _LENGTH.pack(len(data)) + data


def _unpack_texts(data: bytes, count: int) -> list[str]:
    texts, at = list[str](), 0
    for _ in range(count):
        length = _LENGTH.unpack_from(data, at)[0]
        at += _LENGTH.size + length
        texts.append(data[at - length : at].decode())
    return texts
