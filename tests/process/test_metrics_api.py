"""Writing and reading tables, over a real daemon and a real socket."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rund
from rund import ColumnRole, ColumnSchema, MetricTableInfo, Run, Table
from rund._transport import metrics_calls

_numbers = itertools.count()


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    with rund.init("project", f"run{next(_numbers)}", root_url=root) as run:
        yield run


@pytest.fixture
def digits(run: Run) -> Table:
    """An input table of three rows."""
    return Table.from_dict({"image": [10, 20, 30], "label": ["a", "b", "c"]}, "train", "digits")


def listed(run: Run) -> list[MetricTableInfo]:
    """The run's tables without their sizes: a sealed one is written anew in the background."""
    return [dataclasses.replace(info, file_size=0) for info in run.metrics]


def test_many_tables_are_listed_in_their_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_calls, "TABLES_OF_A_PAGE", 2)
    names = [info.name for number in range(5) for info in run.add_metrics({"loss": [float(number)]})]
    assert [info.name for info in run.metrics] == names
    assert [table["loss"].to_pylist() for table in run.metrics_tables] == [[0.0], [1.0], [2.0], [3.0], [4.0]]


class TestAddMetrics:
    def test_one_table_with_all_that_belongs_to_it(self, run: Run, digits: Table) -> None:
        [info] = run.add_metrics(
            {"loss": [1, 0.5, None], "hidden": np.eye(3), "label": ["x", "y", "z"]},
            {"loss": {"unit": "nats", "display_name": "Loss"}, "label": ColumnSchema(role=ColumnRole.LABEL)},
            digits,
            "the digits",
            constants={"epoch": 3, "split": "train"},
            stream_name="validation",
        )
        assert info.name == "metrics_0001"
        assert info.url == "metrics/metrics_0001"
        assert (info.row_count, info.sealed, info.stream_name) == (3, True, "validation")
        assert info.foreign_table_url == digits.url
        assert info.foreign_table_display_name == "the digits"
        assert info.constants == {"epoch": 3, "split": "train"}
        assert info.file_size > 0
        assert info.created is not None
        roles = {column.name: column.role for column in info.columns}
        assert roles == {
            "example_id": ColumnRole.EXAMPLE_ID,
            "loss": ColumnRole.UNSPECIFIED,
            "hidden": ColumnRole.EMBEDDING,
            "label": ColumnRole.LABEL,
            "input_table_id": ColumnRole.INPUT_TABLE_ID,
        }
        [table] = run.metrics_tables
        assert table.url == f"{run.url}/metrics/metrics_0001"
        rows = table.to_arrow()
        assert rows.column("example_id").to_pylist() == [0, 1, 2]
        assert rows.column("loss").to_pylist() == [1.0, 0.5, None]
        assert rows.column("hidden").to_pylist() == np.eye(3).tolist()
        assert rows.column("epoch").to_pylist() == [3, 3, 3]
        assert set(rows.column("input_table_id").to_pylist()) == {info.input_table_id}
        assert rows.schema.field("hidden").type == pa.list_(pa.float32(), 3)
        assert table.schema == rows.schema
        assert listed(run) == [dataclasses.replace(info, file_size=0)]

    def test_the_rows_need_not_be_all_and_may_be_in_any_order(self, run: Run, digits: Table) -> None:
        run.add_metrics({"example_id": [2, 0, 2], "loss": [0.1, 0.2, 0.3]}, foreign_table_url=digits.url)
        [table] = run.metrics_tables
        assert table.join(["loss"]).to_pylist() == [
            {"loss": 0.1, "image": 30, "label": "c"},
            {"loss": 0.2, "image": 10, "label": "a"},
            {"loss": 0.3, "image": 30, "label": "c"},
        ]
        joined = table.join(input_columns=["label"])
        assert joined.column_names == ["example_id", "loss", "input_table_id", "label"]

    def test_a_join_keeps_columns_of_one_name_apart(self, run: Run, digits: Table) -> None:
        run.add_metrics({"label": ["p", "q", "r"]}, foreign_table_url=digits)
        [table] = run.metrics_tables
        assert table.join(["label"], ["label"]).to_pydict() == {
            "label": ["p", "q", "r"],
            "label_input": ["a", "b", "c"],
        }

    def test_a_table_without_an_input_table(self, run: Run) -> None:
        run.add_metrics({"loss": [1.5]}, name="plain")
        [table] = run.metrics_tables
        assert table.to_arrow().column_names == ["loss"]
        assert table.foreign_table_url == ""
        with pytest.raises(rund.WrongStateError):
            table.join()

    @pytest.mark.parametrize(
        "metrics",
        [
            {"a": [1, 2], "b": np.array([0.5, 1.5])},
            pa.table({"a": [1, 2], "b": [0.5, 1.5]}),
            pa.record_batch({"a": [1, 2], "b": [0.5, 1.5]}),
            pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}),
            pl.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}),
            {"a": pl.Series([1, 2]), "b": pd.Series([0.5, 1.5])},
            {"a": pa.chunked_array([[1], [2]]), "b": pa.array([0.5, 1.5])},
        ],
        ids=lambda metrics: type(metrics).__name__,
    )
    def test_whatever_it_is_given_as(self, run: Run, metrics: Any) -> None:
        run.add_metrics(metrics)
        assert run.metrics_tables[0].to_arrow().to_pydict() == {"a": [1, 2], "b": [0.5, 1.5]}

    def test_the_older_form(self, run: Run, digits: Table) -> None:
        [info] = run.add_metrics_data({"a": [1, 2, 3]}, {"a": {"unit": "s"}}, digits.url, "losses", "stream")
        assert info.name == "losses_0001"
        assert info.stream_name == "stream"
        assert info.foreign_table_url == digits.url
        assert run.metrics_tables[0].columns[1].unit == "s"

    def test_a_file_is_registered_as_the_foreign_table(self, run: Run, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({"q": [5, 6]}), path)
        run.add_metrics({"a": [1, 2]}, foreign_table_url=path)
        assert run.metrics_tables[0].join(["a"]).to_pydict() == {"a": [1, 2], "q": [5, 6]}

    def test_no_rows(self, run: Run) -> None:
        run.add_metrics({"a": np.zeros(0), "v": np.zeros((0, 4))})
        [table] = run.metrics_tables
        assert len(table) == 0
        assert table.to_arrow().num_rows == 0
        assert table.schema.field("v").type == pa.list_(pa.float32(), 4)

    def test_many_columns_and_many_rows(self, run: Run) -> None:
        wide = {f"c{number}": np.arange(10) for number in range(500)}
        long = {"v": np.random.default_rng(0).random((40_000, 64), np.float32), "n": np.arange(40_000)}
        run.add_metrics(wide)
        run.add_metrics(long)
        first, second = run.metrics_tables
        assert first.to_arrow().num_columns == 500
        back = second.to_arrow()
        np.testing.assert_array_equal(back.column("n").to_numpy(), long["n"])
        vectors = back.column("v").combine_chunks().flatten().to_numpy().reshape(-1, 64)
        np.testing.assert_array_equal(vectors, long["v"])

    def test_faults_change_nothing(self, run: Run, digits: Table) -> None:
        run.add_metrics({"a": [1]}, name="taken")
        before = listed(run)
        faults: list[tuple[type[Exception], type[Exception], Any]] = [
            (rund.RowCountMismatchError, ValueError, {"metrics": {"a": [1]}, "foreign_table_url": digits}),
            (
                rund.ExampleIdOutOfRangeError,
                ValueError,
                {"metrics": {"example_id": [3]}, "foreign_table_url": digits},
            ),
            (rund.ColumnLengthMismatchError, ValueError, {"metrics": {"a": [1], "b": []}}),
            (rund.InvalidColumnError, ValueError, {"metrics": {"a": [object()]}}),
            (rund.InvalidColumnError, ValueError, {"metrics": {"a": [1]}, "constants": {"a": 1}}),
            (rund.InvalidValueError, ValueError, {"metrics": {"a": [1]}, "constants": {"b": object()}}),
            (rund.InvalidUrlError, ValueError, {"metrics": {"a": [1]}, "foreign_table_url": "s3://x/y"}),
            (rund.InvalidNameError, ValueError, {"metrics": {"a": [1]}, "name": "../x"}),
            (rund.TableNotFoundError, FileNotFoundError, {"metrics": {"a": [1]}, "foreign_table_url": "/none.csv"}),
            (rund.MetricsTableExistsError, FileExistsError, {"metrics": {"a": [1]}, "name": "taken"}),
        ]
        for kind, builtin, arguments in faults:
            with pytest.raises(kind) as caught:
                run.add_metrics(**arguments)
            assert isinstance(caught.value, builtin)
        assert listed(run) == before


class TestRegistering:
    def test_a_table_of_another_run(self, run: Run, root: Path) -> None:
        run.add_metrics({"a": [1, 2]}, stream_name="val")
        [table] = run.metrics_tables
        with rund.init("project", f"run{next(_numbers)}", root_url=root) as other:
            other.add_metrics_table(table)
            other.add_metrics_table(table.url)
            [info] = other.metrics
            assert info.url == table.url
            assert info.name == ""
            assert other.metrics_tables[0].to_arrow() == table.to_arrow()
            for url in (f"{root}/project/runs/none/metrics/x", f"{run.url}/metrics/x", "/no/such/file.arrow"):
                with pytest.raises(FileNotFoundError) as caught:
                    other.add_metrics_table(url)
                assert isinstance(caught.value, rund.RunNotFoundError | rund.MetricsTableNotFoundError)

    def test_infos_are_added_once_and_their_stream_is_updated(self, run: Run) -> None:
        run.add_metrics({"a": [1]})
        run.update_metrics()
        run.update_metrics(run.metrics)
        run.update_metrics([MetricTableInfo("metrics/metrics_0001", stream_name="other")])
        [info] = run.metrics
        assert info.stream_name == "other"
        with pytest.raises(rund.MetricsTableNotFoundError):
            run.update_metrics([MetricTableInfo("metrics/none")])


class TestMetricsWriter:
    def test_arrow_batches_of_all_kinds_in_a_row(self, run: Run) -> None:
        plain = pa.record_batch({"x": pa.array(range(10)), "v": pa.array([[1.0, 2.0]] * 10, pa.list_(pa.float32(), 2))})
        large = pa.record_batch({"x": pa.array(range(400_000)), "v": pa.nulls(400_000, plain.schema.field("v").type)})
        wider = plain.append_column("name", pa.array(["a", None] * 5))
        lists = pa.record_batch({"x": pa.array([1, 2]), "names": pa.array([["a"], ["b", "c"]])})
        told = pa.record_batch(
            {"x": pa.array(range(3)).dictionary_encode(), "v": pa.nulls(3, plain.schema.field("v").type)}
        )
        given = [plain, plain, plain.slice(3, 4), plain.slice(0, 0), large, wider, wider, lists, lists, told, plain]
        with run.metrics_writer() as writer:
            for batch in given:
                writer.add_batch(batch)
        rows = rund.Table.from_url(f"{run.url}/{writer.close().url}").to_arrow().to_pylist()
        expected = [{"v": None, "name": None, "names": None} | row for batch in given for row in batch.to_pylist()]
        assert rows == expected

    def test_batches_can_be_read_before_it_closes(self, run: Run, digits: Table) -> None:
        with run.metrics_writer(foreign_table_url=digits, constants={"epoch": 1}) as writer:
            writer.add_batch({"loss": [1, 2]})
            writer.flush()
            [info] = Run.from_url(run.url).metrics
            assert (info.row_count, info.sealed) == (2, False)
            writer.add_row({"loss": 0.5})
            assert len(run.metrics_tables[0]) == 3, "reading through the run flushes"
        closed = writer.close()
        assert (closed.row_count, closed.sealed) == (3, True)
        rows = run.metrics_tables[0].to_arrow()
        assert rows.column("example_id").to_pylist() == [0, 1, 2]
        assert rows.column("loss").to_pylist() == [1.0, 2.0, 0.5]
        with pytest.raises(rund.WrongStateError):
            writer.add_row({"loss": 1})

    def test_columns_may_come_later_and_be_absent(self, run: Run) -> None:
        with run.metrics_writer(column_schemas={"a": {"unit": "s"}, "b": {"unit": "m"}}) as writer:
            writer.add_batch({"a": [1]})
            writer.add_batch(pa.table({"b": ["x"], "a": [0.5]}))
            writer.add_row({"c": None})
        assert run.metrics_tables[0].to_arrow(["a", "b"]).to_pylist() == [
            {"a": 1.0, "b": None},
            {"a": 0.5, "b": "x"},
            {"a": None, "b": None},
        ]

    def test_writers_that_share_a_name_share_a_table(self, run: Run) -> None:
        def write(number: int) -> None:
            with run.metrics_writer("shared") as writer:
                for row in range(100):
                    writer.add_row({"writer": number, "row": row})
                    if row % 10 == 0:
                        writer.flush()

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        [table] = run.metrics_tables
        rows = table.to_pandas()
        assert len(rows) == 400
        assert not rows.duplicated().any()
        for _, own in rows.groupby("writer"):
            assert list(own["row"]) == list(range(100))

    def test_nothing_written_is_a_table_too(self, run: Run) -> None:
        with run.metrics_writer("empty", constants={"k": 1}):
            pass
        [info] = run.metrics
        assert (info.name, info.row_count) == ("empty", 0)
        assert run.metrics_tables[0].to_arrow().num_rows == 0

    def test_numbered_rows_must_be_all(self, run: Run, digits: Table) -> None:
        with pytest.raises(rund.RowCountMismatchError), run.metrics_writer(foreign_table_url=digits) as writer:
            writer.add_row({"a": 1})
        with run.metrics_writer(foreign_table_url=digits) as writer:
            with pytest.raises(rund.RowCountMismatchError):
                writer.add_batch({"a": [1, 2, 3, 4]})
            with pytest.raises(rund.ExampleIdOutOfRangeError):
                writer.add_batch({"example_id": [7]})
            writer.abort()

    def test_a_table_that_is_not_there(self, run: Run) -> None:
        with pytest.raises(rund.TableNotFoundError):
            run.metrics_writer(foreign_table_url="/none.parquet")

    def test_a_sealed_table_takes_no_more(self, run: Run) -> None:
        run.add_metrics({"a": [1]}, name="done")
        writer = run.metrics_writer("done")
        writer.add_batch({"a": [2]})
        with pytest.raises(RuntimeError) as caught:
            writer.flush()
        assert isinstance(caught.value, rund.TableSealedError)
        writer.abort()

    def test_an_error_in_the_block_keeps_what_was_written(self, run: Run) -> None:
        with contextlib.suppress(KeyError), run.metrics_writer() as writer:
            writer.add_row({"a": 1})
            raise KeyError
        [info] = run.metrics
        assert (info.row_count, info.sealed) == (1, False)


class TestLog:
    def test_history(self, run: Run) -> None:
        for step in range(5):
            run.log({"loss": 1 / (step + 1)})
        rund.log({"accuracy": 0.5}, step=100)
        run.log({"note": "é", "done": True}, 3)
        [history] = run.metrics_tables
        assert history.name == "history"
        rows = history.to_arrow().to_pydict()
        assert rows["step"] == [0, 1, 2, 3, 4, 100, 3]
        assert set(rows["rank"]) == {0}
        assert rows["loss"][:5] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]
        assert rows["accuracy"] == [None] * 5 + [0.5, None]
        assert rows["note"][-1] == "é"
        assert rows["done"][-1] is True
        assert history.schema.field("step").type == pa.int64()
        assert history.schema.field("time").type == pa.timestamp("us", "UTC")

    def test_flush_makes_it_visible_to_others(self, run: Run) -> None:
        run.log({"loss": 1.0})
        run.flush(timeout=30)
        assert len(Run.from_url(run.url).metrics_tables[0]) == 1

    def test_without_an_active_run(self) -> None:
        rund.set_active_run(None)
        with pytest.raises(RuntimeError, match=r"rund\.init"):
            rund.log({"a": 1})
        rund.close()
