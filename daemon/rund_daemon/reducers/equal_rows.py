"""Rows that are equal byte for byte, found by hashes of them: to sort or keep the rows themselves takes seconds."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .vectors import Matrix

RowNumbers: TypeAlias = npt.NDArray[np.intp]

_ROWS_AT_ONCE = 16_384


def first_of_each(rows: Matrix) -> RowNumbers:
    """Gives the indices of the rows that differ from all before them, in order."""
    _, first, which = np.unique(_hashes(rows), return_index=True, return_inverse=True)
    if not _are_equal(rows, rows, first[which]).all():  # two rows of one hash, which chance hardly ever brings about
        _, first = np.unique(_whole(rows), return_index=True)
    return np.sort(first)


def equal_row_of(rows: Matrix, basis: Matrix) -> RowNumbers:
    """Gives of each row which row of a basis of distinct rows it equals; -1 if none."""
    hashes = _hashes(basis)
    order = np.argsort(hashes, kind="stable")
    place = np.searchsorted(hashes, _hashes(rows), sorter=order)
    found: RowNumbers = order[np.minimum(place, len(basis) - 1)]
    return np.where(_are_equal(rows, basis, found), found, -1)


def _hashes(rows: Matrix) -> npt.NDArray[np.uint64]:
    """A sum of the row's numbers, each times an odd number of its own: equal for equal bytes."""
    factors = np.random.default_rng(0).integers(2**63, size=rows.shape[1], dtype=np.uint64) * 2 + 1
    hashes = np.empty(len(rows), dtype=np.uint64)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = np.ascontiguousarray(rows[begin : begin + _ROWS_AT_ONCE]).view(np.uint32)
        hashes[begin : begin + _ROWS_AT_ONCE] = (part * factors).sum(axis=1, dtype=np.uint64)
    return hashes


def _are_equal(rows: Matrix, basis: Matrix, which: RowNumbers) -> npt.NDArray[np.bool_]:
    equal = np.empty(len(rows), dtype=np.bool_)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(begin, begin + _ROWS_AT_ONCE)
        mine, other = (np.ascontiguousarray(found).view(np.uint32) for found in (rows[part], basis[which[part]]))
        equal[part] = (mine == other).all(axis=1)
    return equal


def _whole(rows: Matrix) -> npt.NDArray[np.void]:
    whole = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))
    return whole.ravel()
