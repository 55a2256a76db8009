"""A catalog that is lost is made again from the files, and nothing that was acknowledged is lost or doubled."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet  # for pa.parquet
import pytest
from rund_pb.v1 import metrics_pb2, run_pb2, run_service_pb2, table_service_pb2

from tests.process.raw_daemon import (
    RawDaemon,
    arrow_stream,
    closing,
    create_run,
    create_table,
    new_id,
    opening,
    read,
    read_input_table,
    running,
    values,
    write,
    write_table,
)

from .kill_rounds import wait_for

pytestmark = pytest.mark.chaos

RUND = Path(sys.executable).with_name("rund")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def fsck(daemon: RawDaemon, *flags: str, code: int = 0) -> dict[str, Any]:
    """What `rund fsck` says of the root."""
    command = [str(RUND), "fsck", "--root", str(daemon.root), "--json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


def column(daemon: RawDaemon, table: str, name: str = "x") -> list[Any]:
    found: list[Any] = read(daemon, table).column(name).to_pylist()
    return found


def snapshots_written(daemon: RawDaemon) -> None:
    """Waits until every run.json says what the catalog says: it follows within a second or two."""
    deadline = time.monotonic() + 60
    every = run_service_pb2.ListRunsRequest(parent="projects/-", show_deleted=True, page_size=1000)
    while time.monotonic() < deadline:
        runs = daemon.rpc.ListRuns(every).runs
        revisions = {
            content["run"]["uid"]: content["run"]["revision"]
            for path in daemon.root.glob("**/run.json")
            if (content := json.loads(path.read_text()))
        }
        if all(f"{revisions.get(run.uid, 0):x}" == run.etag for run in runs):
            return
        time.sleep(0.05)
    raise AssertionError("run.json stays behind")


class Filled:
    """A root with one of everything."""

    def __init__(self, daemon: RawDaemon, folder: Path) -> None:
        rows = pa.record_batch({"label": pa.array(["a", "b", "c"])})
        self.input = write_table(daemon, rows, table_id="train", description="letters")
        outside = folder / "outside.parquet"
        pa.parquet.write_table(pa.Table.from_batches([rows]), outside)
        register = table_service_pb2.RegisterTableRequest(url=str(outside), request_id=new_id())
        self.registered = daemon.rpc.RegisterTable(register).table
        self.run = self._run(daemon).name
        self.many = create_table(daemon, self.run, "many", stream_name="s", constants=values({"fold": 3})).name
        schema = metrics_pb2.ColumnSchema(name="x", display_name="X", unit="m", value_map={1: "one"})
        self.foreign = create_table(
            daemon, self.run, "foreign", foreign_table_url=self.input.url, columns=[schema]
        ).name
        ended = create_run(daemon, "ended")
        self.ended = create_table(daemon, ended.name, "t").name
        write(
            daemon, opening(self.ended), *(arrow_stream(n, numbers(n, n + 1)) for n in range(1, 9)), closing(seal=True)
        )
        finish = run_service_pb2.FinishRunRequest(name=ended.name, status=run_pb2.RUN_STATUS_CANCELLED)
        daemon.rpc.FinishRun(finish)
        deleted = create_run(daemon, "deleted")
        self.deleted = deleted.uid
        write(daemon, opening(create_table(daemon, deleted.name, "t").name), arrow_stream(1, numbers(0, 5)), closing())
        daemon.rpc.DeleteRun(run_service_pb2.DeleteRunRequest(name=deleted.name, request_id=new_id()))
        self._write(daemon)

    def _run(self, daemon: RawDaemon) -> run_pb2.Run:
        parameters = values({"lr": 0.5, "nan": float("inf"), "raw": b"\0", "$bytes": {"a": [1, None]}})
        run = run_pb2.Run(description="d", labels={"team": "x"}, parameters=parameters)
        made = create_run(daemon, "all", run=run)
        for number in range(3):
            daemon.rpc.AddInputValue(
                run_service_pb2.AddInputValueRequest(run=made.name, value=values({"i": number}), request_id=new_id())
            )
            daemon.rpc.AddOutputValue(
                run_service_pb2.AddOutputValueRequest(run=made.name, value=values({"o": number}), request_id=new_id())
            )
        for url in (self.registered.url, self.input.url):
            daemon.rpc.AddInputTable(
                run_service_pb2.AddInputTableRequest(run=made.name, table=url, request_id=new_id())
            )
        return made

    def _write(self, daemon: RawDaemon) -> None:
        """Two writers with other columns take turns, so that rows of two open segments lie among each other."""
        other = pa.record_batch({"x": pa.array([-1], pa.int64()), "y": [0.5]})
        for turn in range(1, 6):
            write(daemon, opening(self.many, "a"), arrow_stream(turn, numbers(10 * turn, 10 * turn + 10)), closing())
            write(daemon, opening(self.many, "b"), arrow_stream(turn, other), closing())
        letters = pa.record_batch({"example_id": pa.array([2, 0, 1], pa.int64()), "x": pa.array([1, 2, 3], pa.int64())})
        write(daemon, opening(self.foreign), arrow_stream(1, letters), closing())

    def state(self, daemon: RawDaemon) -> dict[str, Any]:
        """All that can be seen of it."""
        runs = daemon.rpc.ListRuns(run_service_pb2.ListRunsRequest(parent="projects/-", show_deleted=True)).runs
        whole = {run.uid: daemon.rpc.GetRun(run_service_pb2.GetRunRequest(uid=run.uid)).run for run in runs}
        tables = daemon.rpc.ListTables(table_service_pb2.ListTablesRequest(parent="projects/-/datasets/-")).tables
        return {
            "runs": {uid: run.SerializeToString(deterministic=True) for uid, run in whole.items()},
            "tables": [table.SerializeToString(deterministic=True) for table in tables],
            "rows": {name: read(daemon, name).to_pylist() for name in (self.many, self.foreign, self.ended)},
            "input": read_input_table(daemon, self.input.name).to_pylist(),
            "registered": read_input_table(daemon, self.registered.name).to_pylist(),
        }


def remove(catalog: Path) -> None:
    shutil.rmtree(catalog)


def remove_data(catalog: Path) -> None:
    (catalog / "data.mdb").unlink()


def zero(catalog: Path) -> None:
    data = catalog / "data.mdb"
    data.write_bytes(bytes(data.stat().st_size))


def tear(catalog: Path) -> None:
    data = catalog / "data.mdb"
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


def empty(catalog: Path) -> None:
    (catalog / "data.mdb").write_bytes(b"")


def exchange(catalog: Path) -> None:
    """The catalog of another root."""
    other = catalog.parent.with_name("other")
    for stranger in running(other):
        create_run(stranger, "stranger")
        assert stranger.stop() == 0
    shutil.copy2(other / "catalog" / "data.mdb", catalog / "data.mdb")


LONG = [pytest.param(lose, marks=pytest.mark.long) for lose in (remove_data, tear, empty)]


@pytest.mark.parametrize("lose", [remove, zero, exchange, *LONG], ids=lambda lose: lose.__name__)
def test_all_is_as_it_was(daemon: RawDaemon, tmp_path: Path, lose: Callable[[Path], None]) -> None:
    filled = Filled(daemon, tmp_path)
    snapshots_written(daemon)
    sealed_in_the_end = daemon.root / "demo/runs/ended/metrics/t"
    wait_for(lambda: not [*sealed_in_the_end.glob("*.arrows")], lambda: "what has ended is not sealed")
    before = filled.state(daemon)
    daemon.kill()
    lose(daemon.root / "catalog")
    said = fsck(daemon, "--rebuild")
    assert said["sound"], said
    assert said["rebuilt"]["loses"] is False, said
    assert sorted(run["name"] for run in said["rebuilt"]["runs"]) == [
        "projects/demo/runs/all",
        "projects/demo/runs/deleted (in trash)",
        "projects/demo/runs/ended",
    ]
    assert said["rebuilt"]["input_tables"] == 2
    kept = said["rebuilt"]["kept_aside"]
    assert (kept is None) == (lose in (remove, remove_data))
    assert kept is None or (Path(kept) / "data.mdb").exists()
    daemon.start()
    assert filled.state(daemon) == before
    # What was acknowledged is known, and what follows is taken.
    for stream, rows in (("a", 60), ("b", 65)):
        answers = write(daemon, opening(filled.many, stream), arrow_stream(5, numbers(0, 5)), closing())
        assert answers[0].opened.committed_sequence == 5
        assert answers[-1].closed.metrics_table.row_count == rows - 5
        answers = write(daemon, opening(filled.many, stream), arrow_stream(6, numbers(0, 5)), closing())
        assert answers[-1].closed.metrics_table.row_count == rows
    undelete = run_service_pb2.UndeleteRunRequest(name="projects/demo/runs/deleted", request_id=new_id())
    daemon.rpc.UndeleteRun(undelete)
    assert column(daemon, "projects/demo/runs/deleted/metrics/t") == list(range(5))
    assert daemon.stop() == 0
    assert fsck(daemon)["findings"] == []
