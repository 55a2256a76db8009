"""Rows are cut within every limit, and none is lost or moved."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund import OverLimitError, ServerLimits
from rund._batches import TARGET_BATCH_BYTES, split


def limits(**values: int) -> ServerLimits:
    return ServerLimits(**values)


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=60),
    st.integers(1, 8),
    st.integers(800, 4000),
    st.integers(0, 20),
)
def test_batches_are_within_the_limits_and_complete(
    rows: list[bytes], chunks: int, max_bytes: int, max_rows: int
) -> None:
    size = max(1, len(rows) // chunks)
    pieces = [pa.array(rows[begin : begin + size], pa.binary()) for begin in range(0, len(rows), size)]
    table = pa.table({"a": pa.chunked_array(pieces)})
    batches = list(split(table, limits(max_batch_bytes=max_bytes, max_batch_rows=max_rows)))
    assert pa.Table.from_batches(batches).column("a").to_pylist() == rows
    assert all(pa.ipc.get_record_batch_size(batch) <= max_bytes for batch in batches)
    assert not max_rows or all(batch.num_rows <= max_rows for batch in batches)
    assert all(batch.num_rows for batch in batches)


def test_large_tables_are_cut_near_the_target() -> None:
    table = pa.table({"a": pa.array(range(500_000))})
    sizes = [pa.ipc.get_record_batch_size(batch) for batch in split(table, limits(max_batch_bytes=1 << 26))]
    assert max(sizes) <= 1.1 * TARGET_BATCH_BYTES
    assert min(sizes[:-1]) >= 0.9 * TARGET_BATCH_BYTES


def test_small_chunks_are_gathered() -> None:
    table = pa.concat_tables([pa.table({"a": [row]}) for row in range(1000)])
    assert len(list(split(table, limits()))) == 1


def test_a_table_without_rows_is_one_batch_with_its_schema() -> None:
    [batch] = split(pa.table({"a": pa.array([], pa.list_(pa.float32(), 3))}), limits())
    assert batch.num_rows == 0
    assert batch.schema.field("a").type == pa.list_(pa.float32(), 3)


def test_a_row_that_is_too_large_is_refused() -> None:
    table = pa.table({"a": [b"x", b"x" * 10_000]})
    with pytest.raises(OverLimitError, match="bulk_data_url") as caught:
        list(split(table, limits(max_batch_bytes=4096)))
    assert caught.value.details["limit"] == "4096"
    assert isinstance(caught.value, OSError)
