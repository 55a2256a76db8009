"""A disk that fills up while files are handed over: they are refused, nothing acked is lost, nothing is left over."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    create_run,
    create_table,
    get_run,
    get_table,
    new_id,
    read,
    running,
    write_batches,
)
from tests.process.tiny_disk import MIB, fill, free_bytes, tiny_disk

from .handing_over import HandOver
from .kill_rounds import check_root, wait_for
from .test_rebuild import snapshots_written

pytestmark = pytest.mark.chaos

FLOOR = 8 * MIB
ROWS = 250_000
SMALL = pa.record_batch({"x": np.arange(10)})


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    """A daemon whose root is all there is on a disk of 64 MiB."""
    with tiny_disk(tmp_path / "disk", 64) as disk:
        yield from running(disk / "root", RUND_MIN_FREE_BYTES=str(FLOOR))


def numbers(sequence: int) -> pa.RecordBatch:
    """A batch of 2 MB."""
    return pa.record_batch({"n": np.arange((sequence - 1) * ROWS, sequence * ROWS)})


def check_rows(daemon: RawDaemon, table: str, rows: int) -> None:
    assert np.array_equal(read(daemon, table).column("n").to_numpy(), np.arange(rows))


def incoming(daemon: RawDaemon) -> list[Path]:
    return list(daemon.root.glob("incoming/*"))


def check_end(daemon: RawDaemon) -> None:
    """Nothing has gone wrong that is not told, and no file is left over."""
    wait_for(lambda: not incoming(daemon), lambda: f"left: {incoming(daemon)}")
    assert not daemon.log("request_failed")
    assert daemon.stop() == 0
    check_root(daemon.root)


def write_until_refused(call: HandOver, chance_to_fill: Any = None) -> RefusedError:
    for sequence in range(call.committed + 1, 1_000):
        call.put_down(sequence, numbers(sequence))
        if chance_to_fill is not None:
            chance_to_fill(sequence)
        call.name(sequence)
        try:
            call.wait(sequence)
        except RefusedError as refused:
            return refused
    raise AssertionError("the disk is never full")


def check_refusal(refused: RefusedError, call: HandOver) -> None:
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE"), refused
    assert refused.retry_after_s
    assert int(refused.metadata["committed_sequence"]) == call.committed


def test_files_stop_at_the_floor_and_go_on_when_there_is_room(daemon: RawDaemon) -> None:
    run = create_run(daemon, "run").name
    table = create_table(daemon, run, "t").name
    filler = daemon.root.parent / "checkpoint"
    filler.write_bytes(bytes(20 * MIB))
    call = HandOver(daemon, table, numbers(1).schema)
    refused = write_until_refused(call)
    check_refusal(refused, call)
    acked = call.committed
    assert acked > 5
    assert get_table(daemon, table).row_count == acked * ROWS
    # What was refused has gone with its call, and made the room that there was before.
    wait_for(lambda: not incoming(daemon), lambda: f"left: {incoming(daemon)}")
    assert free_bytes(daemon.root) >= FLOOR
    check_rows(daemon, table, acked * ROWS)
    daemon.restart()
    check_rows(daemon, table, acked * ROWS)
    filler.unlink()
    call = HandOver(daemon, table, numbers(1).schema)
    assert call.committed == acked
    for sequence in range(acked + 1, acked + 4):
        call.put_down(sequence, numbers(sequence))
        call.name(sequence)
    call.wait(acked + 3)
    call.close()
    check_rows(daemon, table, (acked + 3) * ROWS)
    check_end(daemon)


def test_a_file_that_there_is_no_room_to_finish(daemon: RawDaemon) -> None:
    """Others take the last byte while a file is with the daemon: no footer can be written, nothing can be moved."""
    names = [create_run(daemon, f"run-{number}").name for number in range(20)]
    table = create_table(daemon, names[0], "t").name
    snapshots_written(daemon)
    filler = daemon.root.parent / "checkpoint"
    call = HandOver(daemon, table, numbers(1).schema)
    refused = write_until_refused(call, lambda sequence: fill(filler) if sequence == 4 else None)
    check_refusal(refused, call)
    assert call.committed == 3
    check_rows(daemon, table, 3 * ROWS)
    wait_for(lambda: not [*daemon.root.glob("incoming/*/*")], lambda: "what was refused is not removed")
    fill(filler)  # what was handed over has left some
    assert free_bytes(daemon.root) == 0
    call = HandOver(daemon, table, numbers(1).schema)
    with pytest.raises(OSError, match="No space"):
        call.put_down(4, numbers(4))
    call.name(4)  # of which there is half
    with pytest.raises(RefusedError):
        call.wait(4)
    for name in names[1:]:
        daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name, request_id=new_id()))
        assert get_run(daemon, name, show_deleted=True).HasField("delete_time")
    daemon.restart()
    check_rows(daemon, table, 3 * ROWS)
    filler.unlink()
    call = HandOver(daemon, table, numbers(1).schema)
    call.put_down(4, numbers(4))
    call.name(4)
    call.wait(4)
    call.close()
    check_rows(daemon, table, 4 * ROWS)
    check_end(daemon)


@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.long), True], ids=["alive", "killed"])
def test_a_client_waits_until_there_is_room(tmp_path: Path, killed: bool) -> None:
    """It falls back to the socket, is refused there, too, and goes on by itself: every row once."""
    with tiny_disk(tmp_path / "disk", 128) as disk:
        for daemon in running(disk / "root", RUND_MIN_FREE_BYTES=str(FLOOR)):
            fill_under_a_client(daemon, killed=killed)
            check_end(daemon)


def fill_under_a_client(daemon: RawDaemon, *, killed: bool) -> None:
    filler = daemon.root.parent / "checkpoint"
    filler.write_bytes(bytes(88 * MIB))
    run = rund.init("demo", "run", root_url=daemon.root)
    table, other = (f"projects/demo/runs/run/metrics/{name}" for name in ("t", "other"))
    create_table(daemon, "projects/demo/runs/run", "other")
    writer = threading.Thread(target=write_all, args=(run, 24))
    writer.start()
    wait_for(lambda: is_full(daemon, other), lambda: "the disk is never full")
    rows = get_table(daemon, table).row_count
    assert 0 < rows < 24 * ROWS
    check_rows(daemon, table, rows)
    if killed:
        daemon.restart()
        assert get_table(daemon, table).row_count >= rows
    assert writer.is_alive()
    filler.unlink()
    writer.join(60)
    assert not writer.is_alive()
    check_rows(daemon, table, 24 * ROWS)
    run.finish()


def write_all(run: rund.Run, batches: int) -> None:
    with run.metrics_writer("t") as writer:
        for sequence in range(1, batches + 1):
            writer.add_batch({"n": numbers(sequence).column(0).to_numpy()})


def is_full(daemon: RawDaemon, table: str) -> bool:
    try:
        write_batches(daemon, table, SMALL)
    except RefusedError as refused:
        assert refused.reason == "NO_SPACE"  # noqa: PT017  # nothing else may be the answer
        return True
    return False
