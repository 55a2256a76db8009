"""A watcher that comes and goes, while writers write and the daemon is killed: each event once, in order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pytest
import rund
from google.protobuf.field_mask_pb2 import FieldMask
from rund import RunEventType
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import RawDaemon, RefusedError, create_run, new_id, running, values

pytestmark = pytest.mark.chaos

WRITERS = 8


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


@dataclass
class Writer:
    """Changes a run of its own again and again; a request that got no answer is sent again."""

    daemon: RawDaemon
    number: int
    uid: str = ""
    acked: int = 0
    error: list[BaseException] = field(default_factory=list)

    def write(self, until: threading.Event) -> None:
        try:
            run = self.persist(lambda: create_run(self.daemon, f"run-{self.number}", request_id=self.request))
            self.uid, name = run.uid, run.name
            while not until.is_set():
                count = values({"count": self.acked})
                self.persist(
                    lambda count=count: self.daemon.rpc.AddOutputValue(  # type: ignore[misc]  # a default binds it
                        rs.AddOutputValueRequest(run=name, value=count, request_id=self.request)
                    )
                )
            last = run_pb2.Run(name=name, description=f"{self.acked + 1}")
            mask = FieldMask(paths=["description"])
            self.persist(
                lambda: self.daemon.rpc.UpdateRun(
                    rs.UpdateRunRequest(run=last, update_mask=mask, request_id=self.request)
                )
            )
        except BaseException as error:
            self.error.append(error)

    def persist(self, call: Callable[[], run_pb2.Run]) -> run_pb2.Run:
        self.request = new_id()
        while True:
            try:
                answer = call()
            except RefusedError as error:
                if error.code not in ("UNAVAILABLE", "CANCELLED"):
                    raise
                time.sleep(0.02)
            except ValueError as error:
                if not str(error).startswith("Cannot invoke RPC"):  # and then that the channel is closed, in two ways
                    raise
                time.sleep(0.02)
            else:
                self.acked += 1
                return answer


def watch_in_pieces(client: rund.Client, restarts: int, chance: random.Random, until: threading.Event) -> list[int]:
    """Watches from where it was, again and again; gives the revisions in the order in which they came."""
    seen: list[int] = []
    for _ in range(restarts):
        watch = client.watch(after_revision=seen[-1] if seen else 0)
        seen.extend(event.revision for event in islice(watch, chance.randrange(1, 16)))
        watch.close()  # type: ignore[attr-defined]  # it is a generator
    until.set()
    return seen


def test_a_watcher_that_is_restarted_sees_each_event_once_and_in_order(daemon: RawDaemon) -> None:
    until = threading.Event()
    writers = [Writer(daemon, number) for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.write, args=(until,)) for writer in writers]
    client = rund.connect(daemon.root, start=False)
    killer = threading.Thread(target=kill_now_and_then, args=(daemon, 3, until))
    for thread in (*threads, killer):
        thread.start()
    seen = watch_in_pieces(client, 100, random.Random(1), until)
    for thread in (*threads, killer):
        thread.join(60)
    assert not [error for writer in writers for error in writer.error]
    acked = sum(writer.acked for writer in writers)
    # A request that was carried out and lost its answer in a kill was recognised when it came again: no event besides.
    with pytest.raises(rund.InvalidFieldError, match=f"the newest is {acked}"):
        next(client.watch(after_revision=acked + 1))
    last: dict[str, str] = {}
    for event in client.watch(after_revision=seen[-1]):
        assert event.run is not None
        seen.append(event.revision)
        last[event.run.uid] = event.run.description
        if event.revision == acked:
            break
    assert seen == list(range(1, acked + 1)), "each once, in order, and none is missing"
    assert last == {writer.uid: f"{writer.acked}" for writer in writers}


def kill_now_and_then(daemon: RawDaemon, times: int, until: threading.Event) -> None:
    for _ in range(times):
        if until.wait(0.7):
            return
        daemon.restart()


def test_a_watcher_that_lags_is_told_so_and_catches_up(daemon: RawDaemon) -> None:
    """One that does not read holds nobody up, and costs the daemon nothing but its place."""
    run = create_run(daemon, "run")
    client = rund.connect(daemon.root, start=False)
    lagging = client.watch(after_revision=0)
    assert next(lagging).type is RunEventType.CREATED
    for number in range(500):
        count = values({"count": number})
        daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run.name, value=count, request_id=new_id()))
    assert [next(lagging).revision for _ in range(500)] == list(range(2, 502))
