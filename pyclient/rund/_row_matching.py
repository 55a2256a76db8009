"""Which rows of two tables have the same key."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ._errors import InvalidColumnError
from ._plain_arrow import AnyChunked

Rows: TypeAlias = "npt.NDArray[np.int64]"
"""Numbers of rows."""

# Integers that lie closer together than this are addressed directly, which is ten times as fast as hashing them.
_SPREAD = 8


def matching_rows(left: AnyChunked, right: AnyChunked) -> tuple[Rows, Rows]:
    """The numbers of the rows whose keys are equal, in the order of the left ones.

    Of several rows with one key the last one counts. Rows without a key match nothing.

    Raises:
        InvalidColumnError: The keys are of types that can't be compared.
    """
    left_codes, right_codes, count = _codes(left, right)
    last_left, last_right = _last_rows(left_codes, count), _last_rows(right_codes, count)
    rows = np.arange(len(left_codes))
    matched = (left_codes >= 0) & (last_left[left_codes] == rows) & (last_right[left_codes] >= 0)
    return rows[matched], last_right[left_codes[matched]]


def _last_rows(codes: Rows, count: int) -> Rows:
    last = np.full(count + 1, -1)
    # NumPy assigns in order, so that the last of equal codes stays. Code -1 is the place behind all others.
    last[codes] = np.arange(len(codes))
    return last


def _codes(left: AnyChunked, right: AnyChunked) -> tuple[Rows, Rows, int]:
    """A number from 0 for each key, the same for the same key; -1 where there is none. And how many there are."""
    try:
        if pa.types.is_integer(left.type) != pa.types.is_integer(right.type):
            raise pa.ArrowTypeError("one side has integers and the other has not")
        keys = pa.chunked_array([*left.chunks, *right.cast(left.type).chunks], left.type)
        low, high = _ends(keys)
        codes: AnyChunked
        if high - low < _SPREAD * len(keys):
            codes, count = pc.subtract(keys.cast(pa.int64()), low), high - low + 1
        else:
            # One dictionary for both; without it each chunk would have codes of its own.
            encoded: Any = keys.combine_chunks().dictionary_encode()
            codes, count = pa.chunked_array([encoded.indices.cast(pa.int64())]), len(encoded.dictionary)
    except pa.ArrowException as error:
        raise InvalidColumnError(f"keys of types {left.type} and {right.type} can't be compared: {error}") from None
    numbers = codes.fill_null(pa.scalar(-1)).to_numpy()
    return numbers[: len(left)], numbers[len(left) :], count


def _ends(keys: AnyChunked) -> tuple[int, int]:
    """The least and the greatest key; of keys that are no 64-bit integers, ends as far apart as can be."""
    ends: Any = pc.min_max(keys).as_py() if pa.types.is_integer(keys.type) else {"min": None, "max": None}
    if ends["min"] is None or ends["max"] >= 2**63:
        return -(2**63), 2**63 - 1
    return ends["min"], ends["max"]
