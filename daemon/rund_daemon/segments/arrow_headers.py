"""How many rows the batches of an Arrow file or stream have, read from their headers alone.

pyarrow tells a batch's rows only when it has read its body, which of a file of embeddings is nearly all. The
few fields needed are taken from the flatbuffers here; a broken offset ends in struct.error or IndexError.
Format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass

RECORD_BATCH = 3

_CONTINUATION = 0xFFFFFFFF
_PREFIX = struct.Struct("<II")
_FOOTER_TAIL = struct.Struct("<i6s")
_BLOCK = struct.Struct("<qi4xq")
# Numbers of the fields in File.fbs and Message.fbs.
_FOOTER_BATCHES = 3
_MESSAGE_KIND, _MESSAGE_HEADER, _MESSAGE_BODY_LENGTH = 1, 2, 3
_BATCH_ROWS = 0


@dataclass(frozen=True, slots=True)
class Header:
    """A message of a stream: its place in the file, its kind and, of a record batch, its rows."""

    offset: int
    length: int
    kind: int
    rows: int


def file_batch_rows(file: io.BufferedReader) -> list[int]:
    """Gives the rows of each batch of a file in the Arrow file format.

    Raises:
        ValueError: if the file is broken.
    """
    size = _size(file)
    footer_length, _ = _FOOTER_TAIL.unpack(_read(file, size - _FOOTER_TAIL.size, _FOOTER_TAIL.size))
    footer = _read(file, size - _FOOTER_TAIL.size - footer_length, footer_length)
    vector = _follow(footer, _field(footer, _follow(footer, 0), _FOOTER_BATCHES))
    if vector is None:
        return []
    count = _unpack("<I", footer, vector)
    blocks = [_BLOCK.unpack_from(footer, vector + 4 + _BLOCK.size * number) for number in range(count)]
    return [_parse(_read(file, offset, length)).rows for offset, length, _ in blocks]


def stream_headers(file: io.BufferedReader) -> Iterator[Header]:
    """Gives the messages of a file in the Arrow stream format, up to its end mark or its end.

    Raises:
        ValueError: if the file is broken.
    """
    size = _size(file)
    offset = 0
    while offset < size:
        first, second = _PREFIX.unpack(_read(file, offset, _PREFIX.size))
        prefix, length = (8, second) if first == _CONTINUATION else (4, first)
        if length == 0:
            return
        message = _parse(_read(file, offset, prefix + length))
        end = offset + prefix + length + message.body_length
        if message.body_length < 0 or end > size:
            raise ValueError("it ends in the middle of a batch")
        yield Header(offset, end - offset, message.kind, message.rows)
        offset = end


@dataclass(frozen=True, slots=True)
class _Message:
    kind: int
    rows: int
    body_length: int


def _parse(data: bytes) -> _Message:
    """Parses a message's metadata with its prefix."""
    (first,) = struct.unpack_from("<I", data)
    head = data[8:] if first == _CONTINUATION else data[4:]
    table = _follow(head, 0)
    kind = _field(head, table, _MESSAGE_KIND)
    body_length = _field(head, table, _MESSAGE_BODY_LENGTH)
    batch = _follow(head, _field(head, table, _MESSAGE_HEADER))
    is_batch = kind is not None and head[kind] == RECORD_BATCH
    rows = _field(head, batch, _BATCH_ROWS) if is_batch else None
    message = _Message(
        head[kind] if kind is not None else 0,
        _unpack("<q", head, rows) if rows is not None else 0,
        _unpack("<q", head, body_length) if body_length is not None else 0,
    )
    if message.rows < 0:
        raise ValueError("it has a batch of negative length")
    return message


def _follow(data: bytes, position: int | None) -> int | None:
    """Gives the place that the offset at a position points to."""
    return None if position is None else position + _unpack("<I", data, position)


def _field(data: bytes, table: int | None, number: int) -> int | None:
    """Gives the place of a field of a flatbuffer table; None if it is absent."""
    if table is None:
        return None
    vtable = table - _unpack("<i", data, table)
    at = 4 + 2 * number
    offset = _unpack("<H", data, vtable + at) if at + 2 <= _unpack("<H", data, vtable) else 0
    return table + offset if offset else None


def _unpack(layout: str, data: bytes, position: int) -> int:
    if position < 0:
        raise ValueError("it has an offset that points outside")
    return int(struct.unpack_from(layout, data, position)[0])


def _read(file: io.BufferedReader, offset: int, length: int) -> bytes:
    if offset < 0 or length < 0 or offset + length > _size(file):
        raise ValueError("it is cut off")
    file.seek(offset, io.SEEK_SET)
    return file.read(length)


def _size(file: io.BufferedReader) -> int:
    return file.seek(0, io.SEEK_END)
