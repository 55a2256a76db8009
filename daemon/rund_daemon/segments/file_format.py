"""What makes an Arrow IPC file of messages that are there already: the bytes before them and behind them.

pyarrow writes a footer only behind batches that it has encoded itself. A batch that lies on disk as it should be is
copied as it is, so its file needs a footer of ours: a flatbuffer table that points to the batches, and on into the
schema message, which is put behind it whole.
Format: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from .messages import END_OF_STREAM, schema_at

PREAMBLE = b"ARROW1\0\0"
"""What a file begins with; a stream follows."""

_V5 = 4
_PREFIX_BYTES = 8
# Offset of the table; vtable of four fields, 20 bytes of table: version at 16, schema at 4, dictionaries at 8, record
# batches at 12.
_START = struct.Struct("<I 6H")
_VTABLE_AT, _TABLE_AT = 4, 16
_TABLE = struct.Struct("<i III hxx")
_SCHEMA_AT, _DICTIONARIES_AT, _BATCHES_AT = 20, 24, 28
# An empty vector, and one whose items, 8 bytes aligned, begin at 48.
_NO_ITEMS_AT, _COUNT_AT = 36, 44
_COUNTS = struct.Struct("<I4xI")
_BLOCK = struct.Struct("<qi4xq")


@dataclass(frozen=True, slots=True)
class Block:
    """A record batch message in a file: where it begins, the bytes of its metadata (prefix and all), and its body's."""

    offset: int
    head_length: int
    body_length: int

    @classmethod
    def of(cls, offset: int, message: bytes | memoryview) -> Block:
        """Describes a message that is put at an offset."""
        head_length = _PREFIX_BYTES + int(struct.unpack_from("<I", message, 4)[0])
        return cls(offset, head_length, len(message) - head_length)


def ending(head: bytes, blocks: Sequence[Block]) -> bytes:
    """The bytes behind the last batch of a file.

    Args:
        head: the schema message that the file begins with.
        blocks: its batches.
    """
    footer = _footer(head, blocks)
    return END_OF_STREAM + footer + struct.pack("<i", len(footer)) + PREAMBLE[:6]


def _footer(head: bytes, blocks: Sequence[Block]) -> bytes:
    schema = memoryview(head)[_PREFIX_BYTES:]
    schema_begin = _COUNT_AT + 4 + len(blocks) * _BLOCK.size
    start = _START.pack(_TABLE_AT, _TABLE_AT - _VTABLE_AT, _TABLE.size, 16, 4, 8, 12)
    table = _TABLE.pack(
        _TABLE_AT - _VTABLE_AT,
        schema_begin + schema_at(schema) - _SCHEMA_AT,
        _NO_ITEMS_AT - _DICTIONARIES_AT,
        _COUNT_AT - _BATCHES_AT,
        _V5,
    )
    packed = (_BLOCK.pack(block.offset, block.head_length, block.body_length) for block in blocks)
    return b"".join((start, table, _COUNTS.pack(0, len(blocks)), *packed, schema))
