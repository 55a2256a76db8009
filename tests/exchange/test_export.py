"""Exports are read by other programs, appear whole or not at all, and are of a run that may go on."""

from __future__ import annotations

import base64
import json
import math
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
import rund

RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")
ROWS = 1_000


@pytest.fixture
def run(shared_root: Path, project: str) -> Iterator[rund.Run]:
    """A run that is not finished, with tables of all kinds of columns."""
    live = rund.init(
        project, "a b=c", "about", {"lr": 0.1, "nan": math.nan}, root_url=shared_root, labels={"team": "x"}
    )
    for step in range(ROWS):
        live.log({"loss": step / 2, "word": f"w,{step}"}, step=step)
    vectors = np.arange(80, dtype=np.float32).reshape(20, 4)
    live.add_metrics({"vector": vectors, "raw": [b"\x00\xff"] * 20, "label": list(range(20))}, name="val")
    live.add_output_value({"epoch": 1, "acc": 0.5})
    live.flush()
    yield live
    live.finish()


def test_parquet(run: rund.Run, tmp_path: Path, ask: Any, project: str) -> None:
    exported = ask("export", run.uid, "--to", tmp_path)["runs"][0]
    assert (exported["rows"], exported["left_out"]) == ({"history": ROWS, "val": 20}, {})
    folder = tmp_path / f"project={project}" / "run=a b%3Dc"
    metadata = json.loads((folder / "_run.json").read_text())
    assert (metadata["uid"], metadata["status"], metadata["labels"]) == (run.uid, "RUNNING", {"team": "x"})
    assert (metadata["parameters"], metadata["outputs"]) == ({"lr": 0.1, "nan": "NaN"}, [{"epoch": 1, "acc": 0.5}])
    table = ds.dataset(tmp_path, format="parquet", partitioning="hive").to_table()
    assert table.num_rows == ROWS + 20
    assert set(table["run"].to_pylist()) == {"a b=c"}
    history = pd.read_parquet(folder / "table=history")
    assert history["loss"].tolist() == [step / 2 for step in range(ROWS)]
    found = pl.read_parquet(folder / "table=val/rows.parquet", hive_partitioning=False)
    assert found["vector"].to_list()[1] == [4.0, 5.0, 6.0, 7.0]


def test_duckdb_reads_parquet(run: rund.Run, tmp_path: Path, ask: Any, project: str) -> None:
    ask("export", run.uid, "--to", tmp_path)
    files = f"{tmp_path}/**/*.parquet"
    query = 'SELECT "table", count(*) FROM read_parquet(?, hive_partitioning = true, union_by_name = true) GROUP BY ALL'
    assert dict(duckdb.execute(query, [files]).fetchall()) == {"history": ROWS, "val": 20}


def test_csv(run: rund.Run, tmp_path: Path, ask: Any, project: str) -> None:
    ask("export", run.uid, "--to", tmp_path, "--format", "csv")
    folder = tmp_path / project / "a b=c"
    history = pd.read_csv(folder / "history.csv", parse_dates=["time"])
    assert history["step"].tolist() == list(range(ROWS))
    assert history["word"].tolist() == [f"w,{step}" for step in range(ROWS)]
    assert history["time"].dt.tz is not None
    val = pl.read_csv(folder / "val.csv")
    assert json.loads(val["vector"][1]) == [4.0, 5.0, 6.0, 7.0]
    assert base64.b64decode(val["raw"][0]) == b"\x00\xff"
    assert json.loads((folder / "run.json").read_text())["uid"] == run.uid


def test_tensorboard_files_come_back_as_they_were(
    run: rund.Run, tmp_path: Path, ask: Any, rows: Any, project: str
) -> None:
    exported = ask("export", run.uid, "--to", tmp_path, "--format", "tensorboard")["runs"][0]
    assert exported["left_out"] == {"table 'val': it has no steps": 1}
    ask("import", "tensorboard", tmp_path / project / "a b=c", "--project", f"{project}-2")
    was, now = rows(run.uid), rows(f"{project}-2/a b=c")
    assert [(row["step"], row["time"], row["loss"], row["word"]) for row in now] == [
        (row["step"], row["time"], row["loss"], row["word"]) for row in was
    ]
    # Parameters that are no number in JSON are so in TensorBoard.
    assert ask("show", f"{project}-2/a b=c")["parameters"] == {"lr": 0.1, "nan": "NaN"}


def test_an_export_takes_the_place_of_an_earlier_one_and_of_nothing_else(
    run: rund.Run, tmp_path: Path, ask: Any, project: str
) -> None:
    for rows in (ROWS, ROWS + 1):
        exported = ask("export", run.uid, "--to", tmp_path, "--format", "csv")["runs"][0]
        assert exported["rows"]["history"] == rows
        run.log({"loss": 0.0})
        run.flush()
    folder = tmp_path / project / "a b=c"
    (folder / "run.json").write_text("{}")
    assert "--force" in ask("export", run.uid, "--to", tmp_path, "--format", "csv", code=1)
    ask("export", run.uid, "--to", tmp_path, "--format", "csv", "--force")
    assert json.loads((folder / "run.json").read_text())["uid"] == run.uid
    assert [path.name for path in tmp_path.iterdir()] == [project]


@pytest.mark.chaos
def test_a_killed_export_leaves_the_old_one_and_the_next_removes_its_remains(
    run: rund.Run, tmp_path: Path, shared_root: Path, ask: Any, project: str
) -> None:
    final = tmp_path / project / "a b=c"
    command = [*RUND, "export", run.uid, "--to", str(tmp_path), "--format", "csv", "--root", str(shared_root)]
    killed = 0
    for was_there in (False, True):
        before = (final / "history.csv").read_bytes() if was_there else b""
        for _ in range(3):
            exporting = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            # It has begun to write when its folder is there.
            while exporting.poll() is None and not list(tmp_path.glob(".rund-export-*/new/run.json")):
                time.sleep(0.002)
            exporting.send_signal(signal.SIGKILL)
            killed += exporting.wait() == -signal.SIGKILL
            assert final.exists() or not was_there
            if final.exists():
                content = (final / "history.csv").read_bytes()
                assert content == before or len(content.splitlines()) == ROWS + 1
        ask("export", run.uid, "--to", tmp_path, "--format", "csv")
        assert len((final / "history.csv").read_text().splitlines()) == ROWS + 1
        assert not list(tmp_path.glob(".rund-export-*"))
    assert killed
