"""Large batches from a client on the daemon's host: as files where that can be done, over the socket where not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund_daemon.authorization import Scope, TokenFile
from rund_pb.v1 import metrics_service_pb2 as ms

from tests.process.raw_daemon import RawDaemon, closing, create_run, create_table, running, write

ROWS = 50_000


@pytest.fixture(scope="module")
def root(daemon: Callable[..., Any]) -> Path:
    return daemon().root


def batch(number: int, rows: int = ROWS) -> dict[str, Any]:
    """Rows of about 2 MB."""
    return {"n": np.arange(number * rows, (number + 1) * rows), "v": np.full((rows, 8), number, np.float32)}


def numbers_of(run: rund.Run) -> list[int]:
    (table,) = run.metrics_tables
    return table["n"].to_pylist()


def test_batches_are_handed_over_and_kept_in_order(root: Path) -> None:
    run = rund.init("hand-over", "plain", root_url=root)
    with run.metrics_writer("t") as writer:
        for number in range(30):
            writer.add_batch(batch(number))
        writer.flush()
        assert list((root / "hand-over/runs/plain/metrics/t").glob("*.arrow")), "nothing was handed over"
    assert numbers_of(run) == list(range(30 * ROWS))
    run.finish()
    deadline = time.monotonic() + 60
    while list((root / "incoming").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_with_an_input_table_and_another_schema_in_between(root: Path) -> None:
    run = rund.init("hand-over", "foreign", root_url=root)
    table = rund.Table.from_dict({"image": list(range(10 * ROWS))}, project_name="hand-over", root_url=root)
    with run.metrics_writer("t", foreign_table_url=table) as writer:
        for number in range(10):
            rows = batch(number)
            writer.add_batch(rows if number != 5 else {**rows, "extra": np.arange(ROWS)})
        writer.flush()
        assert list((root / "hand-over/runs/foreign/metrics/t").glob("*.arrow")), "nothing was handed over"
    rows = run.metrics_tables[0].to_arrow()
    assert rows["example_id"].to_pylist() == rows["n"].to_pylist() == list(range(10 * ROWS))
    assert rows["input_table_id"].null_count == 0
    assert rows["extra"].null_count == 9 * ROWS
    run.finish()


def test_many_writers_of_one_table(root: Path) -> None:
    run = rund.init("hand-over", "many", root_url=root)

    def write_some(writer_number: int) -> None:
        with run.metrics_writer("t") as writer:
            for step in range(12):
                rows = ROWS if step % 3 else 10
                begin = writer_number * 10_000_000 + step * ROWS
                writer.add_batch({"n": np.arange(begin, begin + rows), "v": np.ones((rows, 8), np.float32)})
                if step % 4 == 0:
                    writer.flush()

    threads = [threading.Thread(target=write_some, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = np.array(numbers_of(run))
    for number in range(4):
        mine = found[found // 10_000_000 == number]
        assert len(mine) == 8 * ROWS + 40
        assert (np.diff(mine) > 0).all(), "each once, in the order of its writer"
    run.finish()


def test_a_folder_that_goes_away_sends_the_rest_over_the_socket(root: Path) -> None:
    run = rund.init("hand-over", "fallback", root_url=root)
    with run.metrics_writer("t") as writer:
        writer.add_batch(batch(0))
        writer.flush()
        for folder in (root / "incoming").iterdir():
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        for number in range(1, 8):
            writer.add_batch(batch(number))
    assert numbers_of(run) == list(range(8 * ROWS))
    run.finish()


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root", "--listen", f"unix:{tmp_path}/s", "--listen", "tcp:127.0.0.1:0")


def opening(table: str, *, staging: bool = True) -> ms.WriteMetricsRequest:
    schema = pa.schema({"x": pa.int64()}).serialize().to_pybytes()
    return ms.WriteMetricsRequest(
        open=ms.WriteMetricsRequest.Open(metrics_table=table, stream_id="s", arrow_schema=schema, staging=staging)
    )


def test_only_who_asks_over_the_unix_socket_is_offered_a_folder(raw: RawDaemon) -> None:
    table = create_table(raw, create_run(raw).name, "t").name
    assert write(raw, opening(table), closing())[0].opened.HasField("staging")
    assert not write(raw, opening(table, staging=False), closing())[0].opened.HasField("staging")
    _, secret = TokenFile(raw.root).add(Scope.WRITE, "")
    (tcp,) = (address for address in raw.address_file()["addresses"] if address.startswith("tcp:"))
    with raw.new_channel(tcp) as channel:
        answers = list(raw.rpc_over(channel, secret).WriteMetrics(iter([opening(table), closing()])))
    assert not answers[0].opened.HasField("staging")
