"""Write streams against a real daemon: every batch once, in order, whatever becomes of the connection."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable

import pyarrow as pa
import pytest
from rund._errors import (
    DaemonUnavailableError,
    ForkedProcessError,
    InvalidColumnError,
    OverLimitError,
    RunNotFoundError,
    StreamTakenOverError,
    TableSealedError,
    WaitTimeoutError,
    WrongStateError,
)
from rund._transport import WriteStream

from .conftest import LiveRun

Numbers = Callable[[int, int], pa.RecordBatch]


def values(run: LiveRun, table: str = "t") -> list[object]:
    return [row["n"] for row in run.rows(table)]


def test_batches_are_stored_in_order_and_acknowledged(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    assert [stream.write(numbers(10 * n, 10 * n + 10)) for n in range(20)] == list(range(1, 21))
    stream.wait(timeout=20)
    assert stream.committed == 20
    assert values(run) == list(range(200))
    table = stream.close(timeout=20)
    assert (table.row_count, table.sealed, table.name) == (200, False, stream.table_name)


def test_empty_batches_and_empty_tables(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    stream.write(numbers(0, 0))
    stream.write(numbers(0, 3))
    assert stream.close(seal=True, timeout=20).sealed
    assert values(run) == [0, 1, 2]
    empty = run.stream("empty", schema=pa.schema({"n": pa.int64(), "name": pa.string()}))
    assert empty.close(timeout=20).row_count == 0


def test_the_schema_may_change_between_batches(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    for n in range(6):
        stream.write(numbers(n, n + 1))
        stream.write(pa.RecordBatch.from_pydict({"n": [n + 0.5], "word": [f"w{n}"]}))
    stream.close(timeout=20)
    found = run.rows()
    assert [row["n"] for row in found] == [n / 2 for n in range(12)]
    assert [row["word"] for row in found] == [f"w{n // 2}" if n % 2 else None for n in range(12)]


def test_large_batches_are_split_by_rows(run: LiveRun) -> None:
    stream = run.stream()
    rows = 2_500_000
    batch = pa.RecordBatch.from_pydict({"n": pa.array(range(rows), pa.int64()), "x": pa.array([0.5]).take([0] * rows)})
    assert stream.write(batch) > 3
    texts = pa.RecordBatch.from_pydict({"n": [rows, rows + 1], "text": ["x", "y" * 5_000_000]})
    stream.write(texts)
    stream.write(pa.RecordBatch.from_pydict({"nothing": pa.nulls(2_000_000)}))
    assert stream.close(timeout=60).row_count == rows + 2 + 2_000_000
    with pytest.raises(OverLimitError, match="one row"):
        run.stream("u").write(pa.RecordBatch.from_pydict({"text": ["x" * (70 << 20)]}))


def test_what_is_final_is_raised_from_then_on(run: LiveRun, numbers: Numbers) -> None:
    for stream, error in (
        (WriteStream(run.transport, "projects/p/runs/none/metrics/t", create_missing=True), RunNotFoundError),
        (WriteStream(run.transport, f"{run.name}/metrics/none"), FileNotFoundError),
    ):
        for _ in range(2):
            with pytest.raises(error):
                stream.write(numbers(0, 1))
        with pytest.raises(error):
            stream.wait(1)
        with pytest.raises(error):
            stream.close()


def test_a_bad_batch_ends_the_stream_and_keeps_those_before_it(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    stream.write(numbers(0, 5))
    stream.write(pa.RecordBatch.from_pydict({"n": pa.array([[1]])}))
    with pytest.raises(InvalidColumnError):
        stream.wait(timeout=20)
    assert stream.committed == 1
    with pytest.raises(InvalidColumnError):
        stream.write(numbers(5, 6))
    assert values(run) == list(range(5))


def test_a_sealed_table_takes_nothing(run: LiveRun, numbers: Numbers) -> None:
    first, second = run.stream(), run.stream()
    first.write(numbers(0, 1))
    second.write(numbers(1, 2))
    second.wait(timeout=20)
    first.close(seal=True, timeout=20)
    second.write(numbers(2, 3))
    with pytest.raises(TableSealedError):
        second.wait(timeout=20)


def test_a_closed_stream_takes_nothing(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    stream.write(numbers(0, 1))
    table = stream.close(timeout=20)
    assert stream.close(timeout=20) == table
    with pytest.raises(WrongStateError):
        stream.write(numbers(1, 2))
    stream.wait()


def test_an_aborted_stream_ends_at_once(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    stream.write(numbers(0, 1))
    begin = time.monotonic()
    stream.abort()
    with pytest.raises(WrongStateError):
        stream.write(numbers(0, 1))
    assert time.monotonic() - begin < 1


def test_many_threads_may_write_to_one_stream(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    sequences: list[int] = []
    threads = [
        threading.Thread(target=lambda t=t: sequences.extend(stream.write(numbers(t, t + 1)) for _ in range(200)))
        for t in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sequences) == list(range(1, 1201))
    assert stream.close(timeout=30).row_count == 1200
    assert sorted(values(run)) == [t for t in range(6) for _ in range(200)]


def test_a_stream_goes_on_under_its_old_name(run: LiveRun, numbers: Numbers) -> None:
    first = run.stream(stream_id="again")
    first.write(numbers(0, 5))
    first.close(timeout=20)
    second = run.stream(stream_id="again")
    assert second.write(numbers(5, 6)) == 2
    second.wait(timeout=20)
    third = run.stream(stream_id="again")
    assert third.write(numbers(6, 7)) == 3
    third.wait(timeout=20)
    with pytest.raises(StreamTakenOverError):
        second.wait(100, timeout=20)
    third.abort()


@pytest.mark.long
def test_nothing_is_lost_or_doubled_when_the_daemon_is_killed(own_run: LiveRun, numbers: Numbers) -> None:
    stream = own_run.stream()
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not done.wait(0.001):  # else all that follows would be spent on what was queued
            stream.write(numbers(written, written + 7))
            written += 7

    writer = threading.Thread(target=write)
    writer.start()
    for n in range(4):
        time.sleep(0.05 + 0.1 * n)
        own_run.daemon.kill()
        time.sleep(0.03 * n)
        own_run.daemon.start()
    done.set()
    writer.join()
    assert stream.close(timeout=60).row_count == written > 0
    assert values(own_run) == list(range(written))


def test_a_daemon_that_drains_is_followed_by_the_next_one(own_run: LiveRun, numbers: Numbers) -> None:
    stream = own_run.stream()
    for n in range(300):
        stream.write(numbers(n, n + 1))
        if n % 100 == 50:
            assert own_run.daemon.stop() == 0
            own_run.daemon.start()
    stream.close(timeout=60)
    assert values(own_run) == list(range(300))


def test_a_frozen_daemon_is_noticed_and_the_stream_goes_on(own_run: LiveRun, numbers: Numbers) -> None:
    stream = own_run.stream()
    stream.write(numbers(0, 1))
    stream.wait(timeout=20)
    os.kill(own_run.daemon.process.pid, signal.SIGSTOP)
    try:
        begin = time.monotonic()
        for n in range(1, 100):
            stream.write(numbers(n, n + 1))
        with pytest.raises(WaitTimeoutError):
            stream.wait(timeout=0.5)
        first_call = stream._call
        while stream._call is first_call:
            time.sleep(0.05)
            assert time.monotonic() - begin < 60
    finally:
        os.kill(own_run.daemon.process.pid, signal.SIGCONT)
    stream.close(timeout=60)
    assert values(own_run) == list(range(100))


def test_a_stream_without_a_daemon_loses_patience(own_run: LiveRun, numbers: Numbers) -> None:
    stream = own_run.stream(patience_s=1.0)
    stream.write(numbers(0, 1))
    stream.wait(timeout=20)
    own_run.daemon.stop()
    time.sleep(1.5)
    begin = time.monotonic()
    stream.write(numbers(1, 2))
    with pytest.raises(DaemonUnavailableError):
        stream.wait()
    assert 1.0 <= time.monotonic() - begin < 10
    own_run.daemon.start()
    assert values(own_run) == [0]


FORKER = """
    import os, sys
    import pyarrow as pa
    from rund._errors import ForkedProcessError
    from rund._transport import Transport, WriteStream
    stream = WriteStream(Transport(sys.argv[1]), sys.argv[2], create_missing=True)
    batch = pa.RecordBatch.from_pydict({"n": [1]})
    for _ in range(20):
        stream.write(batch)
        if (pid := os.fork()) == 0:
            for use in (lambda: stream.write(batch), stream.wait, stream.close, stream.open):
                try:
                    use()
                    os._exit(2)
                except ForkedProcessError:
                    pass
            stream.abort()
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    print(stream.close(timeout=20).row_count)
"""


def test_a_forked_child_is_told_and_ends_well(run: LiveRun) -> None:
    # Newer Pythons warn of any fork beside threads; what it may not do here is what is tested.
    table = f"{run.name}/metrics/t"
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(FORKER), run.daemon.address, table]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
    assert issubclass(ForkedProcessError, RuntimeError)
