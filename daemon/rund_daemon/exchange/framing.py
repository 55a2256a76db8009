"""The two ways in which other tools put records into a file, read as far as they are sound.

TensorBoard writes TFRecords: length, checksum of the length, data, checksum of the data. W&B writes the log format of
LevelDB behind a head of 7 bytes: blocks of 32 KiB, with records that may span several of them.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .foreign import SourceError

MAX_RECORD_BYTES = 1 << 30

_MASK_DELTA = 0xA282EAD8
_BLOCK = 32_768
_LEVEL_HEAD = struct.Struct("<IHB")
_WANDB_HEAD = struct.Struct("<4sHB")
_WANDB_IDENT, _WANDB_MAGIC = b":W&B", 0xBEE1
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class DamageError(Exception):
    """What comes next in a file is no record. `torn`: the file ends in the middle of one, as that of a live writer."""

    def __init__(self, message: str, *, torn: bool) -> None:
        super().__init__(message)
        self.torn = torn


@dataclass(frozen=True, slots=True)
class Record:
    """A record, and the offset in the file behind it."""

    data: bytes
    end: int


def masked(checksum: int) -> int:
    """A checksum as TFRecords keep it."""
    return (((checksum >> 15) | (checksum << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def tf_records(file: BinaryIO, start: int, crc32c: Callable[[bytes], int]) -> Iterator[Record]:
    """Gives the records of a TFRecord file from an offset on.

    Raises:
        DamageError: what comes next is no record; those before it were given.
    """
    file.seek(start)
    end = start
    while head := file.read(12):
        if len(head) < 12:
            raise DamageError(f"it ends in the middle of a record at byte {end}", torn=True)
        length, checksum = struct.unpack("<QI", head)
        if masked(crc32c(head[:8])) != checksum or length > MAX_RECORD_BYTES:
            raise DamageError(f"there is no record at byte {end}, where one should begin", torn=not any(head))
        data, tail = file.read(length), file.read(4)
        if len(tail) < 4:
            raise DamageError(f"it ends in the middle of a record at byte {end}", torn=True)
        if masked(crc32c(data)) != int.from_bytes(tail, "little"):
            raise DamageError(f"the record at byte {end} has a wrong checksum", torn=False)
        end += length + 16
        yield Record(data, end)


def tf_record(data: bytes, crc32c: Callable[[bytes], int]) -> bytes:
    """One record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", masked(crc32c(part))) for part in (length, data))
    return length + next(checksums) + data + next(checksums)


def wandb_records(file: BinaryIO) -> Iterator[Record]:
    """Gives the records of a `.wandb` file.

    Raises:
        SourceError: it is no such file.
        DamageError: what comes next is no record; those before it were given.
    """
    head = file.read(_WANDB_HEAD.size)
    if len(head) < _WANDB_HEAD.size:
        raise DamageError("it ends in its head", torn=True)
    ident, magic, _ = _WANDB_HEAD.unpack(head)
    if (ident, magic) != (_WANDB_IDENT, _WANDB_MAGIC):
        raise SourceError(f"{getattr(file, 'name', 'the file')} is no .wandb file: it begins with {head.hex()}")
    parts: list[bytes] = []
    end = len(head)
    while True:
        if (room := _BLOCK - end % _BLOCK) < _LEVEL_HEAD.size:
            file.read(room)
            end += room
        piece = _piece(file, end)
        if piece is None:
            if parts:
                raise DamageError(f"it ends in the middle of a record at byte {end}", torn=True)
            return
        kind, data = piece
        end += _LEVEL_HEAD.size + len(data)
        if (kind in (_FULL, _FIRST)) == bool(parts):
            raise DamageError(f"a piece of a record is missing before byte {end}", torn=False)
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield Record(b"".join(parts), end)
            parts.clear()


def _piece(file: BinaryIO, begin: int) -> tuple[int, bytes] | None:
    head = file.read(_LEVEL_HEAD.size)
    if not head:
        return None
    if len(head) < _LEVEL_HEAD.size:
        raise DamageError(f"it ends in the middle of a record at byte {begin}", torn=True)
    checksum, length, kind = _LEVEL_HEAD.unpack(head)
    data = file.read(length)
    if len(data) < length or not any(head):
        raise DamageError(f"it ends in the middle of a record at byte {begin}", torn=True)
    if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or zlib.crc32(data, zlib.crc32(head[6:])) != checksum:
        raise DamageError(f"the record at byte {begin} is damaged", torn=False)
    return kind, data
