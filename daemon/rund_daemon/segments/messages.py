"""Arrow IPC messages as bytes: where one ends, what kind it is, and whether its body is compressed.

pyarrow can tell neither a message's length in a buffer nor whether its body is compressed before it has decompressed
it, and 4.4 kB of zstd can become 128 MiB. So the few fields needed are read from the flatbuffer here, with every
offset checked. Format: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from rund_daemon.errors import InvalidError, Reason

CONTINUATION = 0xFFFFFFFF
END_OF_STREAM = struct.pack("<II", CONTINUATION, 0)
SCHEMA, DICTIONARY_BATCH, RECORD_BATCH = 1, 2, 3

_PREFIX = struct.Struct("<II")
# Slots of the tables in Message.fbs.
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3
_BATCH_LENGTH, _BATCH_NODES, _BATCH_BUFFERS, _BATCH_COMPRESSION = 0, 1, 2, 3
_BUFFER = struct.Struct("<qq")
# What a buffer of a compressed body begins with: its length when it is decoded.
_LENGTH = struct.Struct("<q")
_NOT_COMPRESSED = -1


@dataclass(frozen=True, slots=True)
class Message:
    """One encapsulated message in a buffer: bytes `begin` to `end`, its kind and, of a record batch, its rows.

    `nodes` counts the arrays of a record batch: its columns, and all that is nested in them.
    """

    kind: int
    begin: int
    end: int
    rows: int = 0
    nodes: int = 0


def read_message(
    data: memoryview, begin: int, field: str, *, available: int | None = None, compressed: bool = False
) -> Message | None:
    """Reads the head of the message at an offset; None at an end mark or the end of the data.

    Args:
        data: the buffer.
        begin: where the message begins.
        field: path of the request's field, for errors.
        available: how far the data goes on, if the buffer holds no more than the message's head.
        compressed: whether its body may be compressed, as in files that the daemon has made.

    Raises:
        InvalidError: INVALID_ARROW, if there is no whole, plain message.
    """
    if begin == len(data):
        return None
    try:
        continuation, head_length = _PREFIX.unpack_from(data, begin)
        if continuation != CONTINUATION:
            raise _invalid(field, "does not begin with an Arrow IPC message (format 0.15 or later)")
        if head_length == 0:
            return None
        return _parse(data, begin, head_length, field, len(data) if available is None else available, compressed)
    except (struct.error, IndexError) as error:
        raise _invalid(field, "ends in the middle of an Arrow IPC message") from error


def read_messages(data: memoryview, field: str) -> Iterator[Message]:
    """Gives all messages of an Arrow IPC stream, up to its end mark or the end of the data."""
    position = 0
    while (message := read_message(data, position, field)) is not None:
        yield message
        position = message.end


def decoded_bytes(data: memoryview) -> int:
    """Gives what the body of one whole record batch message becomes; 0 if it is not compressed.

    Arrow allocates by the length that every compressed buffer begins with, before it looks at what follows. So the sum
    of those lengths is what decoding can cost.

    Raises:
        InvalidError: INVALID_ARROW, if a buffer lies outside of the message or has an impossible length.
    """
    try:
        head_length = _PREFIX.unpack_from(data, 0)[1]
        head, body = data[8 : 8 + head_length], data[8 + head_length :]
        header_at = _slot(head, _root(head), _HEADER)
        batch = header_at + struct.unpack_from("<I", head, header_at)[0]
        if not _slot(head, batch, _BATCH_COMPRESSION):
            return 0
        return max(1, sum(_decoded_lengths(head, batch, body)))
    except (struct.error, IndexError) as error:
        raise _invalid("", "ends in the middle of an Arrow IPC message") from error


def _decoded_lengths(head: memoryview, batch: int, body: memoryview) -> Iterator[int]:
    buffers_at = _slot(head, batch, _BATCH_BUFFERS)
    vector = buffers_at + struct.unpack_from("<I", head, buffers_at)[0] if buffers_at else 0
    for number in range(_count(head, buffers_at)):
        offset, length = _BUFFER.unpack_from(head, vector + 4 + number * _BUFFER.size)
        if not length:
            continue
        if offset < 0 or length < _LENGTH.size or offset + length > len(body):
            raise _invalid("", "has a compressed buffer outside of its body")
        decoded = _LENGTH.unpack_from(body, offset)[0]
        if decoded < _NOT_COMPRESSED:
            raise _invalid("", "has a compressed buffer of negative length")
        yield length - _LENGTH.size if decoded == _NOT_COMPRESSED else decoded


def schema_at(head: memoryview) -> int:
    """Position of the schema's table in a schema message that the daemon made, from its flatbuffer on."""
    header_at = _slot(head, _root(head), _HEADER)
    return header_at + int(struct.unpack_from("<I", head, header_at)[0])


def _parse(data: memoryview, begin: int, head_length: int, field: str, available: int, compressed: bool) -> Message:
    head = data[begin + 8 : begin + 8 + head_length]
    if len(head) != head_length or head_length % 8:
        raise _invalid(field, "has an Arrow IPC message that is cut off or not padded to 8 bytes")
    table = _root(head)
    kind_at, header_at = _slot(head, table, _HEADER_TYPE), _slot(head, table, _HEADER)
    body_at = _slot(head, table, _BODY_LENGTH)
    body_length = struct.unpack_from("<q", head, body_at)[0] if body_at else 0
    end = begin + 8 + head_length + body_length
    if body_length < 0 or body_length % 8 or end > available:
        raise _invalid(field, "has an Arrow IPC body that is cut off or not padded to 8 bytes")
    kind = head[kind_at] if kind_at else 0
    if kind != RECORD_BATCH:
        return Message(kind, begin, end)
    batch = header_at + struct.unpack_from("<I", head, header_at)[0]
    if _slot(head, batch, _BATCH_COMPRESSION) and not compressed:
        raise _invalid(field, "has a compressed Arrow body; send it uncompressed")
    rows_at = _slot(head, batch, _BATCH_LENGTH)
    rows = struct.unpack_from("<q", head, rows_at)[0] if rows_at else 0
    if rows < 0:
        raise _invalid(field, "has a record batch of negative length")
    return Message(kind, begin, end, rows, _count(head, _slot(head, batch, _BATCH_NODES)))


def _root(head: memoryview) -> int:
    return int(struct.unpack_from("<I", head, 0)[0])


def _slot(head: memoryview, table: int, number: int) -> int:
    """Position of a field of a flatbuffer table, or 0 if it is absent."""
    vtable = table - struct.unpack_from("<i", head, table)[0]
    if vtable < 0:
        raise IndexError(vtable)
    size = struct.unpack_from("<H", head, vtable)[0]
    at = 4 + 2 * number
    offset = struct.unpack_from("<H", head, vtable + at)[0] if at + 2 <= size else 0
    return table + offset if offset else 0


def _count(head: memoryview, at: int) -> int:
    """How many elements the vector has that the field at a position points to; none if it is absent."""
    if not at:
        return 0
    return int(struct.unpack_from("<I", head, at + struct.unpack_from("<I", head, at)[0])[0])


def _invalid(field: str, message: str) -> InvalidError:
    return InvalidError(field, f"the data {message}", reason=Reason.INVALID_ARROW)
