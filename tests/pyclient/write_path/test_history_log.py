"""The history of a run against a real daemon: nothing logged is lost or doubled, and `log` never waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from rund._errors import RunNotFoundError, WaitTimeoutError, WrongStateError
from rund._history_batch import HistoryBatches
from rund._journal_limits import JournalLimits
from rund._journal_reader import JournalReader
from rund._journal_recovery import LeftJournal, left_journals, read_left_journal
from rund._sender import HistoryLog
from rund._transport import WriteStream, run_calls

from .conftest import LiveRun, rows_of


def open_log(run: LiveRun, **options: object) -> HistoryLog:
    return HistoryLog(run.transport, run.root, run.name, str(uuid.uuid4()), 2, **options)


def history(run: LiveRun) -> list[dict[str, object]]:
    return run.rows("history")


def test_rows_arrive_with_step_time_and_rank(run: LiveRun) -> None:
    begin = time.time()
    log = open_log(run)
    log.log({"loss": 0.5, "n": 1})
    log.log({"loss": 0.25, "phase": "train"}, 10)
    log.log({"n": 2})
    log.flush(20)
    found = history(run)
    assert [(row["step"], row["rank"], row["loss"], row["n"], row["phase"]) for row in found] == [
        (0, 2, 0.5, 1, None),
        (10, 2, 0.25, None, "train"),
        (11, 2, None, 2, None),
    ]
    assert all(begin - 1 < row["time"].timestamp() < time.time() + 1 for row in found)
    assert log.close(20)
    assert run.journals() == {}


def test_the_daemon_takes_rows_without_pandas(own_run: LiveRun) -> None:
    pytest.importorskip("pandas")
    log = open_log(own_run)
    for n in range(1000):
        log.log({"n": n, "half": n / 2})
    log.flush(20)
    stream = own_run.stream()
    stream.write(pa.RecordBatch.from_pydict({"step": pa.array(range(1000)), "n": pa.array([0.5] * 1000)}))
    stream.close()
    # Its import takes longer than all that, and 40 MiB; one call of a conversion to NumPy is enough for it.
    assert "/pandas/" not in Path(f"/proc/{own_run.daemon.process.pid}/maps").read_text()
    assert log.close(20)


def test_a_row_arrives_soon_after_a_rest(run: LiveRun) -> None:
    log = open_log(run)
    for n in range(5):
        log.log({"n": n})
        begin = time.monotonic()
        while len(run.rows("history") if n else wait_for_first(run)) <= n:
            assert time.monotonic() - begin < 30
        time.sleep(0.3)
    assert log.close(20)


def wait_for_first(run: LiveRun) -> list[dict[str, object]]:
    while True:
        try:
            return history(run)
        except FileNotFoundError:
            time.sleep(0.01)


def test_many_rows_from_many_threads(run: LiveRun) -> None:
    log = open_log(run)
    threads = [
        threading.Thread(target=lambda t=t: [log.log({"t": t, "n": n}) for n in range(30_000)]) for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.close(60)
    found = history(run)
    assert [row["step"] for row in found] == list(range(120_000))
    for t in range(4):
        assert [row["n"] for row in found if row["t"] == t] == list(range(30_000))
    assert run.journals() == {}


def test_a_log_that_was_never_used_ends_at_once(run: LiveRun) -> None:
    log = open_log(run)
    log.flush(1)
    begin = time.monotonic()
    assert log.close(20)
    assert time.monotonic() - begin < 0.5
    with pytest.raises(WrongStateError):
        log.log({"a": 1})


def test_rows_wait_while_the_daemon_is_away(own_run: LiveRun) -> None:
    log = open_log(own_run)
    log.log({"n": 0})
    log.flush(20)
    own_run.daemon.kill()
    slowest = 0.0
    for n in range(1, 5000):
        begin = time.perf_counter()
        log.log({"n": n})
        slowest = max(slowest, time.perf_counter() - begin)
    assert slowest < 5
    with pytest.raises(WaitTimeoutError):
        log.flush(0.5)
    own_run.daemon.start()
    log.flush(30)
    assert [row["n"] for row in history(own_run)] == list(range(5000))
    assert log.close(20)


@pytest.mark.chaos
@pytest.mark.long
def test_nothing_is_lost_or_doubled_when_the_daemon_is_killed(own_run: LiveRun) -> None:
    log = open_log(own_run)
    stop = threading.Event()
    logged = 0

    def work() -> None:
        nonlocal logged
        while not stop.is_set():
            log.log({"n": logged, "half": logged / 2} if logged % 10 else {"n": logged, "note": "tenth"})
            logged += 1
            if logged % 200 == 0:
                time.sleep(0.001)

    worker = threading.Thread(target=work)
    worker.start()
    for n in range(4):
        time.sleep(0.1 + 0.1 * n)
        own_run.daemon.kill()
        time.sleep(0.05 * n)
        own_run.daemon.start()
    stop.set()
    worker.join()
    assert log.close(60)
    assert [row["n"] for row in history(own_run)] == list(range(logged))
    assert own_run.journals() == {}


@pytest.mark.chaos
def test_a_frozen_daemon_is_not_noticed_by_log(own_run: LiveRun) -> None:
    log = open_log(own_run)
    log.log({"n": 0})
    log.flush(20)
    os.kill(own_run.daemon.process.pid, signal.SIGSTOP)
    try:
        slowest, n, end = 0.0, 1, time.monotonic() + 9
        while time.monotonic() < end:
            begin = time.perf_counter()
            log.log({"n": n})
            slowest = max(slowest, time.perf_counter() - begin)
            n += 1
            time.sleep(0.001)
        begin = time.monotonic()
        assert not log_closes_in_time(own_run)
        assert time.monotonic() - begin < 20
    finally:
        os.kill(own_run.daemon.process.pid, signal.SIGCONT)
    assert slowest < 5
    log.flush(30)
    assert [row["n"] for row in history(own_run) if "n" in row and row["n"] is not None] == list(range(n))
    assert log.close(20)


def log_closes_in_time(run: LiveRun) -> bool:
    second = open_log(run)
    second.log({"m": 1})
    return second.close(1.0)


def test_what_is_not_sent_in_time_stays_in_the_journal(own_run: LiveRun) -> None:
    log = open_log(own_run)
    log.log({"n": 0})
    log.flush(20)
    own_run.daemon.kill()
    for n in range(1, 100):
        log.log({"n": n})
    begin = time.monotonic()
    assert not log.close(0.5)
    assert time.monotonic() - begin < 20
    own_run.daemon.start()
    take_over(own_run)
    assert [row["n"] for row in history(own_run)] == list(range(100))


def test_a_run_that_is_gone_is_an_error_of_flush_and_not_of_log(run: LiveRun) -> None:
    log = HistoryLog(run.transport, run.root, "projects/p/runs/none", str(uuid.uuid4()), 0)
    log.log({"n": 0})
    with pytest.raises(RunNotFoundError):
        log.flush(20)
    log.log({"n": 1})
    assert isinstance(log.error, RunNotFoundError)
    assert not log.close(5)
    (head,) = left_journals(run.root / "journals")
    assert [values["n"] for _, values in rows_of(read_left_journal(head).files)] == [0, 1]


def test_the_journal_is_given_back_while_it_is_used(run: LiveRun) -> None:
    limits = JournalLimits(total_bytes=1 << 20, block_seconds=30)
    log = open_log(run, limits=limits)
    for n in range(200_000):
        log.log({"n": n})
        assert n % 1000 or sum(run.journals().values()) <= (1 << 20) + 32768
    assert log.close(60)
    assert [row["n"] for row in history(run)] == list(range(200_000))


def test_without_a_daemon_rows_stay_in_the_journal(tmp_path: Path) -> None:
    log = HistoryLog(None, tmp_path, "projects/p/runs/r", str(uuid.uuid4()), 0)
    log.log({"n": 0})
    log.flush()
    assert not log.close(5)
    (head,) = left_journals(tmp_path / "journals")
    left = read_left_journal(head)
    assert (left.closed, left.identity.flags & 1, rows_of(left.files)) == (True, 0, [(0, {"n": 0})])


def test_another_place_is_found_when_the_root_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    log = HistoryLog(None, tmp_path / "nowhere", "projects/p/runs/r", str(uuid.uuid4()), 0)
    log.log({"n": 0})
    assert len(list(left_journals(tmp_path / "state" / "rund" / "journals"))) == 1
    assert not (tmp_path / "nowhere").exists()


TRAINER = """
    import mmap, struct, sys
    from pathlib import Path
    from rund._sender import HistoryLog
    from rund._transport import Transport
    address, root, run, writer = sys.argv[1:]
    file = open(Path(root, writer), "r+b")
    counter = mmap.mmap(file.fileno(), 4096)
    log = HistoryLog(Transport(address), Path(root), run, writer, 0)
    n = 0
    while True:
        log.log({"n": n, "half": n / 2} if n % 7 else {"n": n, "seventh": "yes"})
        n += 1
        struct.pack_into("<q", counter, 0, n)
"""


def take_over(run: LiveRun) -> None:
    """What docs/journal.md says of taking a journal over, with the client's own means."""
    for head in left_journals(run.root / "journals"):
        left = read_left_journal(head)
        assert left.problems == []
        send_again(run, left)
        for path in (*(file.path for file in left.files), head):
            path.unlink()


def send_again(run: LiveRun, left: LeftJournal) -> None:
    who = left.identity
    stream = WriteStream(
        run.transport, f"{who.run}/metrics/history", stream_id=who.stream_id, create_missing=True, patience_s=30
    )
    while stream.open() is None:
        time.sleep(0.01)
    committed = stream.committed
    assert left.cursor.sequence <= committed <= (left.cuts or (left.cursor,))[-1].sequence
    reader, batches, sequence = JournalReader(left.files), HistoryBatches(who.rank), left.cursor.sequence
    reader.take(until=left.cursor.end)
    for cut in left.cuts:
        rows = reader.take(until=cut.end)
        assert rows is not None
        assert (rows.begin, rows.end) == (cut.begin, cut.end)
        sequence = cut.sequence
        if sequence > committed:
            assert stream.write(batches.batch(rows)) == sequence
    while (rows := reader.take()) is not None:
        sequence += 1
        assert stream.write(batches.batch(rows)) == sequence
    stream.close(timeout=30)


@pytest.mark.chaos
@pytest.mark.long
def test_the_journal_of_a_killed_trainer_holds_what_the_daemon_has_not(own_run: LiveRun) -> None:
    expected: list[int] = []
    for n in range(4):
        writer = str(uuid.uuid4())
        counter = own_run.root / writer
        counter.write_bytes(bytes(4096))
        command = [sys.executable, "-c", textwrap.dedent(TRAINER), own_run.daemon.address, str(own_run.root)]
        with subprocess.Popen([*command, own_run.name, writer]) as trainer:
            while not counter.read_bytes()[:8].strip(b"\0"):
                assert trainer.poll() is None
                time.sleep(0.002)
            time.sleep(0.05 + 0.1 * n)
            if n % 2:
                own_run.daemon.kill()
                time.sleep(0.05)
            trainer.kill()
        if n % 2:
            own_run.daemon.start()
        expected.append(int.from_bytes(counter.read_bytes()[:8], "little"))
        (head,) = left_journals(own_run.root / "journals")
        rows = sum(len(rows_of([file])) for file in read_left_journal(head).files)
        take_over(own_run)
        found = [row["n"] for row in history(own_run)][sum(expected[:-1]) :]
        assert found == list(range(len(found)))
        assert expected[-1] <= len(found) <= expected[-1] + 1
        assert rows <= len(found)
        expected[-1] = len(found)


FORKER = """
    import os, sys, uuid
    from pathlib import Path
    from rund._sender import HistoryLog
    from rund._transport import Transport
    address, root, run = sys.argv[1:]
    log = HistoryLog(Transport(address), Path(root), run, str(uuid.uuid4()), 0)
    for n in range(30):
        for k in range(300):
            log.log({"parent": 300 * n + k})
        if (pid := os.fork()) == 0:
            log.log({"child": n})
            log.flush()
            log.log({"child": n})
            if n % 3 == 0:
                os._exit(0)
            assert not log.close(5)
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert log.close(30)
"""


def test_children_of_a_process_that_is_sending_log_and_end_well(run: LiveRun) -> None:
    # Newer Pythons warn of any fork beside threads; what it may not do here is what is tested.
    command = [sys.executable, "-Wignore", "-c", textwrap.dedent(FORKER), run.daemon.address, str(run.root), run.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert [row["parent"] for row in history(run)] == list(range(9000))
    children = [read_left_journal(head) for head in left_journals(run.root / "journals")]
    assert sorted(rows_of(left.files)[0][1]["child"] for left in children) == list(range(30))
    assert all(len(rows_of(left.files)) == 2 for left in children)


def test_the_history_follows_a_run_that_is_renamed(own_run: LiveRun) -> None:
    info = run_calls.get_run(own_run.transport, name=own_run.name)
    log = open_log(own_run, run_uid=info.uid)
    log.log({"n": 0})
    log.flush(20)
    change = run_calls.RunChange(run_name=f"{info.name} again")
    renamed = run_calls.update_run(own_run.transport, own_run.name, change)
    log.log({"n": 1})
    log.flush(20)
    own_run.daemon.stop()
    log.log({"n": 2})
    own_run.daemon.start()
    log.log({"n": 3})
    assert log.close(30)
    own_run.name = renamed.resource_name
    assert [row["n"] for row in history(own_run)] == [0, 1, 2, 3]


def test_a_second_log_of_one_writer_leaves_the_first_ones_rows_alone(own_run: LiveRun) -> None:
    writer = str(uuid.uuid4())
    first = HistoryLog(own_run.transport, own_run.root, own_run.name, writer, 0)
    own_run.daemon.kill()
    first.log({"n": 0})
    assert not first.close(0.3)
    second = HistoryLog(own_run.transport, own_run.root, own_run.name, writer, 0)
    second.log({"n": 1})
    own_run.daemon.start()
    assert second.close(30)
    take_over(own_run)
    assert sorted(row["n"] for row in history(own_run)) == [0, 1]
