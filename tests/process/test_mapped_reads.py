"""A client on the daemon's host maps sealed files: no row is sent or copied, whatever becomes of files and daemon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund._transport import read_stream
from rund_daemon.authorization import Scope, TokenFile
from rund_pb.v1 import metrics_service_pb2 as ms

from tests.conftest import RunningDaemon
from tests.process.raw_daemon import RawDaemon, create_run, create_table, running, write_batches

ROWS = 200_000


@pytest.fixture(scope="module")
def root(daemon: Callable[..., RunningDaemon]) -> Path:
    return daemon().root


@pytest.fixture
def server(daemon: Callable[..., RunningDaemon]) -> RunningDaemon:
    """One to be killed."""
    return daemon()


def write_run(root: Path, name: str) -> rund.Run:
    """A run with one sealed table: two files, because the columns differ."""
    run = rund.init("p", name, root_url=root)
    with run.metrics_writer("t", constants={"epoch": 3}) as writer:
        for begin in range(0, ROWS, 50_000):
            steps = np.arange(begin, begin + 50_000)
            more = {"text": [None, "x"] * 25_000} if begin >= ROWS // 2 else {}
            writer.add_batch({"step": steps, "v": np.full((50_000, 4), 0.5, np.float32), **more})
    run.finish()
    return run


def mappings(pattern: str) -> list[range]:
    """Where files lie in this process's memory."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    spans = [line.split()[0].split("-") for line in lines if pattern in line]
    return [range(int(begin, 16), int(end, 16)) for begin, end in spans]


def buffers_of(table: pa.Table) -> list[pa.Buffer]:
    return [buffer for column in table.columns for chunk in column.chunks for buffer in chunk.buffers() if buffer]


def test_a_sealed_table_is_read_without_a_copy(root: Path) -> None:
    run = write_run(root, "no-copy")
    (table,) = run.metrics_tables
    table.to_arrow()
    before = pa.total_allocated_bytes()
    rows = table.to_arrow(["step", "v"])
    assert pa.total_allocated_bytes() == before
    assert rows["step"].to_numpy().tolist() == list(range(ROWS))
    spans = mappings("/p/runs/no-copy/metrics/t/")
    found = buffers_of(rows)
    assert len(found) >= 4
    assert all(any(buffer.address in span for span in spans) for buffer in found)
    assert sum(buffer.size for buffer in found) >= ROWS * 24


def test_what_is_mapped_and_what_is_sent_are_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(root, "both")
    (table,) = run.metrics_tables
    for columns in (None, ["text", "epoch", "step"], [], ["v"]):
        mapped = table.to_arrow(columns)
        monkeypatch.setenv("RUND_MAPPING", "0")
        sent = table.to_arrow(columns)
        monkeypatch.delenv("RUND_MAPPING")
        assert mapped.equals(sent, check_metadata=True)
        assert mapped.num_rows == ROWS
        del mapped
    assert not mappings("/p/runs/both/metrics/t/"), "what nobody needs any more is no longer mapped"
    assert table[150_000] == {"step": 150_000, "v": [0.5] * 4, "text": None, "epoch": 3}
    assert table[99_999:100_003]["step"].to_pylist() == [99_999, 100_000, 100_001, 100_002]


def test_mapped_rows_outlive_their_run_and_their_daemon(server: RunningDaemon) -> None:
    run = write_run(server.root, "run")
    rows = run.metrics_tables[0].to_arrow()
    run.delete()
    rund.connect(server.root).collect_trash(min_age_seconds=0)
    assert not list(server.root.rglob("*.arrow"))
    server.kill()
    assert rows["step"].to_numpy().tolist() == list(range(ROWS))


def test_a_run_that_goes_to_trash_meanwhile(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes to trash between the answer that names its files and their opening."""
    run = write_run(root, "to-trash")
    (table,) = run.metrics_tables
    real, moved = read_stream.map_rows, []

    def to_trash(files: Any) -> Any:
        if files and not moved:
            moved.append(run.delete())
        return real(files)

    monkeypatch.setattr(read_stream, "map_rows", to_trash)
    assert table.to_arrow()["step"].to_numpy().tolist() == list(range(ROWS))
    assert moved
    with pytest.raises(FileNotFoundError):
        table.to_arrow()


def test_a_daemon_that_is_killed_in_between(server: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(server.root, "run")
    (table,) = run.metrics_tables
    real, kills = read_stream.map_rows, []

    def kill(files: Any) -> Any:
        if files and not kills:
            server.kill()
            server.start()
            kills.append(True)
        return real(files)

    monkeypatch.setattr(read_stream, "map_rows", kill)
    assert table.to_arrow()["step"].to_numpy().tolist() == list(range(ROWS))
    assert kills


@pytest.fixture
def raw(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root", "--listen", f"unix:{tmp_path}/s", "--listen", "tcp:127.0.0.1:0")


def test_only_who_asks_over_the_unix_socket_is_told_of_files(raw: RawDaemon) -> None:
    table = create_table(raw, create_run(raw).name, "t").name
    write_batches(raw, table, pa.record_batch({"x": range(1_000)}), seal=True)
    asking = ms.ReadMetricsRequest(metrics_table=table, stored_files=True)

    def named(answers: Any) -> list[str]:
        return [file.path for answer in answers for file in answer.stored_files]

    assert not named(raw.rpc.ReadMetrics(ms.ReadMetricsRequest(metrics_table=table)))
    while not (paths := named(raw.rpc.ReadMetrics(asking))):
        time.sleep(0.05)  # it is being sealed
    assert [Path(path).suffix for path in paths] == [".arrow"]
    _, secret = TokenFile(raw.root).add(Scope.READ, "")
    (tcp,) = (address for address in raw.address_file()["addresses"] if address.startswith("tcp:"))
    with raw.new_channel(tcp) as channel:
        assert not named(raw.rpc_over(channel, secret).ReadMetrics(asking))
