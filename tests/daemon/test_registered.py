"""Tables read where they lie: files that pyarrow, pandas, Polars and people wrote."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rund_daemon.errors import ExhaustedError, InvalidError, NotFoundError, Reason
from rund_daemon.model import TableFormat
from rund_daemon.segments import registered_csv
from rund_daemon.segments.arrow_headers import file_batch_rows, stream_headers
from rund_daemon.segments.registered import probe, scan
from rund_daemon.segments.row_window import RowWindow

ROWS = 1_000
CHUNK = 128


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=CHUNK)


def write_arrow_file(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=CHUNK)


def write_arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=CHUNK)


def write_csv(table: pa.Table, path: Path) -> None:
    pa.csv.write_csv(table, path)


WRITERS: dict[str, tuple[Callable[[pa.Table, Path], None], TableFormat]] = {
    "t.parquet": (write_parquet, TableFormat.PARQUET),
    "t.arrow": (write_arrow_file, TableFormat.ARROW),
    "t.arrows": (write_arrow_stream, TableFormat.ARROW),
    "t.csv": (write_csv, TableFormat.CSV),
}


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One table in each format."""
    table = pa.table(
        {
            "id": np.arange(ROWS),
            "x": np.arange(ROWS) / 4,
            "name": [None if row % 10 == 0 else f"row {row}" for row in range(ROWS)],
        }
    )
    path = tmp_path / request.param
    WRITERS[request.param][0](table, path)
    return path


def read(path: Path, columns: list[str] | None = None, row_filter: Any = None, **options: Any) -> pa.Table:
    """Probes a table and reads it."""
    found = probe(path)
    batches = list(scan(path, found.format, found.schema, columns, row_filter, **options))
    schema = found.schema if columns is None else pa.schema([found.schema.field(name) for name in columns])
    for batch in batches:
        batch.validate(full=True)
        assert batch.num_rows
        assert batch.schema.equals(schema)
    return pa.Table.from_batches(batches, schema)


class TestEveryFormat:
    def test_probe(self, written: Path) -> None:
        found = probe(written)
        assert found.format is WRITERS[written.name][1]
        assert found.row_count == ROWS
        assert found.file_size == written.stat().st_size
        assert found.schema == pa.schema([("id", pa.int64()), ("x", pa.float64()), ("name", pa.string())])
        assert len(found.content_hash) == 16
        assert probe(str(written)) == found

    def test_all_rows_in_order(self, written: Path) -> None:
        table = read(written)
        assert table["id"].to_pylist() == list(range(ROWS))
        assert table["name"].to_pylist()[:3] == [None, "row 1", "row 2"]

    @pytest.mark.parametrize(
        ("start", "limit"), [(0, 0), (0, 1), (0, CHUNK), (1, CHUNK), (CHUNK - 1, 2), (500, None), (999, 5), (5000, 5)]
    )
    def test_row_ranges(self, written: Path, start: int, limit: int | None) -> None:
        end = None if limit is None else start + limit
        assert read(written, start_row=start, row_limit=limit)["id"].to_pylist() == list(range(ROWS))[start:end]

    def test_columns_in_the_order_asked_for(self, written: Path) -> None:
        table = read(written, ["name", "id"], start_row=200, row_limit=2)
        assert table.to_pydict() == {"name": [None, "row 201"], "id": [200, 201]}

    def test_no_columns_count_rows(self, written: Path) -> None:
        found = probe(written)
        batches = scan(written, found.format, found.schema, [], start_row=10, row_limit=300)
        assert sum(batch.num_rows for batch in batches) == 300

    @pytest.mark.parametrize("filter_columns", [None, ["id"]])
    def test_the_range_comes_before_the_filter(self, written: Path, filter_columns: list[str] | None) -> None:
        table = read(written, ["x"], pc.field("id") >= 195, start_row=190, row_limit=8, filter_columns=filter_columns)
        assert table.to_pydict() == {"x": [48.75, 49.0, 49.25]}

    def test_unknown_and_repeated_columns_are_refused_at_once(self, written: Path) -> None:
        found = probe(written)
        for columns, message in (
            (["id", "nope"], "no column 'nope'; the table has id, x, name"),
            (["id", "id"], "twice"),
        ):
            with pytest.raises(InvalidError, match=message) as caught:
                scan(written, found.format, found.schema, columns)
            assert (caught.value.field, caught.value.reason) == ("columns", Reason.INVALID_COLUMN)

    def test_a_folder_is_read_in_the_order_of_names(self, written: Path, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        write, table_format = WRITERS[written.name]
        for number in (10, 2, 1):
            write(pa.table({"id": [number, number]}), folder / f"part-{number}{written.suffix}")
        for name in (".hidden.csv", "_metadata", "_SUCCESS", "README.md", "state.json"):
            (folder / name).write_text("x")
        found = probe(folder)
        assert (found.format, found.row_count) == (table_format, 6)
        assert read(folder)["id"].to_pylist() == [1, 1, 10, 10, 2, 2]
        assert read(folder, start_row=1, row_limit=4)["id"].to_pylist() == [1, 10, 10, 2]
        assert read(folder, start_row=5)["id"].to_pylist() == [2]

    def test_files_of_a_folder_are_unified(self, written: Path, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        write = WRITERS[written.name][0]
        write(pa.table({"a": [1, 2], "b": ["x", "y"]}), folder / f"1{written.suffix}")
        write(pa.table({"c": [True], "a": [0.5]}), folder / f"2{written.suffix}")
        assert probe(folder).schema == pa.schema([("a", pa.float64()), ("b", pa.string()), ("c", pa.bool_())])
        assert read(folder).to_pylist() == [
            {"a": 1.0, "b": "x", "c": None},
            {"a": 2.0, "b": "y", "c": None},
            {"a": 0.5, "b": None, "c": True},
        ]
        assert read(folder, ["b"], start_row=1).to_pylist() == [{"b": "y"}, {"b": None}]

    def test_no_rows(self, written: Path) -> None:
        WRITERS[written.name][0](pa.table({"a": pa.array([], pa.int64())}), written)
        assert probe(written).row_count == 0
        assert read(written).num_rows == 0

    def test_the_hash_follows_name_size_and_time(self, written: Path) -> None:
        first = probe(written)
        assert probe(written) == first
        os.utime(written, ns=(0, 1))
        second = probe(written)
        assert second.content_hash != first.content_hash
        moved = written.rename(written.with_name(f"moved{written.suffix}"))
        assert probe(moved).content_hash not in (first.content_hash, second.content_hash)

    def test_a_file_that_went_away(self, written: Path) -> None:
        found = probe(written)
        written.unlink()
        with pytest.raises(NotFoundError) as caught:
            scan(written, found.format, found.schema)
        assert (caught.value.field, caught.value.reason) == ("url", Reason.TABLE_NOT_FOUND)

    def test_a_file_whose_column_became_text(self, written: Path) -> None:
        found = probe(written)
        WRITERS[written.name][0](pa.table({"id": ["a"], "x": [0.5], "name": ["b"]}), written)
        with pytest.raises(InvalidError, match=written.name) as caught:
            list(scan(written, found.format, found.schema))
        assert caught.value.field == "url"

    def test_a_read_that_is_given_up_closes_its_file(self, written: Path) -> None:
        found = probe(written)
        batches = scan(written, found.format, found.schema)
        next(batches)
        del batches
        # A block that is being read ahead is read to its end first.
        deadline = time.monotonic() + 60
        while str(written) in {os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()}:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
    def test_a_file_that_is_cut_off(self, written: Path, kept: float) -> None:
        """It is refused, or read as far as it goes (a CSV or a stream may end anywhere); nothing else may happen."""
        written.write_bytes(written.read_bytes()[: int(kept * written.stat().st_size)])
        with contextlib.suppress(InvalidError):
            found = probe(written)
            rows = sum(batch.num_rows for batch in scan(written, found.format, found.schema))
            assert rows == found.row_count < ROWS

    def test_broken_bytes(self, written: Path) -> None:
        """Bytes are flipped all over the file: an answer or an error of ours, never another exception or a crash."""
        whole = written.read_bytes()
        random = np.random.default_rng(0)
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(random.integers(1, 4)):
                data[random.integers(0, len(data))] = random.integers(0, 256)
            written.write_bytes(data)
            with contextlib.suppress(InvalidError, ExhaustedError):
                found = probe(written)
                for batch in scan(written, found.format, found.schema):
                    batch.validate(full=True)


class TestPaths:
    def check(self, path: Path, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            probe(path)
        assert (caught.value.field, caught.value.reason) == ("url", Reason.INVALID_URL)

    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="there is no file or folder") as caught:
            probe(tmp_path / "nope.parquet")
        assert (caught.value.field, caught.value.reason) == ("url", Reason.TABLE_NOT_FOUND)

    def test_not_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        (tmp_path / "t.csv.gz").write_bytes(b"\x1f\x8b")
        (tmp_path / "t.parquet").write_bytes(b"")
        os.mkfifo(tmp_path / "pipe.csv")
        for name in ("notes.txt", "t.csv.gz", "pipe.csv"):
            self.check(tmp_path / name, "is not a Parquet, Arrow or CSV")
        self.check(tmp_path / "t.parquet", "does not begin like one")
        self.check(Path("/tmp/\0.csv"), "can't be read")
        self.check(tmp_path / ("x" * 300), "can't be read")

    def test_folders(self, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        folder.mkdir()
        self.check(folder, "holds no Parquet, Arrow or CSV file")
        write_csv(pa.table({"a": [1]}), folder / "1.csv")
        write_parquet(pa.table({"a": [1]}), folder / "2.parquet")
        self.check(folder, "different formats, '1.csv' and '2.parquet'")
        (folder / "2.parquet").unlink()
        (folder / "_delta_log").mkdir()
        assert probe(folder).row_count == 1
        (folder / "more").mkdir()
        self.check(folder, "holds the folder 'more'")

    def test_files_of_a_folder_that_disagree(self, tmp_path: Path) -> None:
        write_parquet(pa.table({"a": [1]}), tmp_path / "1.parquet")
        write_parquet(pa.table({"a": [[1]]}), tmp_path / "2.parquet")
        with pytest.raises(InvalidError, match=r"2.parquet.*'a' has type int64 so far") as caught:
            probe(tmp_path)
        assert (caught.value.field, caught.value.reason) == ("url", Reason.INVALID_COLUMN)

    def test_a_format_that_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "t"
        write_parquet(pa.table({"a": [1]}), path)
        found = probe(path)
        write_arrow_file(pa.table({"a": [1]}), path)
        with pytest.raises(InvalidError, match="was PARQUET and is ARROW now"):
            scan(path, found.format, found.schema)

    def test_the_order_is_that_of_other_tools(self, tmp_path: Path) -> None:
        for name in ("b", "a10", "a2", "B", "ä", "a-1"):
            write_parquet(pa.table({"name": [name]}), tmp_path / f"{name}.parquet")
        order = read(tmp_path)["name"].to_pylist()
        assert order == ds.dataset(tmp_path).to_table()["name"].to_pylist()
        assert order == pl.scan_parquet(tmp_path).collect()["name"].to_list()

    def test_columns_that_are_not_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "t.arrow"
        union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
        write_arrow_file(pa.table({"u": union}), path)
        with pytest.raises(InvalidError, match="'u' has type sparse_union") as caught:
            probe(path)
        assert (caught.value.field, caught.value.reason) == ("url", Reason.INVALID_COLUMN)
        write_arrow_file(pa.table([[1], [2]], names=["a", "a"]), path)
        with pytest.raises(InvalidError, match="two columns 'a'"):
            probe(path)
        write_arrow_file(pa.table({"a": [1], "b": [2]}), path)
        with pytest.raises(ExhaustedError):
            probe(path, max_columns=1)


def encoded_table() -> pa.Table:
    """Columns that are not plain, and what they hold."""
    vectors = [[1.0, 2.0], None, [3.0, 4.0]] * 100
    texts = ["a", None, "a text that is too long for a view"] * 100
    return pa.table(
        {
            "dictionary": pa.array(texts).dictionary_encode(),
            "view": pa.array(texts, pa.string_view()),
            "runs": pc.run_end_encode(pa.array([1, 1, None] * 100)),
            "list_view": pa.array([[1, 2], None, []] * 100, pa.list_view(pa.int8())),
            "vectors": pa.array(vectors, pa.list_(pa.float32(), 2)),
            "tensor": pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float32(), [2]), pa.array(vectors, pa.list_(pa.float32(), 2))
            ),
            "nested": pa.array(
                [{"a": ["x"]}, None, {"a": [None, "y"]}] * 100, pa.struct([("a", pa.list_(pa.string_view()))])
            ),
        }
    )


class TestArrow:
    @pytest.mark.parametrize("write", [write_arrow_file, write_arrow_stream])
    @pytest.mark.parametrize("start", [0, 1, CHUNK, 290])
    def test_encoded_columns_come_plain(self, tmp_path: Path, write: Callable[..., None], start: int) -> None:
        table, path = encoded_table(), tmp_path / "t.arrow"
        write(table, path)
        found = read(path, start_row=start)
        assert [str(field.type) for field in found.schema] == [
            "string",
            "string",
            "int64",
            "list<item: int8>",
            "fixed_size_list<item: float>[2]",
            "fixed_size_list<item: float>[2]",
            "struct<a: list<item: string>>",
        ]
        for name in ("dictionary", "view", "runs", "list_view", "vectors", "nested"):
            assert found[name].to_pylist() == table[name].to_pylist()[start:]
        assert found["tensor"].to_pylist() == table["vectors"].to_pylist()[start:]

    def test_stream_with_growing_and_replaced_dictionaries(self, tmp_path: Path) -> None:
        path = tmp_path / "t.arrows"
        kind = pa.dictionary(pa.int8(), pa.string())
        texts = [["a", "b"], ["c", None], ["a", "d"], ["e", "e"]]
        for deltas in (True, False):
            options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=deltas)
            schema = pa.schema([("x", kind)])
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema, options=options) as writer:
                for words in texts:
                    writer.write_batch(pa.record_batch({"x": pa.array(words, kind)}))
            for start in range(8):
                assert read(path, start_row=start)["x"].to_pylist() == [w for words in texts for w in words][start:]

    def test_stream_without_its_end(self, tmp_path: Path) -> None:
        path = tmp_path / "t.arrows"
        write_arrow_stream(pa.table({"a": range(ROWS)}), path)
        path.write_bytes(path.read_bytes()[:-8])
        assert read(path)["a"].to_pylist() == list(range(ROWS))

    def test_counting_reads_no_bodies(self, tmp_path: Path) -> None:
        table = pa.table({"x": pa.array(np.zeros((100, 100_000), np.float32).tolist()[:1] * 100)})
        for write in (write_arrow_file, write_arrow_stream):
            path = tmp_path / "t.arrow"
            write(table, path)
            with CountingFile(path) as file:
                is_file = write is write_arrow_file
                rows = file_batch_rows(file) if is_file else [header.rows for header in stream_headers(file)]
                assert sum(rows) == 100
                assert file.bytes_read < 20_000 < path.stat().st_size / 1_000

    def test_polars_and_pandas_files(self, tmp_path: Path) -> None:
        frame = pl.DataFrame(
            {"a": range(300), "c": pl.Series(["x", None, "y"] * 100, dtype=pl.Categorical), "l": [[1], None, []] * 100}
        )
        frame.write_ipc(tmp_path / "file.arrow", compression="zstd")
        frame.write_ipc_stream(tmp_path / "stream.arrow")
        frame.to_pandas().to_feather(tmp_path / "pandas.feather")
        for name in ("file.arrow", "stream.arrow", "pandas.feather"):
            found = read(tmp_path / name, start_row=1, row_limit=3)
            assert found["a"].to_pylist() == [1, 2, 3]
            assert found["c"].to_pylist() == [None, "y", "x"]
            assert [None if row is None else list(row) for row in found["l"].to_pylist()] == [None, [], [1]]
            assert found.schema.field("c").type in (pa.string(), pa.large_string())
            assert found.schema.field("c").metadata is None

    def test_batches_with_values_outside_are_refused(self, tmp_path: Path) -> None:
        """A message with broken offsets would crash whoever reads a value."""
        path = tmp_path / "t.arrow"
        write_arrow_file(pa.table({"a": ["x" * 10] * 10}), path)
        data = path.read_bytes()
        offsets = struct.pack("<4i", 0, 10, 20, 30)
        assert offsets in data
        path.write_bytes(data.replace(offsets, struct.pack("<4i", 0, 10, 2_000_000_000, 30)))
        with pytest.raises(InvalidError, match="can't be read"):
            read(path)


class CountingFile(io.BufferedReader):
    """Counts what is asked of a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self.bytes_read = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data


class TestParquet:
    def test_encoded_columns_come_plain(self, tmp_path: Path) -> None:
        table, path = encoded_table().drop(["runs", "list_view"]), tmp_path / "t.parquet"
        write_parquet(table, path)
        found = read(path, start_row=7)
        assert found.schema.field("dictionary").type == pa.string()
        assert found.schema.field("vectors").type == pa.list_(pa.float32(), 2)
        for name in ("dictionary", "view", "vectors", "nested"):
            assert found[name].to_pylist() == table[name].to_pylist()[7:]

    def test_names_with_dots(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        write_parquet(pa.table({"a": [{"b": 1}], "a.b": [2], "c.d": [3]}), path)
        assert read(path, ["a"]).to_pylist() == [{"a": {"b": 1}}]
        assert read(path, ["c.d", "a.b"]).to_pylist() == [{"c.d": 3, "a.b": 2}]

    def test_pandas_index_and_polars(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"a": [1, 2], "t": pd.to_datetime(["2026-01-01", None])}, index=["x", "y"])
        frame.to_parquet(tmp_path / "pandas.parquet")
        found = read(tmp_path / "pandas.parquet")
        assert found.column_names == ["a", "t", "__index_level_0__"]
        assert found["t"].to_pylist()[1] is None
        pl.DataFrame({"a": [1, None], "s": ["x", "y"]}).write_parquet(tmp_path / "polars.parquet")
        assert read(tmp_path / "polars.parquet").to_pylist() == [{"a": 1, "s": "x"}, {"a": None, "s": "y"}]

    def test_large_rows_make_small_batches(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        random = np.random.default_rng(0)
        pq.write_table(pa.table({"blob": [random.bytes(1 << 20) for _ in range(40)], "id": range(40)}), path)
        found = probe(path)
        sizes = [batch.nbytes for batch in scan(path, found.format, found.schema)]
        assert len(sizes) >= 4
        assert max(sizes) <= 16 << 20

    def test_memory_does_not_grow_with_a_row_group(self, tmp_path: Path) -> None:
        path = tmp_path / "t.parquet"
        values = np.random.default_rng(0).random(25_000_000, dtype=np.float32)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values), 1_000)
        pq.write_table(pa.table({"x": column}), path, row_group_size=25_000, use_dictionary=False)
        del values, column
        found = probe(path)
        before = pa.total_allocated_bytes()
        most = 0
        for _ in scan(path, found.format, found.schema):
            most = max(most, pa.total_allocated_bytes() - before)
        assert found.file_size > 90_000_000
        assert most < 50_000_000


def csv_file(folder: Path, text: str | bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


CELLS = [
    *("", "0", "1", "-7", "0.5", "nan", "true", "x", "0x1", " 3", '"q""\n"', "2026-01-01", "1500-01-01 10:00"),
    *("2026-01-01 10:00", "2026-01-01 10:00:00.123456789", "2026-01-01T10:00Z", "2026-01-01T10:00:00.123456789Z"),
]


class TestCsv:
    @pytest.mark.parametrize(
        ("values", "kind", "expected"),
        [
            (["1", "", "-3"], pa.int64(), [1, None, -3]),
            (["1", "2.5", "1e3"], pa.float64(), [1.0, 2.5, 1000.0]),
            (["0.5", "inf", "-inf"], pa.float64(), [0.5, float("inf"), float("-inf")]),
            (["true", "False", ""], pa.bool_(), [True, False, None]),
            (["1", "true"], pa.string(), ["1", "true"]),
            (["", "", ""], pa.null(), [None, None, None]),
            (["2026-01-01", ""], pa.date32(), [dt.date(2026, 1, 1), None]),
            (["2026-01-01", "2026-01-01 10:00:00.5"], pa.timestamp("us"), None),
            (["2026-01-01T10:00:00.123456789"], pa.timestamp("ns"), None),
            (["2026-01-01T10:00:00Z", "2026-01-01T10:00:00+02:00"], pa.timestamp("us", "UTC"), None),
            (["2026-01-01T10:00:00Z", "2026-01-01T10:00:00"], pa.string(), None),
            (["2026-01-01T10:00:00.5", "2026-01-01T10:00:00.123456789"], pa.timestamp("ns"), None),
            (["1500-01-01T10:00:00", "2026-01-01T10:00:00.123456789"], pa.string(), None),
            (["1500-01-01", "2026-01-01T10:00:00.123456789"], pa.string(), None),
            (["2026-01-01", "1"], pa.string(), ["2026-01-01", "1"]),
            (["007", "8"], pa.int64(), [7, 8]),
            (["0x1F", "8"], pa.string(), ["0x1F", "8"]),
            (["8", "0X1F"], pa.string(), ["8", "0X1F"]),
            (["NA", "DE", "null", '""', ""], pa.string(), ["NA", "DE", "null", "", None]),
            ([" 1", "2 "], pa.int64(), [1, 2]),
            ([" a", "b "], pa.string(), [" a", "b "]),
            (["9223372036854775807", "9223372036854775808"], pa.float64(), [2.0**63, 2.0**63]),
            (['"a,b"', '"line\nbreak"', '"say ""hi"""'], pa.string(), ["a,b", "line\nbreak", 'say "hi"']),
            (["größe", "損失"], pa.string(), ["größe", "損失"]),
        ],
    )
    def test_types(self, tmp_path: Path, values: list[str], kind: pa.DataType, expected: list[Any] | None) -> None:
        path = csv_file(tmp_path, "id,x\n" + "".join(f"{row},{value}\n" for row, value in enumerate(values)))
        found = read(path)
        assert found.schema.field("x").type == kind
        assert found["x"].null_count == values.count("")
        if expected is not None:
            assert found["x"].to_pylist() == expected

    def test_a_word_in_row_a_million(self, tmp_path: Path) -> None:
        """The types hold for the whole file and not for its first block."""
        rows = 1_000_000
        lines = "".join(f"{row},{row},{row}\n" for row in range(rows))
        path = csv_file(tmp_path, f"id,x,y\n{lines}last,0.5,\n")
        found = probe(path)
        assert found.row_count == rows + 1
        assert found.schema == pa.schema([("id", pa.string()), ("x", pa.float64()), ("y", pa.int64())])
        assert read(path, start_row=rows - 1).to_pylist() == [
            {"id": "999999", "x": 999999.0, "y": 999999},
            {"id": "last", "x": 0.5, "y": None},
        ]

    def test_memory_does_not_grow_with_the_file(self, tmp_path: Path) -> None:
        path = tmp_path / "t.csv"
        write_csv(pa.table({"id": np.arange(4_000_000), "x": np.arange(4_000_000) / 7}), path)
        before = pa.total_allocated_bytes()
        most = 0
        found = probe(path)
        for _ in scan(path, found.format, found.schema):
            most = max(most, pa.total_allocated_bytes() - before)
        assert found.file_size > 90_000_000
        assert most < 50_000_000

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.lists(
            st.sampled_from(CELLS),
            min_size=1,
            max_size=60,
        )
    )
    def test_whatever_was_counted_can_be_read_wherever_blocks_begin(self, tmp_path: Path, values: list[str]) -> None:
        path = csv_file(tmp_path, "id,x\n" + "".join(f"{row},{value}\n" for row, value in enumerate(values)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(registered_csv, "_BLOCK_BYTES", 64)
            found = read(path)
        assert found.schema == probe(path).schema
        assert found["id"].to_pylist() == list(range(len(values)))
        assert found["x"].is_null().to_pylist() == [value == "" for value in values]
        if found.schema.field("x").type == pa.string():
            texts = [value.strip('"').replace('""', '"') if value.startswith('"') else value for value in values]
            assert found["x"].to_pylist() == [text or None for text in texts]

    def test_files_of_a_folder_share_types_that_parse_them_all(self, tmp_path: Path) -> None:
        for number, value in enumerate(["true", "1", ""]):
            (tmp_path / f"{number}.csv").write_text(f"a,b\n{value},1\n")
        (tmp_path / "3.csv").write_text("b\n0.5\n")
        assert probe(tmp_path).schema == pa.schema([("a", pa.string()), ("b", pa.float64())])
        assert read(tmp_path)["a"].to_pylist() == ["true", "1", None, None]
        assert read(tmp_path)["b"].to_pylist() == [1.0, 1.0, 1.0, 0.5]

    def test_headers(self, tmp_path: Path) -> None:
        frame = pd.DataFrame({"a": [1, 2]})
        frame.to_csv(tmp_path / "t.csv")
        assert read(tmp_path / "t.csv").to_pydict() == {"unnamed_0": [0, 1], "a": [1, 2]}
        assert read(tmp_path / "t.csv", ["a"]).to_pydict() == {"a": [1, 2]}
        assert read(csv_file(tmp_path, "\ufeffa,b\r\n1,2\r\n")).to_pydict() == {"a": [1], "b": [2]}
        assert read(csv_file(tmp_path, '"a,b","c ""d"""\n1,2\n')).to_pydict() == {"a,b": [1], 'c "d"': [2]}
        assert read(csv_file(tmp_path, "a,b\n")).column_names == ["a", "b"]
        assert read(csv_file(tmp_path, "a\n1\n\n2\n"))["a"].to_pylist() == [1, 2]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "Empty CSV file"),
            ("\n", "can't be read"),
            ("a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
            (b"a,b\n1,\xff\n", "invalid UTF8"),
            (b"a,\xff\n1,2\n", "can't be read"),
            ("a,b\n1,2\n".encode("utf-16"), "can't be read"),
            ("a\n" + "x" * (5 << 20) + "\n", "record of more than 1048576 bytes; write it as Parquet"),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_broken_files(self, tmp_path: Path, text: str | bytes, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            probe(csv_file(tmp_path, text))
        assert (caught.value.field, caught.value.reason) == ("url", Reason.INVALID_URL)

    def test_duplicate_names(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidError, match="two columns 'a'") as caught:
            probe(csv_file(tmp_path, "a,a\n1,2\n"))
        assert (caught.value.field, caught.value.reason) == ("url", Reason.INVALID_COLUMN)


@given(st.lists(st.integers(0, 9)), st.integers(0, 30), st.one_of(st.none(), st.integers(0, 30)))
def test_a_row_window_is_a_slice(chunks: list[int], skip: int, limit: int | None) -> None:
    window = RowWindow(skip, limit)
    rows = list(range(sum(chunks)))
    found: list[int] = []
    begin = 0
    for chunk in chunks:
        first, count = window.take(chunk)
        found += rows[begin : begin + chunk][first : first + count]
        begin += chunk
    assert found == rows[skip : None if limit is None else skip + limit]
    assert window.done == (window.left == 0)
