"""Samples of two runs, or of two epochs, side by side, over a real daemon."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund
from rund import ColumnSchema, Run, Table

_numbers = itertools.count()


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def run(root: Path) -> Iterator[Run]:
    with rund.init("project", f"run{next(_numbers)}", root_url=root) as run:
        yield run


@pytest.fixture
def other(root: Path) -> Iterator[Run]:
    with rund.init("project", f"other{next(_numbers)}", root_url=root) as run:
        yield run


@pytest.fixture
def data(run: Run) -> Table:
    return Table.from_dict({"text": ["good", "bad", "fine"], "loss": [7, 8, 9]}, "train", "reviews")


def test_two_runs_by_their_newest_tables_of_one_input_table(run: Run, other: Run, data: Table) -> None:
    run.add_metrics({"loss": [9.0, 9.0, 9.0]}, foreign_table_url=data)
    run.add_metrics({"loss": [0.5, 0.25, None], "hit": [True, False, True]}, foreign_table_url=data)
    other.add_metrics(
        {"loss": np.float32([1, 2, 3]), "hit": [True, True, False], "extra": [1, 2, 3]}, foreign_table_url=data
    )
    other.add_metrics({"example_id": [0, 1], "loss": [5.0, 5.0]})
    assert run.compare(other, join=["text", "loss"]).to_pydict() == {
        "example_id": [0, 1, 2],
        "loss": [0.5, 0.25, None],
        "loss_other": [1.0, 2.0, 3.0],
        "loss_difference": [0.5, 1.75, None],
        "hit": [True, False, True],
        "hit_other": [True, True, False],
        "hit_difference": [0, 1, -1],
        "text": ["good", "bad", "fine"],
        "loss_input": [7, 8, 9],
    }
    back = other.compare(run, table="metrics_0001", other_table="metrics_0002", columns=["loss"])
    assert back["loss_difference"].to_pylist() == [-0.5, -1.75, None]
    assert run.compare(run, table="metrics_0001", other_table="metrics_0002")["loss_difference"].to_pylist() == [
        -8.5,
        -8.75,
        None,
    ]


def test_epochs_that_are_tables_and_epochs_that_are_rows(run: Run, other: Run, data: Table) -> None:
    for epoch in range(3):
        run.add_metrics({"loss": [epoch, 1, -epoch]}, foreign_table_url=data, constants={"epoch": epoch})
    run.log({"loss": 0.0})  # a newer table, which has no samples
    gained = run.compare(filter="epoch = 0", other_filter="epoch = 2", columns=["loss"])
    assert gained["loss_difference"].to_pylist() == [2, 0, -2]
    with other.metrics_writer("samples", foreign_table_url=data) as writer:
        for epoch in range(3):
            writer.add_batch({"example_id": [2, 0], "epoch": [epoch] * 2, "loss": [epoch, 10 * epoch]})
        live = other.compare(filter="epoch = 0", other_filter="epoch = 2", columns=["loss"])
        assert live.to_pydict() == {
            "example_id": [2, 0],
            "loss": [0, 0],
            "loss_other": [2, 20],
            "loss_difference": [2, 20],
        }
    last = run.compare(other, columns=["epoch", "loss"])
    assert last["epoch_other"].to_pylist() == [2, 2]
    assert last["example_id"].to_pylist() == [0, 2]


def test_other_keys_and_columns_that_have_no_difference(run: Run, other: Run) -> None:
    label = {"label": ColumnSchema(value_map={0: "cat", 1: "dog"})}
    run.add_metrics({"path": ["a", "b", None, "c"], "label": [0, 1, 1, 0], "vector": np.eye(4)}, label)
    other.add_metrics({"path": ["c", "x", "b", None], "label": [1, 1, 1, 1], "vector": np.eye(4)}, label)
    assert run.compare(other, on="path").to_pydict() == {"path": ["b", "c"], "label": [1, 0], "label_other": [1, 1]}
    assert run.compare(other, on="path", columns=["vector"]).column_names == ["path", "vector", "vector_other"]


def test_whole_numbers_stay_exact_while_they_can(run: Run, other: Run) -> None:
    run.add_metrics({"example_id": [0, 1], "n": [2**62 + 1, -(2**62)], "far": [-(2**63), 0]})
    other.add_metrics({"example_id": [0, 1], "n": [1, 1], "far": [2**63 - 1, 0]})
    compared = run.compare(other)
    assert compared["n_difference"].to_pylist() == [-(2**62), 2**62 + 1]
    assert compared["far_difference"].to_pylist() == [2.0**64, 0.0]


def test_what_can_not_be_compared(run: Run, other: Run, data: Table) -> None:
    with pytest.raises(rund.MetricsTableNotFoundError, match="example_id"):
        run.compare(other)
    run.add_metrics({"loss": [1, 2, 3], "loss_other": [1, 2, 3]}, foreign_table_url=data, name="rows")
    with pytest.raises(rund.MetricsTableNotFoundError):
        run.compare(other)
    with pytest.raises(rund.InvalidFieldError, match="the same rows"):
        run.compare()
    with pytest.raises(rund.MetricsTableNotFoundError, match="'none'"):
        run.compare(other, table="none")
    with pytest.raises(rund.MetricsTableNotFoundError, match="loss > 100"):
        run.compare(filter="loss > 1", other_filter="loss > 100")
    with pytest.raises(rund.InvalidFilterError):
        run.compare(filter="loss >", other_filter="loss > 1")
    strange = Table.from_dict({"a": [1, 2, 3]}, "strange", "reviews")
    other.add_metrics({"loss": [1, 2, 3], "loss_other": [1, 2, 3]}, foreign_table_url=strange, name="rows")
    with pytest.raises(rund.InvalidFieldError, match="two input tables"):
        run.compare(other, table="rows")
    with pytest.raises(rund.InvalidColumnError, match="none"):
        run.compare(other, table="rows", on="none")
    with pytest.raises(rund.InvalidColumnError, match="two columns of the result"):
        run.compare(table="rows", filter="loss = 1", other_filter="loss > 1")
    plain = run.add_metrics({"example_id": [0], "loss": [1]})[0]
    with pytest.raises(rund.WrongStateError, match="no input table"):
        run.compare(table=plain.name, other_table="rows", join=["text"], columns=["loss"])
