"""Reading tables, and writing and registering input tables, over a real daemon and a real socket."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import rund
from rund import ColumnRole, Run, Table

_numbers = itertools.count()


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    with rund.init("project", f"run{next(_numbers)}", root_url=root) as run:
        yield run


class TestReading:
    @pytest.fixture
    def table(self, run: Run) -> Table:
        run.add_metrics({"n": np.arange(1000), "half": np.arange(1000) / 2, "text": list(map(str, range(1000)))})
        return run.metrics_tables[0]

    def test_columns_filters_and_ranges(self, table: Table) -> None:
        assert table.to_arrow(["half", "n"]).column_names == ["half", "n"]
        assert table.to_arrow(["n"], "n >= 10 AND half < 6")["n"].to_pylist() == [10, 11]
        assert [batch.num_rows for batch in table.scan([])] == [1000]
        rows = pa.Table.from_batches(table.scan(["n"], start_row=990, row_limit=5))
        assert rows["n"].to_pylist() == [990, 991, 992, 993, 994]
        assert table.head(3)["n"].to_pylist() == [0, 1, 2]
        assert list(table.scan(filter="n < 0")) == []

    def test_like_a_sequence(self, table: Table) -> None:
        assert len(table) == table.row_count == 1000
        assert table[3] == {"n": 3, "half": 1.5, "text": "3"}
        assert table[-1]["n"] == 999
        assert table[10:13]["n"].to_pylist() == [10, 11, 12]
        assert table[::-250]["n"].to_pylist() == [999, 749, 499, 249]
        assert table[5:5].num_rows == 0
        assert table["half"].to_pylist()[:3] == [0.0, 0.5, 1.0]
        assert next(iter(table)) == table[0]
        with pytest.raises(IndexError):
            table[1000]

    def test_other_libraries(self, table: Table) -> None:
        assert table.to_pandas(["n"])["n"].sum() == 499_500
        assert table.to_polars(["n"])["n"].sum() == 499_500
        assert table.to_duckdb().aggregate("sum(n)").fetchall() == [(499_500,)]
        assert table.to_duckdb(duckdb.connect()).count("n").fetchall() == [(1000,)]
        assert table.to_duckdb(duckdb.connect(), ["n"], "n < 3").fetchall() == [(0,), (1,), (2,)]

    def test_a_package_that_is_not_there(self, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "polars", None)
        with pytest.raises(ImportError, match="pip install polars") as caught:
            table.to_polars()
        assert isinstance(caught.value, rund.MissingPackageError)

    def test_faults(self, table: Table) -> None:
        with pytest.raises(rund.InvalidColumnError, match="nothing"):
            table.to_arrow(["nothing"])
        with pytest.raises(rund.InvalidFilterError):
            list(table.scan(filter="n >"))
        with pytest.raises(rund.InvalidFieldError):
            list(table.scan(start_row=-1))

    def test_following(self, run: Run) -> None:
        with run.metrics_writer("live") as writer:
            writer.add_batch({"a": [1]})
            writer.flush()
            batches = Run.from_url(run.url).metrics_tables[0].scan(follow=True)
            assert next(batches)["a"].to_pylist() == [1]
            writer.add_batch({"a": [2, 3]})
            writer.flush()
            assert next(batches)["a"].to_pylist() == [2, 3]

    def test_opening_reads_no_rows(self, run: Run) -> None:
        for number in range(30):
            run.add_metrics({"a": [number]})
        tables = run.metrics_tables
        assert [table.row_count for table in tables] == [1] * 30
        assert [table["a"].to_pylist() for table in tables[:3]] == [[0], [1], [2]]


class TestInputTables:
    def test_from_every_library(self, run: Run) -> None:
        values = {"a": [1, 2], "b": ["x", "y"]}
        tables = [
            Table.from_dict(values, "one", "data"),
            Table.from_arrow(pa.table(values), "one", "data"),
            Table.from_pandas(pd.DataFrame(values).astype({"b": "object"}), "two", "data"),
            Table.from_polars(pl.DataFrame(values), "three", "data", description="d", column_schemas={"b": "label"}),
        ]
        assert tables[0].info == tables[1].info, "the same rows under the same name are one table"
        for table in tables:
            assert table.to_arrow().to_pydict() == values
            assert Table.from_url(table.url).info == table.info
        assert tables[3].columns[1].role is ColumnRole.LABEL
        assert Table.from_names("two", "data").url == tables[2].url

    def test_a_name_that_is_taken(self, run: Run) -> None:
        Table.from_dict({"a": [1]}, "taken", "data")
        with pytest.raises(FileExistsError) as caught:
            Table.from_dict({"a": [2]}, "taken", "data")
        assert isinstance(caught.value, rund.TableExistsError)
        assert Table.from_dict({"a": [2]}, "taken", "data", if_exists="rename").name == "taken_0001"

    @pytest.mark.parametrize("form", ["parquet", "arrow", "csv"])
    def test_files_are_read_where_they_lie(self, run: Run, tmp_path: Path, form: str) -> None:
        path, rows = tmp_path / f"rows.{form}", pa.table({"a": [1, 2, 3], "b": ["x", "y", "z"]})
        if form == "parquet":
            pq.write_table(rows, path)
        elif form == "arrow":
            pyarrow.feather.write_feather(rows, str(path), compression="uncompressed")
        else:
            pyarrow.csv.write_csv(rows, path)
        table = Table.register(path, column_schemas={"a": {"unit": "m"}})
        assert (table.url, len(table), table.columns[0].unit) == (str(path), 3, "m")
        assert table.to_arrow().to_pydict() == rows.to_pydict()
        assert table[1] == {"a": 2, "b": "y"}
        assert Table.register(path.as_uri()).url == table.url
        assert Table.from_url(path).name == table.name

    def test_listing(self, run: Run) -> None:
        for name in ("t1", "t2"):
            Table.from_dict({"a": [1]}, name, "listed", project_name="tables")
        client = rund.connect(run.daemon.root)
        assert [table.name for table in client.list_tables("tables", "listed")] == ["t2", "t1"]
        assert {"t1", "t2"} <= {table.name for table in client.list_tables()}

    def test_faults(self, run: Run, tmp_path: Path) -> None:
        for call in (
            lambda: Table.from_url(tmp_path / "none.parquet"),
            lambda: Table.register(tmp_path / "none.parquet"),
            lambda: Table.from_names("none", "data"),
            lambda: Table.from_url(f"{run.daemon.root}/default/datasets/data/tables/none"),
        ):
            with pytest.raises(FileNotFoundError) as caught:
                call()
            assert isinstance(caught.value, rund.TableNotFoundError)
        for refused in (
            lambda: Table.register("s3://bucket/x.parquet"),
            lambda: Table.from_dict({}),
            lambda: Table.from_dict({"a": [1]}, "../x"),
            lambda: Table.from_dict({"a": [1]}, "x", "a/b"),
            lambda: Table.from_names("a/b", "data"),
        ):
            with pytest.raises(ValueError):  # noqa: PT011 - the class is what is promised
                refused()
        with pytest.raises(rund.MetricsTableNotFoundError):
            Table.from_url(f"{run.url}/metrics/none")
