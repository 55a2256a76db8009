"""How a row gets into a data file: its shape is declared once, then rows of that shape are values only."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from zlib import crc32

from ._errors import InvalidValueError
from ._journal_files import DataFile, Plan
from ._journal_records import (
    CODE_ROW,
    CODE_SHAPE,
    FIRST_SHAPE_CODE,
    MAX_RECORD_BYTES,
    WORD,
    LooseRow,
    Shape,
    low_seed,
    pack_row,
    pack_shape,
    record_low,
)
from ._journal_values import Row
from ._journal_writers import MOST_VALUES, row_writer

MAX_SHAPES = 1024
"""Shapes of one file. A caller with more sets of keys than that gains nothing from them."""


def write_row(file: DataFile, row: Row, step: int, time_ns: int) -> bool:
    """Appends a row to a file, after the declaration of its shape where that is new; False: there is no room.

    Raises:
        InvalidValueError: The row is too large for any file.
    """
    plan = _plan(file, row)
    if plan is not None:
        return _append(file, plan.low, plan.seed, plan.pack(step, time_ns, *row.values))
    if row.fixed and file.next_code < FIRST_SHAPE_CODE + MAX_SHAPES:
        return _declare(file, row) and write_row(file, row, step, time_ns)
    body = pack_row(LooseRow(step, time_ns, row.keys, row.kinds, row.values))
    _check_size(row, len(body))
    low = record_low(CODE_ROW, WORD + len(body))
    return _append(file, low, low_seed(low), body)


def _plan(file: DataFile, row: Row) -> Plan | None:
    plan = file.plans.get((*row.keys, *row.kinds))
    if plan is not None and row.types is not None:
        # The next ones of their kind take the short ways.
        file.plans[(*row.keys, *row.types)] = plan
        if 0 < len(row.types) <= MOST_VALUES and None not in row.values and row.keys not in file.writers:
            file.writers[row.keys] = row_writer(row.keys, row.types, plan)
    return plan


def _append(file: DataFile, low: int, seed: int, body: bytes) -> bool:
    return file.write(low, crc32(body, seed), body)


def _declare(file: DataFile, row: Row) -> bool:
    code = file.next_code
    file.next_code = code + 1  # a signal handler that declares a shape, too, takes the next one
    shape = Shape(code, row.keys, row.kinds)
    body, size = pack_shape(shape), shape.row_bytes()
    _check_size(row, max(len(body), size))
    low = record_low(CODE_SHAPE, WORD + len(body))
    if not _append(file, low, low_seed(low), body):
        return False
    low = record_low(code, size)
    pack = Struct(shape.body_format()).pack
    plan = Plan(_without_nulls(pack) if None in row.values else pack, low, low_seed(low), size)
    file.plans[(*row.keys, *row.kinds)] = plan
    return True


def _without_nulls(pack: Callable[..., bytes]) -> Callable[..., bytes]:
    def pack_present(*values: object) -> bytes:
        return pack(*[value for value in values if value is not None])

    return pack_present


def _check_size(row: Row, size: int) -> None:
    if WORD + size <= MAX_RECORD_BYTES:
        return
    largest = max(zip(row.keys, row.values, strict=True), key=lambda item: len(str(item[1])))[0]
    raise InvalidValueError(
        f"the row has {size} bytes and log takes {MAX_RECORD_BYTES - WORD}; its largest value is that of "
        f"{largest!r}. Write it with add_metrics, or as a file in bulk_data_url"
    )
