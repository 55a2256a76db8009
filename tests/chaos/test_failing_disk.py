"""A disk whose syncs fail: what could not be made durable is not acked, and what was acked stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
import rund

from tests.chaos.kill_rounds import check_root, wait_for
from tests.chaos.recorded_writes import STRACE, can_record
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    create_run,
    create_table,
    opening,
    read,
    running,
    write,
)

pytestmark = pytest.mark.chaos


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def row(sequence: int) -> pa.RecordBatch:
    return pa.record_batch({"n": [sequence - 1]})


def write_until_refused(daemon: RawDaemon, table: str, acked: int = 0) -> tuple[int, RefusedError]:
    """Writes batch after batch; gives how many were acked before one was not."""
    for sequence in range(acked + 1, acked + 100):
        try:
            write(daemon, opening(table), arrow_stream(sequence, row(sequence)), closing())
        except RefusedError as refused:
            return sequence - 1, refused
    raise AssertionError("nothing failed")


def go_on(daemon: RawDaemon, table: str, acked: int) -> None:
    """Opens the stream again, and writes on from where the daemon says that it is."""
    opened = next(daemon.rpc.WriteMetrics(iter([opening(table)]))).opened
    assert opened.committed_sequence == acked
    for sequence in range(acked + 1, acked + 6):
        write(daemon, opening(table), arrow_stream(sequence, row(sequence)), closing())
    assert read(daemon, table).column("n").to_pylist() == list(range(acked + 5))


def check_all(daemon: RawDaemon, table: str, rows: int) -> None:
    """As it is after a kill: nothing to repair."""
    daemon.environment = {}
    daemon.restart()
    assert read(daemon, table).column("n").to_pylist() == list(range(rows))
    recovered = daemon.log("recovered")[-1]
    assert (recovered["cut"], recovered["damaged"], recovered["unfinished"]) == (0, 0, 0)
    daemon.kill()
    check_root(daemon.root)


@pytest.mark.parametrize(("fault", "code"), [("eio", "UNAVAILABLE"), ("enospc", "RESOURCE_EXHAUSTED")])
def test_after_a_failed_sync_rows_go_on_in_another_file(daemon: RawDaemon, fault: str, code: str) -> None:
    run = create_run(daemon, "run").name
    table, other = create_table(daemon, run, "t").name, create_table(daemon, run, "other").name
    daemon.kill()
    daemon.environment = {"RUND_FAILPOINTS": f"segment.sync={fault}@4"}
    daemon.start()
    acked, refused = write_until_refused(daemon, table)
    assert (acked, refused.code) == (3, code)
    folder = daemon.root / "demo" / "runs" / "run" / "metrics" / "t"
    (doubted,) = folder.glob("*.arrows")
    size = doubted.stat().st_size
    write(daemon, opening(other), arrow_stream(1, row(1)), closing())
    go_on(daemon, table, acked)
    assert doubted.stat().st_size == size, "nothing more is written where a sync has failed"
    assert len(list(folder.glob("*.arrows"))) == 2
    check_all(daemon, table, acked + 5)


def test_a_new_file_whose_sync_fails_is_taken_back(daemon: RawDaemon) -> None:
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    daemon.kill()
    daemon.environment = {"RUND_FAILPOINTS": "segment.sync=eio@1"}
    daemon.start()
    acked, _ = write_until_refused(daemon, table)
    assert acked == 0
    assert not list((daemon.root / "demo").rglob("*.arrows"))
    go_on(daemon, table, 0)
    check_all(daemon, table, 5)


def test_after_a_failed_commit_the_same_batch_is_taken(daemon: RawDaemon) -> None:
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    assert daemon.stop() == 0  # a killed one's run.json would be made by the next, with a commit of its own
    daemon.environment = {"RUND_FAILPOINTS": "catalog.staged=eio@6"}
    daemon.start()
    acked, refused = write_until_refused(daemon, table)
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "STORAGE_FAILED")
    go_on(daemon, table, acked)
    check_all(daemon, table, acked + 5)


def fail_calls(daemon: RawDaemon, trace: Path, call: str, at: int) -> None:
    """Has a system call on the catalog's file fail, once."""
    if why := can_record(trace.parent):
        pytest.skip(f"no system call can be made to fail: {why}")
    assert STRACE is not None
    file = daemon.root / "catalog" / "data.mdb"
    daemon.wrapper = (
        *(STRACE, "-D", "-f", "-o", str(trace), "-P", str(file)),
        *("-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={at}"),
    )


def test_the_catalogs_sync_fails(daemon: RawDaemon, tmp_path: Path) -> None:
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    assert daemon.stop() == 0  # as above
    fail_calls(daemon, tmp_path / "trace", "fdatasync", 6)
    daemon.start()
    acked, refused = write_until_refused(daemon, table)
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "STORAGE_FAILED")
    go_on(daemon, table, acked)
    daemon.wrapper = ()
    check_all(daemon, table, acked + 5)


@pytest.mark.long
def test_a_page_of_the_catalog_can_not_be_written(daemon: RawDaemon, tmp_path: Path) -> None:
    """If it is the one that ends a commit, LMDB does nothing more: the daemon ends, and the next one knows the rest."""
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    acked, ended = 0, 0
    # Which of a commit's pages it is depends on the commit.
    for at in range(9, 13):
        daemon.kill()
        fail_calls(daemon, tmp_path / f"trace-{at}", "pwrite64", at)
        daemon.start()
        acked, refused = write_until_refused(daemon, table, acked)
        if not refused.reason:
            assert daemon.process.wait(20) == 70
            assert daemon.log("catalog_broken")
            ended += 1
            daemon.wrapper = ()
            daemon.kill()
            daemon.start()
        else:
            assert (refused.code, refused.reason) == ("UNAVAILABLE", "STORAGE_FAILED")
        committed = next(daemon.rpc.WriteMetrics(iter([opening(table)]))).opened.committed_sequence
        assert acked <= committed <= acked + 1, "one whose answer was lost may be there"
        acked = committed
        go_on(daemon, table, acked)
        acked += 5
    assert ended
    daemon.wrapper = ()
    check_all(daemon, table, acked)


@pytest.mark.long
def test_a_trainer_goes_on_when_the_disk_is_well_again(tmp_path: Path) -> None:
    """Every sync fails for a while, here and there; `log` does not notice, and the rows arrive once."""
    faults = ("segment.sync=eio@3", "segment.sync=eio@1", "catalog.staged=eio@9")
    daemon = RawDaemon(tmp_path / "root").start()
    try:
        with rund.init("p", "trains", root_url=daemon.root) as run:
            for number, fault in enumerate((*faults, "segment.sync=eio", "")):
                daemon.kill()
                daemon.environment = {"RUND_FAILPOINTS": fault}
                daemon.start()
                for step in range(number * 50, number * 50 + 50):
                    run.log({"n": step}, step)
                    time.sleep(0.01)
                if fault == "segment.sync=eio":
                    wait_for(lambda: daemon.log("append_failed"), lambda: "no sync was tried")
            run.flush(60)
        assert [row["n"] for row in run.metrics_tables[0].to_arrow().to_pylist()] == list(range(250))
        assert not daemon.log("request_failed")
    finally:
        daemon.end()
