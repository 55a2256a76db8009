"""Ranges, filters and columns over a socket, rows that are followed live, and scalars."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import pytest
from rund_pb.v1 import metrics_service_pb2 as ms

from tests.process.raw_daemon import (
    RawDaemon,
    closing,
    create_run,
    create_table,
    joined,
    new_id,
    opening,
    read,
    running,
    values,
    write,
    write_batches,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("reading") / "root")


@pytest.fixture
def table(daemon: RawDaemon) -> str:
    return create_table(daemon, create_run(daemon).name, "t").name


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


def log(daemon: RawDaemon, run: str, *rows: dict[str, object], **fields: Any) -> int:
    made = [
        ms.LogScalarsRequest.Row(step=row.pop("step"), values=values(row))  # type: ignore[arg-type]
        for row in map(dict, rows)
    ]
    return daemon.rpc.LogScalars(ms.LogScalarsRequest(run=run, rows=made, **fields)).row_count


def test_ranges_filters_and_columns(daemon: RawDaemon, table: str) -> None:
    write_batches(daemon, table, *(pa.record_batch({"x": range(n, n + 10), "y": [n] * 10}) for n in range(0, 100, 10)))
    assert read(daemon, table, start_row=95, row_limit=100).column("x").to_pylist() == [95, 96, 97, 98, 99]
    assert read(daemon, table, row_limit=0).num_rows == 0
    assert read(daemon, table, start_row=100).num_rows == 0
    assert read(daemon, table, filter="x >= 10 AND x < 13 OR x = 99", columns=["x"]).num_rows == 4
    assert read(daemon, table, filter="y = 50", columns=["x"]).column("x").to_pylist() == list(range(50, 60))
    assert read(daemon, table, columns=["y", "x"]).schema.names == ["y", "x"]
    none = read(daemon, table, columns=[])
    assert (none.num_columns, none.num_rows) == (0, 100)
    pieces = list(daemon.rpc.ReadMetrics(ms.ReadMetricsRequest(metrics_table=table)))
    assert pieces[0].schema
    assert (pieces[-1].next_row, pieces[-1].row_count) == (100, 100)


def test_constants_are_columns_to_readers(daemon: RawDaemon) -> None:
    constants = values({"epoch": 3, "tags": ["a", "b"], "mixed": [1, "a"]})
    table = create_table(daemon, create_run(daemon).name, "t", constants=constants).name
    write_batches(daemon, table, numbers(0, 2))
    assert read(daemon, table).to_pylist()[1] == {"x": 1, "epoch": 3, "tags": ["a", "b"], "mixed": "[1, 'a']"}
    assert read(daemon, table, filter="epoch = 3 AND x = 1", columns=["x"]).num_rows == 1


def test_a_reader_follows_a_table_until_it_is_sealed(daemon: RawDaemon, table: str) -> None:
    write_batches(daemon, table, numbers(0, 5))
    pieces = daemon.rpc.ReadMetrics(ms.ReadMetricsRequest(metrics_table=table, follow=True, start_row=3))
    seen = [next(pieces), next(pieces)]
    assert seen[-1].next_row == 5
    write_batches(daemon, table, numbers(5, 10))
    while seen[-1].next_row < 10:
        seen.append(next(pieces))
    write(daemon, opening(table, "sealer"), closing(seal=True))
    seen += list(pieces)
    assert joined(seen).column("x").to_pylist() == list(range(3, 10))


# --- scalars ---


def test_scalars_of_many_callers_land_in_history(daemon: RawDaemon) -> None:
    run = create_run(daemon).name

    def caller(rank: int) -> None:
        for step in range(25):
            log(daemon, run, {"step": step, "loss": step / 2, f"only_{rank}": rank}, request_id=new_id())

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(caller, range(8)))
    found = read(daemon, f"{run}/metrics/history")
    assert found.num_rows == 200
    assert found.schema.names[:3] == ["step", "time", "rank"]
    assert set(found.schema.names[3:]) == {"loss", *(f"only_{rank}" for rank in range(8))}
    for rank in range(8):
        assert found.column(f"only_{rank}").null_count == 175


def test_scalars_keep_their_types_until_they_can_not(daemon: RawDaemon) -> None:
    run = create_run(daemon).name
    log(daemon, run, {"step": 1, "n": 1, "t": "text", "b": True, "big": 2**63 - 1})
    log(daemon, run, {"step": 1_000_000, "n": 0.5, "b": None, "late": b"bytes"}, {"step": -1, "n": None})
    found = read(daemon, f"{run}/metrics/history")
    assert found.column("step").to_pylist() == [1, 1_000_000, -1]
    assert found.column("n").to_pylist() == [1.0, 0.5, None]
    assert found.column("big").to_pylist() == [2**63 - 1, None, None]
    assert found.schema.field("b").type == pa.bool_()
    assert found.column("late").to_pylist() == [None, b"bytes", None]
