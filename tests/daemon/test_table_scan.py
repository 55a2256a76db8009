"""Batches of an input table's file are named in groups that a reader can hold."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from rund_daemon.reading.stored import STORED_BYTES, StoredBatch
from rund_daemon.reading.table_scan import _named
from rund_daemon.segments.checked_segments import FileState
from rund_daemon.segments.table_data import CheckedFile, CheckedFiles, StoredPlace, TableDataWriter, content_hash_of

STATE = FileState(1, 2, 3)
THIRD = STORED_BYTES // 3 + 1


def named(begin: int, end: int, *places: tuple[int, int, int]) -> list[tuple[tuple[StoredBatch, ...], int]]:
    return list(_named(CheckedFile(STATE, tuple(StoredPlace(*place) for place in places)), begin, end))


def test_all_in_one() -> None:
    assert named(0, 30, (8, 50, 10), (58, 60, 20)) == [((StoredBatch(8, 50, 0, 10), StoredBatch(58, 60, 0, 20)), 30)]


def test_only_what_is_wanted() -> None:
    places = ((8, 50, 10), (58, 60, 0), (118, 60, 20), (178, 60, 5))
    assert named(9, 12, *places) == [((StoredBatch(8, 50, 9, 1), StoredBatch(118, 60, 0, 2)), 12)]
    assert named(30, 35, *places) == [((StoredBatch(178, 60, 0, 5),), 35)]
    assert named(5, 5, *places) == []
    assert named(35, 35, *places) == []


def test_large_ones_come_one_after_the_other() -> None:
    places = tuple((8 + THIRD * number, THIRD, 10) for number in range(5))
    groups = named(0, 50, *places)
    assert [(len(batches), row) for batches, row in groups] == [(2, 20), (2, 40), (1, 50)]


@pytest.mark.parametrize("batches", [0, 1, 7])
def test_a_file_says_where_its_batches_lie(tmp_path: Path, batches: int) -> None:
    written = [pa.record_batch({"x": list(range(count)), "t": ["é"] * count}) for count in range(batches)]
    schema = pa.schema([("x", pa.int64()), ("t", pa.string())])
    writer = TableDataWriter(tmp_path / "table", schema)
    for batch in written:
        writer.add(batch.cast(schema))
    data = writer.finish()
    path = tmp_path / "table" / "data.arrow"
    assert content_hash_of(path) == data.content_hash
    checked = CheckedFiles()
    file = checked.check(path, data.content_hash)
    assert checked.check(path, data.content_hash) is file, "it is read once"
    content = pa.py_buffer(path.read_bytes())
    assert [place.rows for place in file.batches] == list(range(batches))
    for place, batch in zip(file.batches, written, strict=True):
        message = content.slice(place.offset, place.length)
        assert pa.ipc.read_record_batch(message, schema).to_pydict() == batch.to_pydict()
