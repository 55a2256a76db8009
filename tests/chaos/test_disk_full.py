"""A full disk: writes are refused, nothing acked is lost, reads and deletes work, and it goes on when there is room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rund_pb.v1 import metrics_service_pb2 as ms
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    copy_run,
    create_run,
    create_table,
    get_run,
    get_table,
    new_id,
    opening,
    read,
    running,
    values,
    write,
    write_batches,
    write_table,
)
from tests.process.tiny_disk import MIB, fill, free_bytes, tiny_disk

from .test_rebuild import snapshots_written

pytestmark = pytest.mark.chaos

BATCH = pa.record_batch({"x": np.random.default_rng(0).random(50_000)})
FLOOR = 8 * MIB


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    """A daemon whose root is all there is on a disk of 40 MiB."""
    with tiny_disk(tmp_path / "disk", 40) as disk:
        yield from running(disk / "root", RUND_MIN_FREE_BYTES=str(FLOOR))


def refusal(call: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        call()
    return refused.value


def write_until_full(daemon: RawDaemon, table: str) -> int:
    """Writes batches until one is refused, and gives how many were acked."""
    for sequence in range(1, 1_000):
        try:
            write(daemon, opening(table), arrow_stream(sequence, BATCH), closing())
        except RefusedError as refused:
            if (refused.code, refused.reason) != ("RESOURCE_EXHAUSTED", "NO_SPACE"):
                raise
            return int(refused.metadata["committed_sequence"])
    raise AssertionError("the disk is never full")


def test_rows_stop_at_the_floor_and_go_on_when_there_is_room(daemon: RawDaemon) -> None:
    name = create_run(daemon, "run").name
    table, other = create_table(daemon, name, "t").name, create_table(daemon, name, "other").name
    acked = write_until_full(daemon, table)
    assert acked > 10
    assert get_table(daemon, table).row_count == acked * BATCH.num_rows
    assert free_bytes(daemon.root) >= FLOOR
    for call in (
        lambda: write_batches(daemon, other, BATCH),
        lambda: write_table(daemon, *[BATCH] * 30, table_id="large"),
    ):
        refused = refusal(call)
        assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE")
        assert refused.retry_after_s
        assert int(refused.metadata["min_free_bytes"]) == FLOOR
    assert "NO_SPACE" in str(copy_run(daemon, name).error)
    # Small things still fit into the floor; reading needs nothing.
    daemon.rpc.SetParameters(rs.SetParametersRequest(run=name, parameters=values({"lr": 0.1})))
    assert read(daemon, table, columns=[]).num_rows == acked * BATCH.num_rows
    assert (
        read(daemon, table, start_row=(acked - 1) * BATCH.num_rows).column("x").to_numpy()[-1]
        == BATCH.column(0)[-1].as_py()
    )
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=create_run(daemon).name))
    daemon.restart()
    assert read(daemon, table, columns=[]).num_rows == acked * BATCH.num_rows
    assert refusal(lambda: write_batches(daemon, other, BATCH)).reason == "NO_SPACE"
    # Others make room, and nobody has to tell the daemon.
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name))
    (trashed,) = (path for path in (daemon.root / "trash").iterdir() if (path / "metrics" / "t").exists())
    for path in trashed.glob("metrics/t/*"):
        path.unlink()
    again = create_table(daemon, create_run(daemon, "again").name, "t").name
    assert write_batches(daemon, again, BATCH, BATCH) == 2


def test_a_disk_that_others_fill_to_the_last_byte(daemon: RawDaemon) -> None:
    names = [create_run(daemon, f"run-{number}").name for number in range(60)]
    tables = [create_table(daemon, name, "t").name for name in names[-4:]]
    for table in tables:
        write_batches(daemon, table, BATCH, BATCH)
    snapshots_written(daemon)
    filler = fill(daemon.root.parent / "checkpoint of a model")
    assert free_bytes(daemon.root) == 0
    assert refusal(lambda: write_batches(daemon, tables[0], BATCH)).reason == "NO_SPACE"
    large = rs.SetParametersRequest(run=names[0], parameters=values({"a": "x" * 500_000}))
    refused = refusal(lambda: [daemon.rpc.SetParameters(large) for _ in range(20)])
    assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE")
    for table in tables:
        assert read(daemon, table, columns=[]).num_rows == 100_000
    for name in names[:-1]:
        daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name, request_id=new_id()))
        assert get_run(daemon, name, show_deleted=True).HasField("delete_time")
    # It starts on the full disk too, for reading and deleting.
    daemon.restart()
    assert read(daemon, tables[3], columns=[]).num_rows == 100_000
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=names[-1]))
    filler.unlink()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            run = create_run(daemon, "after").name
            break
        except RefusedError:
            time.sleep(0.05)
    assert write_batches(daemon, create_table(daemon, run, "t").name, BATCH) == 1
    daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=names[-4]))
    assert read(daemon, tables[0], columns=[]).num_rows == 100_000
    assert not daemon.log("request_failed")
    assert daemon.stop() == 0


def test_a_stream_that_meets_the_end_of_the_disk_loses_nothing_acked(daemon: RawDaemon) -> None:
    """The disk fills up under a stream: it ends with the reason, and is opened again where it was."""
    table = create_table(daemon, create_run(daemon).name, "t").name
    filler = daemon.root.parent / "filler"
    acked = 0
    filler.write_bytes(bytes(12 * MIB))
    try:
        for answer in daemon.rpc.WriteMetrics(iter([opening(table), *(arrow_stream(n, BATCH) for n in range(1, 60))])):
            acked = max(acked, answer.ack.committed_sequence)
    except RefusedError as refused:
        assert refused.reason == "NO_SPACE"  # noqa: PT017  # the acks before it are wanted too
        held = int(refused.metadata["committed_sequence"])
    assert 0 < acked <= held
    filler.unlink()
    batches = [arrow_stream(number, BATCH) for number in range(held + 1, held + 11)]
    answers = write(daemon, opening(table), *batches, closing())
    assert answers[0].opened.committed_sequence == held
    assert answers[-1].closed.metrics_table.row_count == (held + 10) * BATCH.num_rows
    found = read(daemon, table).column("x").to_numpy()
    assert np.array_equal(found, np.tile(BATCH.column("x").to_numpy(), held + 10))


def test_a_floor_above_all_there_is(tmp_path: Path) -> None:
    """The same without a disk of its own, where none can be mounted."""
    name, table = "projects/demo/runs/run", "projects/demo/runs/run/metrics/t"
    daemon = RawDaemon(tmp_path / "root").start()
    try:
        create_table(daemon, create_run(daemon, "run").name, "t")
        write_batches(daemon, table, BATCH)
        assert daemon.stop() == 0
        daemon.environment = {"RUND_MIN_FREE_BYTES": "1000000000 GB"}
        daemon.start()
        log = ms.LogScalarsRequest(run=name, rows=[ms.LogScalarsRequest.Row(step=1)])
        for call in (lambda: write_batches(daemon, table, BATCH), lambda: daemon.rpc.LogScalars(log)):
            refused = refusal(call)
            assert (refused.code, refused.reason) == ("RESOURCE_EXHAUSTED", "NO_SPACE")
        assert read(daemon, table).num_rows == BATCH.num_rows
        daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=name))
        assert daemon.stop() == 0
        daemon.environment = {}
        daemon.start()
        daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=name))
        assert write_batches(daemon, table, BATCH) == 1
    finally:
        daemon.end()
