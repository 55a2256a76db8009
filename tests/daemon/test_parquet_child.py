"""Parquet columns that Arrow may abort over are read by a process of their own; here that is no more than an error."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.segments.parquet_child import needs_child
from rund_daemon.segments.registered import probe, scan

# 200 rows of lists of three, some of them null, of which one byte of the levels is another.
ABORTS = Path(__file__).with_name("aborts_arrow.parquet")
ROWS = 3_000
TABLE = pa.table(
    {
        "id": np.arange(ROWS),
        "vector": pa.FixedSizeListArray.from_arrays(np.arange(ROWS * 4, dtype=np.float32), 4),
        "deep": pa.array([[{"at": [n, n]}] for n in range(ROWS)], pa.list_(pa.struct({"at": pa.list_(pa.int64(), 2)}))),
    }
)


def test_a_file_that_ends_its_reader_is_refused() -> None:
    found = probe(ABORTS)
    with pytest.raises(InvalidError, match="ends the process in signal") as refused:
        list(scan(ABORTS, found.format, found.schema))
    assert (refused.value.field, refused.value.reason) == ("url", Reason.INVALID_URL)


def test_what_is_no_file_any_more_is_told_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path)
    found, whole = probe(path), path.read_bytes()
    path.write_bytes(whole[:100] + bytes(5_000) + whole[5_100:])
    with pytest.raises(InvalidError, match=r"t\.parquet"):
        list(scan(path, found.format, found.schema))


@pytest.mark.parametrize("columns", [["vector"], ["deep", "id"]])
@pytest.mark.parametrize(("start", "limit"), [(0, None), (0, 1), (999, 2), (1_500, 1_000), (2_999, None), (3_000, 5)])
def test_rows_are_those_of_the_file(tmp_path: Path, columns: list[str], start: int, limit: int | None) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path, row_group_size=1_000)
    found = probe(path)
    batches = list(scan(path, found.format, found.schema, columns, None, start, limit))
    expected = TABLE.select(columns).slice(start, limit)
    rows = pa.Table.from_batches(batches, pa.schema([found.schema.field(name) for name in columns]))
    assert rows.to_pylist() == expected.to_pylist()


def test_only_columns_with_such_lists_need_one() -> None:
    assert [needs_child(TABLE.schema, [name]) for name in TABLE.schema.names] == [False, True, True]


def test_a_read_that_is_given_up_ends_its_process(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.concat_tables([TABLE] * 200), path)
    found = probe(path)
    before = children()
    batches = scan(path, found.format, found.schema, ["vector"])
    next(batches)
    assert len(children() - before) == 1
    del batches
    assert not children() - before


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{threading.get_native_id()}/children").read_text().split())
