"""Columns of vectors as float32 matrices: which rows count, and which are refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rund_daemon.errors import InvalidError, Reason

Matrix: TypeAlias = npt.NDArray[np.float32]
Indices: TypeAlias = npt.NDArray[np.int32]
Mapper: TypeAlias = Callable[[Matrix], Matrix]
"""Maps further rows. What comes of a row depends a little on the rows that are given with it."""

_FIELD = "spec.source_embedding_column"


@dataclass(frozen=True, slots=True)
class Vectors:
    """The vectors of one column of one table.

    Attributes:
        table: what errors call it.
        rows: float32, one row a vector that counts; 0 by 0 if none does.
        counts: bool, one a row of the table: false where the vector is null or holds a null, a NaN or an infinity.
    """

    table: str
    rows: Matrix
    counts: npt.NDArray[np.bool_]

    @property
    def width(self) -> int:
        """Numbers of a vector; 0 if there is none."""
        return int(self.rows.shape[1])

    def spread(self, rows: Matrix) -> pa.Array[Any]:
        """Gives rows of a map, one a vector that counts, as a column of the whole table: null for the others."""
        full = np.zeros((len(self.counts), rows.shape[1]), dtype=np.float32)
        full[self.counts] = rows
        nulls = None if self.counts.all() else pa.array(~self.counts)
        return pa.FixedSizeListArray.from_arrays(pa.array(full.ravel()), rows.shape[1], mask=nulls)


def is_vector(kind: Any) -> bool:
    """Whether a column of this type can hold vectors."""
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists:
        return False
    item = kind.value_type
    return pa.types.is_floating(item) or pa.types.is_integer(item)


def read_vectors(table: str, column: str, arrays: Iterable[pa.Array[Any]]) -> Vectors:
    """Reads a column, piece by piece.

    Raises:
        InvalidError: INVALID_COLUMN: it holds no vectors, vectors of several widths, or numbers that are too large.
    """
    matrices: list[Matrix] = []
    counts: list[npt.NDArray[np.bool_]] = []
    for array in arrays:
        if not is_vector(array.type):
            raise _refused(f"column {column!r} of {table} is of type {array.type}, and holds no vectors")
        rows, finite = _read_piece(table, column, array)
        matrices.append(rows)
        counts.append(finite)
    filled = [rows for rows in matrices if rows.shape[0]]
    check_widths([(table, rows.shape[1]) for rows in filled], column)
    matrix = np.concatenate(filled) if filled else np.empty((0, 0), dtype=np.float32)
    return Vectors(table, matrix, np.concatenate(counts) if counts else np.empty(0, dtype=np.bool_))


def check_widths(widths: Sequence[tuple[str, int]], column: str) -> None:
    """Checks that all vectors have one width.

    Raises:
        InvalidError: INVALID_COLUMN, naming the tables.
    """
    if len({width for _, width in widths}) <= 1:
        return
    said = ", ".join(dict.fromkeys(f"{width} in {table}" for table, width in widths))
    raise _refused(f"column {column!r} holds vectors of different widths: {said}; reduce them apart")


def check_magnitudes(rows: Matrix, table: str, column: str) -> None:
    """Checks that distances between rows can be squared.

    Raises:
        InvalidError: INVALID_COLUMN.
    """
    greatest = float(np.max(np.abs(rows), initial=0.0))
    limit = float(np.sqrt(np.finfo(np.float32).max / max(rows.shape[1], 1)) / 2)
    if greatest > limit:
        raise _refused(
            f"column {column!r} of {table} holds {greatest:.3g}: squares of such numbers overflow float32, and the map "
            f"would be wrong; scale the column to at most {limit:.3g}, or set standard_scaler_normalize"
        )


def _read_piece(table: str, column: str, array: pa.Array[Any]) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    counts = array.is_valid().to_numpy(zero_copy_only=False).astype(np.bool_)
    # Of a fixed-size list, `flatten` drops null rows and `values` ignores slices; without nulls `flatten` is right.
    kept: Any = array.drop_null() if array.null_count else array
    widths = sorted({int(width) for width in np.unique(kept.value_lengths().to_numpy(zero_copy_only=False))})
    check_widths([(table, width) for width in widths], column)
    if not widths:
        return np.empty((0, 0), dtype=np.float32), counts
    if widths == [0]:
        raise _refused(f"column {column!r} of {table} holds vectors without numbers")
    flat = kept.flatten()
    if flat.null_count and not pa.types.is_floating(flat.type):
        flat = flat.cast(pa.float64(), safe=False)
    values = flat.to_numpy(zero_copy_only=False).reshape(len(kept), widths[0])
    finite = np.isfinite(values).all(axis=1)
    counts[counts] = finite
    return _as_float32(values if finite.all() else values[finite], table, column), counts


def _as_float32(values: npt.NDArray[Any], table: str, column: str) -> Matrix:
    with np.errstate(over="ignore"):
        # Adding zero turns -0.0 into 0.0, so that equal rows have equal bytes.
        rows = values.astype(np.float32) + np.float32(0)
    if not np.isfinite(rows).all():
        raise _refused(f"column {column!r} of {table} holds numbers beyond float32; scale it before it is reduced")
    return rows


def _refused(message: str) -> InvalidError:
    return InvalidError(_FIELD, message, reason=Reason.INVALID_COLUMN)
