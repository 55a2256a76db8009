"""SIGKILL while trash is collected: a run can be restored whole or is gone, and the next start leaves nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
import rund_daemon.failpoints
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.chaos.kill_rounds import check_root, wait_for
from tests.chaos.test_rebuild import snapshots_written
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    create_run,
    create_table,
    opening,
    read,
    values,
    write,
)

pytestmark = pytest.mark.chaos

POINTS = sorted(name for name in rund_daemon.failpoints.FAILPOINTS if name.startswith("collecting."))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    daemon = RawDaemon(tmp_path / "root")
    try:
        yield daemon.start()
    finally:
        daemon.end()


def full_run(daemon: RawDaemon, name: str) -> run_pb2.Run:
    run = create_run(daemon, name)
    for table in ("t", "u"):
        create_table(daemon, run.name, table)
        rows = pa.record_batch({"x": range(100)})
        write(daemon, opening(f"{run.name}/metrics/{table}", "w"), arrow_stream(1, rows), closing())
    daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run.name, value=values({"loss": 0.5})))
    return run


def trash(daemon: RawDaemon, name: str) -> run_pb2.Run:
    run = full_run(daemon, name)
    return daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=run.name)).run


def collect(daemon: RawDaemon) -> None:
    request = rs.CollectTrashRequest(parent="projects/-")
    request.min_age.SetInParent()
    daemon.rpc.CollectTrash(request)


def is_whole_or_gone(daemon: RawDaemon, run: run_pb2.Run) -> bool:
    """Whether it is gone; if not, it is restored, read and deleted again."""
    try:
        name = daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=run.name, uid=run.uid)).run.name
    except RefusedError as error:
        if error.reason != "RUN_NOT_FOUND":
            raise
        return True
    for table in ("t", "u"):
        assert read(daemon, f"{name}/metrics/{table}").column("x").to_pylist() == list(range(100))
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name))
    return False


def check_tidy(daemon: RawDaemon, left: int) -> None:
    """Nothing but so many runs lies in trash, and the start after this one has nothing to do."""
    new = daemon.root / "trash" / "new"
    wait_for(lambda: not [*new.iterdir()], lambda: f"left over: {[*new.iterdir()]}")
    wait_for(lambda: len([*(daemon.root / "trash").iterdir()]) == left + 1, lambda: "trash is not tidy")
    # The run.json of a run that was deleted just now is made in the background, and a kill leaves what it is made of.
    snapshots_written(daemon)
    daemon.kill()
    check_root(daemon.root)
    starts = len(daemon.log("recovered"))
    daemon.start()
    assert [line["unfinished"] for line in daemon.log("recovered")[starts:]] == [0]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_point(daemon: RawDaemon, point: str) -> None:
    other, run = full_run(daemon, "other"), trash(daemon, "run")
    daemon.kill()
    daemon.environment = {"RUND_FAILPOINTS": f"{point}=kill"}
    daemon.start()
    with pytest.raises(RefusedError):
        collect(daemon)
    assert daemon.process.wait(20) < 0
    daemon.environment = {}
    daemon.kill()
    daemon.start()
    assert is_whole_or_gone(daemon, run), "from the first of these points on"
    assert read(daemon, f"{other.name}/metrics/t").num_rows == 100
    check_tidy(daemon, 0)


def kill_at_random(daemon: RawDaemon, rounds: int, seed: int) -> None:
    chance, gone = random.Random(seed), 0
    for number in range(rounds):
        runs = [trash(daemon, f"run-{number}-{part}") for part in range(3)]
        request = rs.CollectTrashRequest(parent="projects/-")
        request.min_age.SetInParent()
        call = daemon.rpc._calls["CollectTrash"].future(request)
        time.sleep(chance.uniform(0.0, 0.03))
        daemon.kill()
        with suppress(grpc.RpcError):
            call.result()
        daemon.start()
        left = [run for run in runs if not is_whole_or_gone(daemon, run)]
        gone += len(runs) - len(left)
        check_tidy(daemon, len(left))
        collect(daemon)
    assert gone > 0
    if rounds > 10:  # of a few, a busy machine may be late each time
        assert gone < 3 * rounds, "each kill came too early or too late"
    assert daemon.stop() == 0
    check_root(daemon.root)


def test_killed_at_random_moments(daemon: RawDaemon) -> None:
    kill_at_random(daemon, rounds=3, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_killed_at_many_random_moments(daemon: RawDaemon) -> None:
    kill_at_random(daemon, rounds=100, seed=2)
