"""The wheel works with the protobuf runtime that is installed, whichever it is: `make test-protobuf` tries two.

Nothing is imported here but rund and what it depends on, and no fixture of the other tests is used.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rund


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rund.Run]:
    """A run in a root of its own, whose daemon is started by the client."""
    root = tmp_path_factory.mktemp("root")
    with rund.init("smoke", "round trip ✓", root_url=root, parameters=PARAMETERS) as run:
        yield run
    subprocess.run([Path(sys.executable).with_name("rund"), "stop", "--root", root], check=True)


PARAMETERS = {"lr": 0.1, "layers": [64, 10], "big": 2**80, "blob": b"\0\xff", "none": None, "deep": {"inf": math.inf}}


def test_values(run: rund.Run) -> None:
    assert run.parameters == PARAMETERS
    run.add_output_value({"epoch": 1, "nan": math.nan})
    (output,) = run.info.outputs
    assert output["epoch"] == 1
    assert math.isnan(output["nan"])


def test_scalars(run: rund.Run) -> None:
    for step in range(1000):
        run.log({"loss": 1 / (step + 1)}, step)
    history = next(table for table in run.metrics_tables if table.name == "history")
    assert history.to_arrow()["step"].to_pylist() == list(range(1000))
    some = history.to_arrow(["step"], "loss < 0.0015 AND step < 700")
    assert some["step"].to_pylist() == list(range(666, 700))


@pytest.fixture(scope="module")
def animals(run: rund.Run) -> rund.Table:
    return rund.Table.from_dict({"label": ["cat", "dog", "cow"]}, "animals", root_url=run.daemon.root)


def test_rows_about_rows(run: rund.Run, animals: rund.Table) -> None:
    embeddings = np.arange(12, dtype=np.float32).reshape(3, 4)
    run.add_metrics({"embedding": embeddings}, foreign_table_url=animals, name="animals", constants={"epoch": 7})
    rows = next(table for table in run.metrics_tables if table.name == "animals").join()
    assert rows["label"].to_pylist() == ["cat", "dog", "cow"]
    assert rows["epoch"].to_pylist() == [7, 7, 7]
    assert rows["embedding"].to_pylist() == embeddings.tolist()


def test_errors_are_decoded(run: rund.Run, animals: rund.Table) -> None:
    with pytest.raises(rund.RunNotFoundError, match="nobody") as caught:
        rund.Run.from_names("nobody", "smoke", run.daemon.root)
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.reason == "RUN_NOT_FOUND"
    with pytest.raises(rund.RowCountMismatchError):
        run.add_metrics({"loss": [1.0]}, foreign_table_url=animals)
