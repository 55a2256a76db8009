"""Rows are matched by keys of any type, and the last row of a key counts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund import InvalidColumnError
from rund._row_matching import matching_rows

INTEGERS = st.one_of(st.none(), st.integers(-3, 9))
SPARSE = st.one_of(st.none(), st.sampled_from([-(2**63), 2**63 - 1, 0, 1]))
TEXTS = st.one_of(st.none(), st.text(max_size=2))


def matched(left: list[Any], right: list[Any], left_type: pa.DataType, right_type: pa.DataType) -> list[Any]:
    rows = matching_rows(chunked(left, left_type), chunked(right, right_type))
    return list(zip(*(side.tolist() for side in rows), strict=True))


def chunked(values: list[Any], kind: pa.DataType) -> Any:
    half = len(values) // 2
    return pa.chunked_array([values[:half], values[half:]], kind)


def expected(left: list[Any], right: list[Any]) -> list[Any]:
    last_left = {key: row for row, key in enumerate(left) if key is not None}
    last_right = {key: row for row, key in enumerate(right) if key is not None}
    return sorted((row, last_right[key]) for key, row in last_left.items() if key in last_right)


@settings(deadline=None)
@given(st.lists(INTEGERS), st.lists(INTEGERS))
def test_close_integers(left: list[Any], right: list[Any]) -> None:
    assert matched(left, right, pa.int64(), pa.int32()) == expected(left, right)
    assert matched(left, right, pa.int32(), pa.int64()) == expected(left, right)


@settings(deadline=None)
@given(st.lists(SPARSE), st.lists(SPARSE))
def test_integers_far_apart(left: list[Any], right: list[Any]) -> None:
    assert matched(left, right, pa.int64(), pa.int64()) == expected(left, right)


@settings(deadline=None)
@given(st.lists(TEXTS), st.lists(TEXTS))
def test_texts(left: list[Any], right: list[Any]) -> None:
    assert matched(left, right, pa.string(), pa.large_string()) == expected(left, right)


def test_large_unsigned_integers() -> None:
    assert matched([2**64 - 1, 5], [5, 2**64 - 1], pa.uint64(), pa.uint64()) == [(0, 1), (1, 0)]
    assert matched([2**64 - 1, 2**64 - 2], [2**64 - 2], pa.uint64(), pa.uint64()) == [(1, 0)]


@pytest.mark.parametrize(
    ("left", "right"), [(pa.string(), pa.int64()), (pa.list_(pa.int64()), pa.list_(pa.int64()))], ids=str
)
def test_keys_that_can_not_be_compared(left: pa.DataType, right: pa.DataType) -> None:
    with pytest.raises(InvalidColumnError, match="can't be compared"):
        matching_rows(pa.chunked_array([["x"] if left == pa.string() else [[1]]], left), chunked([], right).cast(right))
