"""Rows become columns: sorted keys, one type a column, nulls where a row lacks a key, a schema that seldom changes."""

from __future__ import annotations

import math

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund._history_batch import HistoryBatches
from rund._journal import Journal
from rund._journal_reader import MAX_BATCH_BYTES, JournalReader

from .conftest import Folder


def batches_of(journal: Journal) -> list[pa.RecordBatch]:
    reader, batches = JournalReader(journal.files), HistoryBatches(3)
    found = []
    while (rows := reader.take()) is not None:
        found.append(batches.batch(rows))
        found[-1].validate(full=True)
    return found


def log(folder: Folder, *rows: dict[str, object]) -> pa.RecordBatch:
    journal = folder.new()
    for values in rows:
        journal.append(values)
    (batch,) = batches_of(journal)
    return batch


def test_columns_and_their_types(folder: Folder) -> None:
    batch = log(folder, {"b": 1, "a": 2.5}, {"c": True, "t": "x"}, {"l": [1, 2]}, {"n": None})
    assert batch.schema == pa.schema(
        [
            ("step", pa.int64()),
            ("time", pa.timestamp("us", "UTC")),
            ("rank", pa.int32()),
            ("a", pa.float64()),
            ("b", pa.int64()),
            ("c", pa.bool_()),
            ("l", pa.list_(pa.float64())),
            ("n", pa.null()),
            ("t", pa.string()),
        ]
    )
    assert batch.drop_columns(["time"]).to_pylist() == [
        {"step": 0, "rank": 3, "a": 2.5, "b": 1, "c": None, "l": None, "n": None, "t": None},
        {"step": 1, "rank": 3, "a": None, "b": None, "c": True, "l": None, "n": None, "t": "x"},
        {"step": 2, "rank": 3, "a": None, "b": None, "c": None, "l": [1.0, 2.0], "n": None, "t": None},
        {"step": 3, "rank": 3, "a": None, "b": None, "c": None, "l": None, "n": None, "t": None},
    ]


@pytest.mark.parametrize(
    ("values", "column"),
    [
        ([1, 2.5], pa.array([1.0, 2.5])),
        ([True, 2], pa.array([1, 2], pa.int64())),
        ([False, 0.5], pa.array([0.0, 0.5])),
        ([None, 1, None], pa.array([None, 1, None], pa.int64())),
        ([1, "x", 2.5, True], pa.array(["1", "x", "2.5", "True"])),
        ([math.nan, math.inf], pa.array([math.nan, math.inf])),
        ([None, None], pa.nulls(2)),
        ([[1.0], None, []], pa.array([[1.0], None, []], pa.list_(pa.float64()))),
    ],
)
def test_values_of_one_key_have_one_type(folder: Folder, values: list[object], column: pa.Array) -> None:
    found = log(folder, *({"v": value} for value in values)).column("v")
    assert found.type == column.type
    assert repr(found.to_pylist()) == repr(column.to_pylist())


SCALARS = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(max_size=5)
ROWS = st.lists(st.dictionaries(st.sampled_from("abcde"), SCALARS), min_size=1, max_size=80)


@settings(max_examples=200, deadline=None)
@given(ROWS)
def test_no_value_is_lost_or_moved(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, object]]) -> None:
    batch = log(Folder(tmp_path_factory.mktemp("journals")), *rows)
    for key in batch.schema.names[3:]:
        values = [row.get(key) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        wide = next((kind for kind in (str, float, int, bool) if kind in kinds), None)
        for found, value in zip(batch.column(key).to_pylist(), values, strict=True):
            if value is None:
                assert found is None
            elif wide is str:
                assert found == str(value)
            else:
                assert type(found) is wide
                assert found == wide(value) or math.isnan(value)


def test_a_batch_keeps_the_columns_of_the_one_before_it(folder: Folder) -> None:
    journal, batches = folder.new(), HistoryBatches(0)
    reader = JournalReader(journal.files)
    schemas = []
    for n in range(200):
        journal.append({"loss": 1 if n == 0 else 0.5})
        if n % 20 == 0:
            journal.append({"val": 1.0, "note": "x"})
        schemas.append(batches.batch(reader.take()).schema)
    assert len({str(schema) for schema in schemas}) <= 2
    assert schemas[-1].field("loss").type == pa.float64()


def test_columns_that_stay_empty_are_left_out_in_time(folder: Folder) -> None:
    journal, batches = folder.new(), HistoryBatches(0)
    reader = JournalReader(journal.files)
    journal.append({f"k{n}": 1.0 for n in range(500)})
    assert batches.batch(reader.take()).num_columns == 503
    wasted = 0
    while True:
        for _ in range(50):
            journal.append({"loss": 0.5})
        batch = batches.batch(reader.take())
        if batch.num_columns == 4:
            break
        wasted += batch.nbytes
        assert wasted < 1_000_000


def test_batches_are_small_however_sparse_the_rows(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20)
    for n in range(4000):
        journal.append({f"k{n % 900}": n, "n": n})
        journal.append({"text": "x" * (n % 5000)})
    found = batches_of(journal)
    assert sum(batch.num_rows for batch in found) == 8000
    assert all(batch.nbytes < 2.5 * MAX_BATCH_BYTES for batch in found)


def test_large_numbers_of_rows_take_full_batches(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20)
    for n in range(100_000):
        journal.append({"loss": n / 2, "n": n})
    found = batches_of(journal)
    assert [batch.num_rows for batch in found][:-1] == [found[0].num_rows] * (len(found) - 1)
    assert MAX_BATCH_BYTES * 0.9 < found[0].nbytes <= MAX_BATCH_BYTES
    assert pa.Table.from_batches(found).column("n").to_pylist() == list(range(100_000))
