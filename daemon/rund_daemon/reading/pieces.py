"""Cuts rows into pieces that gRPC clients accept, each with the row to go on with when a read breaks off after it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import pyarrow as pa
from pyarrow import types

PIECE_BYTES = 2 * 1024 * 1024
"""What a piece holds at most: under the 4 MiB that gRPC clients accept unless told otherwise."""

Part: TypeAlias = "tuple[bytes | memoryview, int]"
"""Record batch messages back to back, and the row of the table that follows them."""

Apply: TypeAlias = Callable[[pa.RecordBatch], Sequence[pa.RecordBatch]]
"""Makes of stored rows what a reader wants of them; it may be none."""


def cut(rows: pa.RecordBatch, first_row: int, schema: pa.Schema, apply: Apply) -> Iterator[Part]:
    """Gives rows as parts that fit a piece; a single row that does not fit stays whole.

    Cut first and made into the result then: columns that these rows lack would take room for all of them at once.

    Args:
        rows: neighbouring rows of a table.
        first_row: the number of the first one.
        schema: of the result.
        apply: makes the result.
    """
    width = max(rows.nbytes // max(rows.num_rows, 1), sum(_width(field.type) for field in schema), 1)
    step = max(1, PIECE_BYTES // width)
    for begin in range(0, rows.num_rows, step):
        yield from _halve(rows.slice(begin, step), first_row + begin, apply)


def join(parts: Iterable[Part]) -> list[tuple[bytes, int]]:
    """Joins small parts up to the size of a piece."""
    pieces: list[tuple[bytes, int]] = []
    gathered: list[bytes | memoryview] = []
    size = next_row = 0
    for data, following in parts:
        if gathered and size + len(data) > PIECE_BYTES:
            pieces.append((b"".join(gathered), next_row))
            gathered, size = [], 0
        gathered.append(data)
        size += len(data)
        next_row = following
    return [*pieces, (b"".join(gathered), next_row)] if gathered else pieces


def _halve(rows: pa.RecordBatch, first_row: int, apply: Apply) -> Iterator[Part]:
    result = apply(rows)
    if sum(batch.nbytes for batch in result) <= PIECE_BYTES or rows.num_rows == 1:
        yield b"".join(batch.serialize().to_pybytes() for batch in result), first_row + rows.num_rows
        return
    half = rows.num_rows // 2
    yield from _halve(rows.slice(0, half), first_row, apply)
    yield from _halve(rows.slice(half), first_row + half, apply)


def _width(kind: Any) -> int:
    """Bytes of a value, as far as its type says."""
    if types.is_fixed_size_list(kind):
        return int(kind.list_size) * _width(kind.value_type)
    if types.is_struct(kind):
        return sum(_width(field.type) for field in kind)
    return int(kind.byte_width) if types.is_primitive(kind) and not types.is_boolean(kind) else 1
