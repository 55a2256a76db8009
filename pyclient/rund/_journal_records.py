"""The records of a journal, as docs/journal.md describes them: rows, and the shapes that rows have in common.

A record is a word (length, code, checksum) and a body. Rows of fixed size declare their keys and kinds once,
as a shape, and then hold values only, so that a reader takes thousands of them in one step. Other rows carry
their keys with them.

Pure: it knows layouts and checksums, and nothing of files or threads. All numbers are little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from zlib import crc32

from ._journal_format import JournalFormatError

WORD = 8
"""Every record begins at a multiple of this many bytes and is a multiple of it long."""

CODE_SHAPE, CODE_ROW, CODE_END, CODE_VOID = 1, 2, 3, 4
FIRST_SHAPE_CODE = 16
MAX_CODE = 0xFFFF
MAX_RECORD_BYTES = 0xFFFF * WORD
NO_STEP = -(2**63)
MAX_KEY_BYTES = 255

_CRC = struct.Struct("<I")
_SHAPE = struct.Struct("<HHI")
_SHAPE_KEY = struct.Struct("<BxH")
_ROW = struct.Struct("<qqHxxxxxx")
_ROW_KEY = struct.Struct("<BxHI")


class Kind(IntEnum):
    """Type of a value. Of two numeric kinds in one column, the greater one holds both."""

    NULL = 0
    BOOL = 1
    INT = 2
    FLOAT = 3
    STRING = 4
    LIST = 5

    __hash__ = int.__hash__  # that of enum is written in Python, and kinds are hashed for each row


FIELD_CODES = {Kind.NULL: "", Kind.BOOL: "?", Kind.INT: "q", Kind.FLOAT: "d"}
"""The kinds of fixed size, with their codes in the language of ``struct``."""

_KINDS = tuple(Kind)

Value = bool | int | float | str | None | list[float]


@dataclass(frozen=True, slots=True)
class Shape:
    """Keys and kinds that all rows of one code have.

    Attributes:
        code: The code of its rows, unique in the file.
        keys: The keys, in order.
        kinds: The kind of each key, all of fixed size.
    """

    code: int
    keys: tuple[str, ...]
    kinds: tuple[Kind, ...]

    def body_format(self) -> str:
        """Format of a row's body: step, time, values, zeros up to the next word."""
        codes = "<qq" + "".join(FIELD_CODES[kind] for kind in self.kinds)
        return f"{codes}{-struct.calcsize(codes) % WORD}x"

    def row_bytes(self) -> int:
        """Bytes of a row's record."""
        return WORD + struct.calcsize(self.body_format())


@dataclass(frozen=True, slots=True)
class LooseRow:
    """A row that carries its keys with it."""

    step: int
    time_ns: int
    keys: tuple[str, ...]
    kinds: tuple[Kind, ...]
    values: tuple[Value, ...]


def record_low(code: int, size: int) -> int:
    """The low half of a record's word: its length in words, and its code."""
    return size // WORD | code << 16


def low_seed(low: int) -> int:
    """Checksum of a low half; the checksum of the body goes on from it."""
    return crc32(_CRC.pack(low))


def pack_shape(shape: Shape) -> bytes:
    """Body of the record that declares a shape."""
    keys = [key.encode() for key in shape.keys]
    parts = [_SHAPE.pack(shape.code, len(keys), shape.row_bytes())]
    for key, kind in zip(keys, shape.kinds, strict=True):
        parts += (_SHAPE_KEY.pack(kind, len(key)), key)
    return _pad(b"".join(parts))


def unpack_shape(body: bytes) -> Shape:
    """Reads what ``pack_shape`` made.

    Raises:
        JournalFormatError: It is none.
    """
    try:
        code, count, row_bytes = _SHAPE.unpack_from(body)
        at, keys, kinds = _SHAPE.size, list[str](), list[Kind]()
        for _ in range(count):
            kind, length = _SHAPE_KEY.unpack_from(body, at)
            at += _SHAPE_KEY.size + length
            kinds.append(_KINDS[kind])
            keys.append(body[at - length : at].decode())
        shape = Shape(code, tuple(keys), tuple(kinds))
        if code < FIRST_SHAPE_CODE or shape.row_bytes() != row_bytes:
            raise JournalFormatError(f"a shape with code {code} has rows of {row_bytes} bytes")
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise JournalFormatError(f"a record that declares a shape can't be read: {error}") from error
    return shape


def pack_row(row: LooseRow) -> bytes:
    """Body of a row that carries its keys with it."""
    parts = [_ROW.pack(row.step, row.time_ns, len(row.keys))]
    for key, kind, value in zip(row.keys, row.kinds, row.values, strict=True):
        name, data = key.encode(), _pack_value(kind, value)
        parts += (_ROW_KEY.pack(kind, len(name), len(data)), name, data)
    return _pad(b"".join(parts))


def unpack_row(body: bytes) -> LooseRow:
    """Reads what ``pack_row`` made.

    Raises:
        JournalFormatError: It is none.
    """
    try:
        step, time_ns, count = _ROW.unpack_from(body)
        at, keys, kinds, values = _ROW.size, list[str](), list[Kind](), list[Value]()
        for _ in range(count):
            kind, name_bytes, data_bytes = _ROW_KEY.unpack_from(body, at)
            begin = at + _ROW_KEY.size + name_bytes
            at = begin + data_bytes
            keys.append(body[begin - name_bytes : begin].decode())
            kinds.append(_KINDS[kind])
            values.append(_unpack_value(kinds[-1], body[begin:at]))
    except (struct.error, ValueError, KeyError, IndexError) as error:
        raise JournalFormatError(f"a row can't be read: {error}") from error
    return LooseRow(step, time_ns, tuple(keys), tuple(kinds), tuple(values))


def _pad(body: bytes) -> bytes:
    return body + bytes(-len(body) % WORD)


def _pack_value(kind: Kind, value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list):
        return struct.pack(f"<{len(value)}d", *value)
    return b"" if value is None else struct.pack(f"<{FIELD_CODES[kind]}", value)


def _unpack_value(kind: Kind, data: bytes) -> Value:
    if kind is Kind.STRING:
        return data.decode()
    if kind is Kind.LIST:
        return list(struct.unpack(f"<{len(data) // 8}d", data))
    values: tuple[Value, ...] = struct.unpack(f"<{FIELD_CODES[kind]}", data)
    return values[0] if values else None
