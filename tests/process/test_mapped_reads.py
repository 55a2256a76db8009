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
    """A run with one sealed table: of batches that were handed over and of others, because the columns differ."""
    run = rund.init("p", name, root_url=root)
    with run.metrics_writer("t", constants={"epoch": 3}) as writer:
        for begin in range(0, ROWS, 50_000):
            steps = np.arange(begin, begin + 50_000)
            more = {"text": [None, "x"] * 25_000} if begin >= ROWS // 2 else {}
            writer.add_batch({"step": steps, "v": np.full((50_000, 4), 0.5, np.float32), **more})
    run.finish()
    deadline = time.monotonic() + 60
    while [path.suffix for path in (root / "p/runs" / name / "metrics/t").iterdir()] != [".arrow"]:
        assert time.monotonic() < deadline, "it is not sealed"
        time.sleep(0.01)
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


def write_input_table(root: Path, name: str) -> rund.Table:
    columns = {"n": np.arange(ROWS), "v": np.full((ROWS, 4), 0.5, np.float32), "text": [None, "x"] * (ROWS // 2)}
    return rund.Table.from_dict(columns, name, "mapped", project_name="p", root_url=root)


def test_an_input_table_is_read_without_a_copy(root: Path) -> None:
    table = write_input_table(root, "no-copy")
    table.to_arrow()
    before = pa.total_allocated_bytes()
    rows = table.to_arrow(["n", "v"])
    assert pa.total_allocated_bytes() == before
    spans = mappings("/p/datasets/mapped/tables/no-copy/data.arrow")
    assert all(any(buffer.address in span for span in spans) for buffer in buffers_of(rows))
    assert rows["n"].to_numpy().tolist() == list(range(ROWS))


def test_rows_of_an_input_table_are_the_same_mapped_and_sent(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = write_input_table(root, "both")
    reads: list[Callable[[], pa.Table]] = [
        table.to_arrow,
        lambda: table.to_arrow([]),
        lambda: table.to_arrow(["text", "n"], "n >= 1000 AND n < 1003"),
        lambda: table.to_arrow(["v"], "text = x"),
        lambda: table.to_arrow(None, "n < 0"),
        lambda: table[99_999:100_003],
        lambda: table.head(0),
        lambda: table[ROWS:],
        lambda: table[::-1000],
    ]
    for read in reads:
        mapped = read()
        monkeypatch.setenv("RUND_MAPPING", "0")
        sent = read()
        monkeypatch.delenv("RUND_MAPPING")
        assert mapped.combine_chunks().equals(sent.combine_chunks(), check_metadata=True)
    for column, text in (("nobody", ""), ("n", "nobody = 1"), ("n", "n = (")):
        with pytest.raises(ValueError, match=r"columns|filter"):
            table.to_arrow([column], text)


def test_a_damaged_input_table_is_not_mapped(server: RunningDaemon) -> None:
    table = write_input_table(server.root, "damaged")
    assert table.to_arrow(["n"]).num_rows == ROWS
    with (Path(table.url) / "data.arrow").open("r+b") as file:
        file.seek(4096)
        file.write(bytes(512))
    with pytest.raises(rund.CorruptDataError):
        table.to_arrow(["n"])


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
