"""kill -9 while runs are sealed, copied, renamed and deleted: the old state or the new one holds, and no litter."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.chaos.kill_rounds import check_root, wait_for
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    copy_run,
    create_run,
    create_table,
    get_run,
    new_id,
    opening,
    read,
    running,
    write,
)

pytestmark = pytest.mark.chaos

RUNS = 5


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


@dataclass
class Player:
    """Changes one run again and again, and knows what must be there of it whatever happens.

    Attributes:
        daemon: is killed under it.
        uid: of its run.
        sent: the batches that it has sent to the run's table, ten rows each; the last of them may not be acked.
        acked: the batches that were acked.
        chance: decides what it does next.
    """

    daemon: RawDaemon
    uid: str
    chance: random.Random
    sent: int = 0
    acked: int = 0
    copies: list[str] = field(default_factory=list)

    def find(self) -> run_pb2.Run:
        """Its run, wherever it is now."""
        return self.daemon.rpc.GetRun(rs.GetRunRequest(uid=self.uid)).run

    def play(self, until: threading.Event) -> None:
        """Does one thing after the other until the daemon is gone."""
        moves = [self.append, self.append, self.rename, self.seal, self.delete_and_restore, self.copy, self.overwrite]
        with suppress(RefusedError, grpc.RpcError, ValueError):
            while not until.is_set():
                self.chance.choice(moves)()

    def append(self) -> None:
        name = self.present()
        committed = self.committed(name)
        self.sent = max(self.sent, committed + 1)
        rows = pa.record_batch({"x": range(self.sent * 10 - 10, self.sent * 10)})
        write(self.daemon, opening(f"{name}/metrics/t", "w"), arrow_stream(self.sent, rows), closing())
        self.acked = self.sent

    def committed(self, name: str) -> int:
        answers = self.daemon.rpc.WriteMetrics(iter([opening(f"{name}/metrics/t", "w")]))
        return next(answers).opened.committed_sequence

    def rename(self) -> None:
        run = run_pb2.Run(name=self.present(), run_name=f"{self.uid[-6:]}-{self.chance.randrange(1000)}")
        self.daemon.rpc.UpdateRun(rs.UpdateRunRequest(run=run, update_mask=FieldMask(paths=["run_name"])))

    def seal(self) -> None:
        self.daemon.rpc.FinishRun(rs.FinishRunRequest(name=self.present()))

    def delete_and_restore(self) -> None:
        name = self.present()
        self.daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name, request_id=new_id()))
        self.daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=name, uid=self.uid, request_id=new_id()))

    def copy(self) -> None:
        operation = copy_run(self.daemon, self.present(), project_name="copies", if_exists=run_pb2.IF_EXISTS_RENAME)
        if operation.run.uid:
            self.copies.append(operation.run.uid)

    def overwrite(self) -> None:
        copy_run(
            self.daemon,
            self.present(),
            project_name="copies",
            run_name=f"of {self.uid}",
            if_exists=run_pb2.IF_EXISTS_OVERWRITE,
        )

    def present(self) -> str:
        """The name of its run, which is taken out of trash if a kill left it there."""
        run = self.find()
        if run.HasField("delete_time"):
            run = self.daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=run.name, uid=self.uid)).run
        return run.name

    def check(self) -> None:
        """All that was acked is there, in order, and at most the batch that was on its way besides."""
        rows = self.rows_of(self.present())
        assert rows == list(range(len(rows)))
        assert self.acked * 10 <= len(rows) <= self.sent * 10
        for uid in self.copies:
            copied = self.daemon.rpc.GetRun(rs.GetRunRequest(uid=uid)).run
            found = self.rows_of(copied.name)
            assert found == list(range(len(found)))

    def rows_of(self, run: str) -> list[int]:
        table = read(self.daemon, f"{run}/metrics/t")
        return table.column("x").to_pylist() if table.num_rows else []


def play_and_kill(daemon: RawDaemon, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    players = []
    for number in range(RUNS):
        run = create_run(daemon, f"run-{number}")
        create_table(daemon, run.name, "t")
        players.append(Player(daemon, run.uid, random.Random(seed * 100 + number)))
    for number in range(rounds):
        until = threading.Event()
        threads = [threading.Thread(target=player.play, args=(until,)) for player in players]
        for thread in threads:
            thread.start()
        time.sleep(chance.uniform(0.1, 0.6))
        wait_for(
            lambda: sum(player.acked for player in players) > number or not any(t.is_alive() for t in threads),  # noqa: B023
            lambda: "they come to nothing",
        )
        daemon.process.kill()
        until.set()
        for thread in threads:
            thread.join()
        daemon.kill()
        daemon.start()
        for player in players:
            player.check()
    assert sum(player.acked for player in players) > rounds, "they hardly got to do anything"
    assert daemon.stop() == 0
    check_root(daemon.root)
    assert not daemon.log("request_failed")
    assert not daemon.log("folder_move_failed")
    assert all(line["damaged"] == 0 for line in daemon.log("recovered"))


def test_runs_that_change_while_the_daemon_is_killed(daemon: RawDaemon) -> None:
    play_and_kill(daemon, rounds=6, seed=1)


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 5))
def test_runs_that_change_while_the_daemon_is_killed_all_the_time(daemon: RawDaemon, seed: int) -> None:
    play_and_kill(daemon, rounds=60, seed=seed)


@pytest.mark.parametrize(
    "change",
    [
        lambda d, name: d.rpc.DeleteRun(rs.DeleteRunRequest(name=name)),
        lambda d, name: d.rpc.FinishRun(rs.FinishRunRequest(name=name)),
        lambda d, name: d.rpc.CopyRun(rs.CopyRunRequest(name=name, run_name=f"copy-of-{name.rpartition('/')[2]}")),
    ],
    ids=["delete", "seal", "copy"],
)
def test_what_was_answered_before_the_kill_holds(daemon: RawDaemon, change: Callable[[RawDaemon, str], object]) -> None:
    """The answer came, so the new state is there; what it set going is finished or gone."""
    for number in range(3):
        run = create_run(daemon, f"run-{number}")
        table = create_table(daemon, run.name, "t").name
        rows = pa.record_batch({"x": range(10)})
        write(daemon, opening(table), *(arrow_stream(sequence, rows) for sequence in range(1, 30)), closing())
        change(daemon, run.name)
        expected = get_run(daemon, run.name, show_deleted=True)
        daemon.restart()
        found = get_run(daemon, run.name, show_deleted=True)
        assert (found.status, found.etag, found.HasField("delete_time")) == (
            expected.status,
            expected.etag,
            expected.HasField("delete_time"),
        )
        if found.HasField("delete_time"):
            daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=run.name))
        assert read(daemon, table).num_rows == 290
    assert daemon.stop() == 0
    check_root(daemon.root)
