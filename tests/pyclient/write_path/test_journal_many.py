"""Threads, signal handlers and forked children may all log; nothing is lost, mixed up or shared."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest
from rund._journal_format import FLAG_LOCKS, FLAG_SENDER

from .conftest import Folder, rows_of

# Newer Pythons warn of any fork beside threads; here it is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


def test_rows_of_many_threads_are_all_there(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20)

    def work(t: int) -> None:
        for n in range(20_000):
            journal.append({"thread": t, "n": n} if n % 3 else {"thread": t, "n": float(n)})

    threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = folder.rows()
    assert [step for step, _ in rows] == list(range(120_000))
    for t in range(6):
        assert [values["n"] for _, values in rows if values["thread"] == t] == list(range(20_000))


def test_rows_with_steps_of_many_threads_are_all_there(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20, first_file_bytes=65536, file_bytes=262144)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(t: int) -> None:
        for n in range(10_000):
            journal.append({"thread": t, "n": n} if n % 7 else {"n": float(n), "thread": t}, n)

    try:
        threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    rows = folder.rows()
    assert len(rows) == 60_000
    for t in range(6):
        mine = [(step, values["n"]) for step, values in rows if values["thread"] == t]
        assert mine == [(n, n) for n in range(10_000)]


def test_rows_of_threads_that_a_debugger_follows_are_all_there(folder: Folder) -> None:
    """A debugger's code runs between any two lines, and lets other threads come there."""
    journal = folder.new(total_bytes=64 << 20, first_file_bytes=4096, file_bytes=8192)

    def follow(frame: FrameType, _event: str, _argument: object) -> Any:
        if "_journal" not in frame.f_code.co_filename and frame.f_code.co_name != "write_row":
            return None
        time.sleep(0)
        return follow

    def work(t: int) -> None:
        for n in range(300):
            journal.append({"thread": t, "n": n} if n % 7 else {"n": float(n), "thread": t}, n if n % 2 else None)

    threading.settrace(follow)
    try:
        threads = [threading.Thread(target=work, args=(t,)) for t in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        threading.settrace(None)  # type: ignore[arg-type]  # that is how it ends
    rows = folder.rows()
    assert len(rows) == 1_800
    for t in range(6):
        assert [values["n"] for _, values in rows if values["thread"] == t] == [*range(300)]


@pytest.mark.long
def test_a_signal_handler_may_log_in_the_middle_of_a_log(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20, first_file_bytes=4096, file_bytes=65536)
    calls = []

    def handler(*_: object) -> None:
        calls.append(None)
        number = len(calls)
        journal.append({"signal": number})
        journal.append({"signal": float(number), "text": "x"})

    old = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        count = 0
        deadline = time.monotonic() + 2.0
        while time.monotonic() < deadline:
            journal.append({"n": count, "half": count / 2})
            count += 1
            if count % 50 == 0:
                journal.append({f"new{count}": count})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    rows = [values for _, values in folder.rows()]
    assert len(calls) > 100
    assert [values["n"] for values in rows if "n" in values] == list(range(count))
    # A handler may interrupt a handler, so their rows have no order.
    signals = sorted((row["signal"], type(row["signal"]) is float) for row in rows if "signal" in row)
    assert signals == [(n, is_float) for n in range(1, len(calls) + 1) for is_float in (False, True)]
    assert sum(1 for values in rows if not values.keys() & {"n", "signal"}) == count // 50


class InterruptedLogError(Exception):
    pass


def test_an_exception_out_of_a_signal_handler_harms_nothing(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20, first_file_bytes=4096, file_bytes=65536)

    def handler(*_: object) -> None:
        raise InterruptedLogError

    old = signal.signal(signal.SIGALRM, handler)
    returned, attempts = [0], 0
    journal.append({"n": 0})
    try:
        while attempts < 3000:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.00002 + attempts % 17 * 1e-6)
                while True:
                    attempts += 1
                    journal.append({"n": attempts} if attempts % 2 else {f"k{attempts % 5}": "text", "n": attempts})
                    returned.append(attempts)
            except InterruptedLogError:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    kept = [values["n"] for _, values in folder.rows()]
    assert kept == sorted(set(kept))
    assert set(returned) <= set(kept)


def test_a_finalizer_may_log(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20)

    class Loud:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            journal.append({"gone": 1})

    made = 0
    for n in range(20_000):
        journal.append({"n": n})
        if n % 20 == 0:
            Loud()
            made += 1
    import gc

    gc.collect()
    rows = [values for _, values in folder.rows()]
    assert [values["n"] for values in rows if "n" in values] == list(range(20_000))
    assert sum(1 for values in rows if "gone" in values) == made


def in_child(work: object) -> int:
    """Runs in a forked child, and gives its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    pytest.fail("the child hangs")


def test_a_forked_child_has_a_journal_of_its_own(folder: Folder) -> None:
    journal = folder.new()
    for n in range(10):
        journal.append({"parent": n})
    before = {path.name: path.read_bytes() for path in folder.path.iterdir()}

    def child() -> None:
        for n in range(20):
            journal.append({"child": n})
        assert in_child(lambda: journal.append({"grandchild": 1.0})) == 0
        journal.append({"child": 20})

    assert in_child(child) == 0
    assert {name: (folder.path / name).read_bytes() for name in before} == before
    journal.append({"parent": 10})
    journals = {next(iter(rows_of(left.files)[0][1])): left for left in folder.left()}
    assert journals.keys() == {"parent", "child", "grandchild"}
    parent, child_of, grandchild = (journals[name].identity for name in ("parent", "child", "grandchild"))
    assert child_of.parent_writer_id == parent.writer_id
    assert grandchild.parent_writer_id == child_of.writer_id
    assert len({parent.stream_id, child_of.stream_id, grandchild.stream_id}) == 3
    assert len({parent.pid, child_of.pid, grandchild.pid}) == 3
    assert (parent.flags, child_of.flags, child_of.rank) == (FLAG_SENDER | FLAG_LOCKS, FLAG_LOCKS, 3)
    assert [step for step, _ in rows_of(journals["child"].files)] == list(range(21))
    assert rows_of(journals["parent"].files) == [(n, {"parent": n}) for n in range(11)]


def test_children_forked_while_another_thread_logs_are_free(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 << 20)
    stop = threading.Event()
    logged, forks = [], 0

    def log_on() -> None:
        while not stop.is_set():
            if len(logged) > 30_000 * (forks + 1):  # the journal is bounded, and a busy machine forks slowly
                time.sleep(0.001)
                continue
            journal.append({"n": len(logged), "x": 1.0} if len(logged) % 5 else {"n": len(logged)})
            logged.append(None)

    thread = threading.Thread(target=log_on)
    thread.start()
    try:
        for _ in range(30):
            assert in_child(lambda: [journal.append({"child": n}) for n in range(5)]) == 0
            forks += 1
    finally:
        stop.set()
        thread.join()
    sizes = []
    for left in folder.left():
        assert left.problems == []
        rows = rows_of(left.files)
        if left.identity.pid == os.getpid():
            assert [values["n"] for _, values in rows] == list(range(len(logged)))
        else:
            sizes.append(len(rows))
    assert sizes == [5] * 30


def test_a_child_that_does_not_log_makes_no_files(folder: Folder) -> None:
    journal = folder.new()
    journal.append({"a": 1.0})
    before = sorted(folder.path.iterdir())
    assert in_child(lambda: None) == 0
    assert sorted(folder.path.iterdir()) == before
