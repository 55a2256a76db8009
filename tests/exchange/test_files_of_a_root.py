"""The files of a root are read by programs that are not rund's: while a daemon serves it, and after it has stopped."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import rund

from tests.conftest import RunningDaemon

SEALED = "metrics_0001"
SEALED_ROWS, OPEN_STEPS = 60_000, 40

TOTALS = {"rows": SEALED_ROWS, "n": SEALED_ROWS * (SEALED_ROWS - 1) // 2, "loss": SEALED_ROWS // 2 * 0.25}
"""Of the sealed table: how many rows, and the sums of two columns. Every second loss is null."""


def write(root: Path, compressed: bool) -> rund.Run:
    """A run that goes on: one table is sealed, and `history` is open."""
    run = rund.init("files", "compressed" if compressed else "plain", root_url=root)
    with run.metrics_writer() as writer:
        for begin in range(0, SEALED_ROWS, 20_000):
            numbers = np.arange(begin, begin + 20_000)
            writer.add_batch(
                {
                    "n": numbers,
                    "loss": [0.25, None] * 10_000,
                    "text": [f"é{number % 7}" for number in numbers],
                    "vector": np.ones((20_000, 4), np.float32),
                }
            )
            writer.flush()  # alone it is not worth a file: those that are handed over are not compressed
    for step in range(OPEN_STEPS):
        run.log({"loss": step / 2}, step=step)
    run.flush()
    while files_of(run, SEALED, ".arrows"):
        time.sleep(0.05)  # it is being sealed
    return run


def by_pyarrow(files: list[Path]) -> dict[str, Any]:
    table = pa.concat_tables([pa.ipc.open_file(pa.memory_map(str(file))).read_all() for file in files])
    table.validate(full=True)
    return totals_of(table)


def by_dataset(files: list[Path]) -> dict[str, Any]:
    return totals_of(ds.dataset(files[0].parent, format="ipc").to_table())


def totals_of(table: pa.Table) -> dict[str, Any]:
    columns = {name: np.nansum(table[name].to_numpy()) for name in ("n", "loss")}
    assert table["vector"].combine_chunks().flatten().to_numpy().sum() == 4 * table.num_rows
    assert table.schema.field("vector").type == pa.list_(pa.float32(), 4)
    return {"rows": table.num_rows, **columns}


def by_pandas(files: list[Path]) -> dict[str, Any]:
    frame = pd.concat([pd.read_feather(file) for file in files])
    assert set(frame["text"]) == {f"é{number}" for number in range(7)}
    return {"rows": len(frame), "n": frame["n"].sum(), "loss": frame["loss"].sum()}


def by_polars(files: list[Path]) -> dict[str, Any]:
    frame = pl.scan_ipc(files).select(pl.len().alias("rows"), pl.col("n").sum(), pl.col("loss").sum()).collect()
    return frame.row(0, named=True)


def by_duckdb(files: list[Path]) -> dict[str, Any]:
    # DuckDB reads Arrow's files through pyarrow.
    rows = ds.dataset(files, format="ipc")
    (found,) = duckdb.execute("SELECT count(*) AS rows, sum(n) AS n, sum(loss) AS loss FROM rows").fetchall()
    assert rows.count_rows() == found[0]
    return dict(zip(("rows", "n", "loss"), found, strict=True))


READERS: tuple[Callable[[list[Path]], dict[str, Any]], ...] = (
    by_pyarrow,
    by_dataset,
    by_pandas,
    by_polars,
    by_duckdb,
)


def files_of(run: rund.Run, table: str, suffix: str) -> list[Path]:
    return sorted((Path(run.url) / "metrics" / table).glob(f"*{suffix}"))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "zstd"])
def live(
    request: pytest.FixtureRequest, daemon: Callable[..., RunningDaemon]
) -> Iterator[tuple[RunningDaemon, rund.Run]]:
    """A daemon, and a run that is being written."""
    running = daemon()
    if request.param:
        running.stop()
        (running.root / "rund.toml").write_text('seal_compression = "zstd"\n')
        running.start()
    run = write(running.root, request.param)
    yield running, run
    run.finish()


def test_a_root_that_is_being_written_and_after_its_daemon_has_stopped(live: tuple[RunningDaemon, rund.Run]) -> None:
    running, run = live
    files = files_of(run, SEALED, ".arrow")
    size = sum(file.stat().st_size for file in files)
    assert (size < SEALED_ROWS * 20) is (run.name == "compressed")
    for read in READERS:
        assert read(files) == TOTALS, read.__name__

    # An open file is a stream without its end. It may have rows behind the committed ones, never less.
    (path,) = files_of(run, "history", ".arrows")
    with pa.ipc.open_stream(path) as stream:
        rows = pa.Table.from_batches(stream)
    assert rows["step"].to_pylist()[:OPEN_STEPS] == list(range(OPEN_STEPS))
    assert pl.read_ipc_stream(path)["loss"].to_list()[:OPEN_STEPS] == [step / 2 for step in range(OPEN_STEPS)]
    frame = pa.ipc.open_stream(io.BytesIO(path.read_bytes())).read_pandas()
    assert list(frame["step"])[:OPEN_STEPS] == list(range(OPEN_STEPS))

    assert running.stop() == 0
    assert not list(running.root.rglob("*.arrows")), "a daemon that stops seals everything"
    for read in READERS:
        assert read(files_of(run, SEALED, ".arrow")) == TOTALS, read.__name__
    (path,) = files_of(run, "history", ".arrow")
    assert list(pd.read_feather(path)["step"]) == list(range(OPEN_STEPS))
    assert pl.read_ipc(path)["loss"].to_list() == [step / 2 for step in range(OPEN_STEPS)]
    document = json.loads((Path(run.url) / "run.json").read_text())
    assert [table["name"] for table in document["metrics"]] == [SEALED, "history"]
    running.start()
