"""Odd places to log from, and odd ways to end: no deadlock, no crash, and what log returned from is kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from rund import CauseKind, Run, RunStatus

from tests.process.harmless import HEAD, Training, train, wait_until


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


def who(training: Training, count: int) -> Counter[str]:
    wait_until(lambda: training.count() >= count, "rows are missing")
    rows = training.rows()
    assert len(rows) == count, "a row is there twice"
    return Counter(row["who"] for row in rows)


def test_logging_in_finalizers_and_callbacks(root: Path) -> None:
    script = """
    import gc, weakref
    class Logs:
        def __del__(self):
            run.log({"who": "del"})
    for _ in range(100):
        cycle = [Logs()]
        cycle.append(cycle)
    gc.set_threshold(1)  # so that they end in the middle of other logs
    for _ in range(500):
        run.log({"who": "main"})
    del cycle
    gc.collect()
    class Plain: pass
    kept = [Plain() for _ in range(50)]
    watches = [weakref.ref(one, lambda _: run.log({"who": "weakref"})) for one in kept]
    kept.clear()
    atexit.register(lambda: run.log({"who": "atexit"}))  # runs before the run is ended
    left = Logs()
    left.itself = left
    """
    found = who(train(root, script), 1 + 100 + 500 + 50 + 1)
    assert found == {"main": 501, "del": 100, "weakref": 50, "atexit": 1}


def test_logging_in_signal_handlers_that_interrupt_logging(root: Path) -> None:
    script = """
    handled = 0
    def on_alarm(signum, frame):
        global handled
        handled += 1
        run.log({"who": "handler", f"new {handled % 7}": 1.0})
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    logged = 0
    while handled < 500:
        run.log({"who": "loop", f"key {logged % 11}": logged})
        logged += 1
        if logged % 100 == 0:
            run.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(handled, logged)
    """
    training = train(root, script)
    handled, logged = map(int, training.out.split())
    assert who(training, 1 + handled + logged) == {"main": 1, "handler": handled, "loop": logged}


def test_the_first_row_of_all_comes_from_a_signal_handler(root: Path) -> None:
    head = HEAD.replace('run.log({"who": "main"}, 0)\n', "")
    script = """
    other = rund.Run.from_url(run.url)
    signal.signal(signal.SIGALRM, lambda *_: other.log({"who": "handler"}))
    for delay in range(1, 40):
        other = rund.Run.from_url(run.url)
        signal.setitimer(signal.ITIMER_REAL, delay * 0.00002)
        other.log({"who": "main"})
        signal.pause() if signal.getitimer(signal.ITIMER_REAL)[0] else None
        other.flush()
    """
    assert who(train(root, script, head=head), 78) == {"main": 39, "handler": 39}


@pytest.mark.parametrize("interval", ["1e-6", "5"])
def test_switch_intervals_at_their_extremes(root: Path, interval: str) -> None:
    script = """
    sys.setswitchinterval(float(sys.argv[3]))
    def work(number):
        for step in range(500):
            run.log({"who": f"thread {number}"}, step)
    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    """
    found = who(train(root, script, interval), 2001)
    assert found == {"main": 1, **{f"thread {number}": 500 for number in range(4)}}


def test_threads_that_outlive_the_main_one(root: Path) -> None:
    script = """
    def work(name):
        for step in range(300):
            run.log({"who": name})
            time.sleep(0.001)
    threading.Thread(target=work, args=("waited for",)).start()
    threading.Thread(target=work, args=("cut off",), daemon=True).start()
    """
    training = train(root, script)
    wait_until(lambda: training.run.status == RunStatus.COMPLETED, "the run goes on")
    found = Counter(row["who"] for row in training.rows())
    assert found["waited for"] == 300
    assert found["cut off"] > 0


def test_daemon_threads_log_into_the_last_moment(root: Path) -> None:
    script = """
    def work():
        while True:
            try:
                run.log({"who": "late"})
            except RuntimeError:  # the run is finished by now
                time.sleep(0.0001)
    for _ in range(4):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    """
    for _ in range(5):
        assert train(root, script).error == ""


def test_an_exception_in_atexit_and_at_import(root: Path, tmp_path: Path) -> None:
    (tmp_path / "broken_module.py").write_text("import rund\nrund.log({'who': 'import'})\n1 / 0\n")
    script = f"""
    sys.path.insert(0, {str(tmp_path)!r})
    def broken():
        rund.log({{"who": "atexit"}})
        raise ValueError("in atexit")
    atexit.register(broken)
    import broken_module
    """
    training = train(root, script, expect=1)
    assert who(training, 3) == {"main": 1, "import": 1, "atexit": 1}
    assert training.run.status == RunStatus.FAILED
    assert training.run.cause is not None
    assert training.run.cause.message == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize("end", ["os._exit(7)", "os.abort()", "os.kill(os.getpid(), signal.SIGTERM)"])
def test_ends_without_a_last_word(root: Path, end: str) -> None:
    ends = {"os._exit(7)": 7, "os.abort()": -signal.SIGABRT, "os.kill(os.getpid(), signal.SIGTERM)": -signal.SIGTERM}
    script = f"""
    faulthandler.disable()
    for step in range(1, 500):
        run.log({{"who": "main"}}, step)
    {end}
    """
    training = train(root, script, expect=ends[end])
    assert who(training, 500) == {"main": 500}
    wait_until(lambda: training.run.status == RunStatus.FAILED, "the run goes on")
    cause = training.run.cause
    assert cause is not None
    assert cause.kind in (CauseKind.EXIT_CODE if end == "os._exit(7)" else CauseKind.SIGNAL, CauseKind.SILENCE)


@pytest.mark.parametrize("state", ["hung", pytest.param("killed", marks=pytest.mark.long)])
def test_the_end_of_many_runs_without_a_daemon(daemon: Any, state: str) -> None:
    """They share one bound; what it was is printed and not asserted."""
    running = daemon()
    number = signal.SIGSTOP if state == "hung" else signal.SIGKILL
    # Handlers run in reverse: the first that is registered sees how long the others took.
    early = "begun = []\natexit.register(lambda: print(time.monotonic() - begun[0]))\nimport rund\n"
    script = f"""
    runs = [run, *(rund.init("harmless", f"more {{count}}", root_url=sys.argv[1]) for count in range(4))]
    for one in runs: one.log({{"who": "main"}})
    os.kill({running.process.pid}, {int(number)})
    for one in runs: one.log({{"who": "main"}})
    begun.append(time.monotonic())
    """
    ended = end_of(running.root, HEAD.replace("import rund\n", early) + textwrap.dedent(script))
    if state == "hung":
        running.process.send_signal(signal.SIGCONT)
    else:
        running.process.wait(20)
        running.start()
    assert ended.stderr.count("was not ended cleanly") == 5, ended.stderr
    sys.stdout.write(f"five runs, daemon {state}: the end took {float(ended.stdout):.2f} s\n")
    for name in ("first", *(f"more {count}" for count in range(4))):
        run = Run.from_names(name, "harmless", running.root)
        wait_until(lambda run=run: run.status.value > RunStatus.PAUSED.value, "the run goes on")
        wait_until(lambda run=run: sum(map(len, run.metrics_tables)) >= 2, "rows are missing")


def end_of(root: Path, script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, str(root), "first"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True)
