"""The daemon goes away and comes back; nothing that returned is lost, and nothing hangs without a bound."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rund
from rund import Run, RunEventType


@pytest.fixture
def running(daemon: Any) -> Any:
    return daemon()


@pytest.fixture
def run(running: Any) -> Iterator[Run]:
    run = rund.init("p", root_url=running.root)
    yield run
    if running.process.poll() is not None:
        running.start()
    run.finish()


def test_calls_wait_for_the_next_daemon(running: Any, run: Run) -> None:
    run.add_metrics({"a": [1]})
    for away in (running.stop, running.kill):
        away()
        back = threading.Timer(0.5, running.start)
        back.start()
        run.add_output_value({"epoch": 1})
        back.join()
    assert run.constants["outputs"] == [{"epoch": 1}, {"epoch": 1}]
    assert len(run.metrics_tables[0]) == 1


def test_a_call_gives_up_with_a_connection_error(running: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    running.kill()
    transport = run.daemon.transport
    from rund._transport import daemon_calls

    begun = time.monotonic()
    with pytest.raises(ConnectionError) as caught:
        daemon_calls.get_server_info(transport, unavailable_timeout_s=1)
    assert isinstance(caught.value, rund.DaemonUnavailableError)
    assert caught.value.code == "UNAVAILABLE"
    assert "rund status" in str(caught.value)
    assert time.monotonic() - begun < 5


def test_rows_are_kept_and_sent_later(running: Any, run: Run) -> None:
    run.log({"a": 1})
    run.flush()
    running.kill()
    for step in range(100):
        run.log({"a": step})
    with pytest.raises(TimeoutError):
        run.flush(timeout=0.2)
    running.start()
    run.flush(timeout=60)
    assert len(run.metrics_tables[0]) == 101


def test_a_writer_goes_on(running: Any, run: Run) -> None:
    with run.metrics_writer("m") as writer:
        for number in range(6):
            writer.add_batch({"a": [number] * 1000})
            if number == 2:
                writer.flush()
                running.kill()
                running.start()
    assert run.metrics_tables[0]["a"].to_pylist() == [number for number in range(6) for _ in range(1000)]


def test_a_watch_goes_on(running: Any, run: Run) -> None:
    watch = run.watch()
    assert [next(watch).type for _ in range(2)] == [RunEventType.CURRENT, RunEventType.SYNCED]
    run.set_description("before")
    assert next(watch).run.description == "before"  # type: ignore[union-attr]  # an update has a run
    running.kill()
    running.start()
    run.set_description("after")
    event = next(watch)
    assert event.type is RunEventType.UPDATED
    assert event.run is not None
    assert event.run.description == "after"


def test_a_read_goes_on_where_it_was(running: Any, run: Run) -> None:
    with run.metrics_writer("m") as writer:
        writer.add_batch({"a": [0, 1, 2]})
        writer.flush()
        batches = run.metrics_tables[0].scan(follow=True)
        assert next(batches)["a"].to_pylist() == [0, 1, 2]
        running.kill()
        running.start()
        writer.add_batch({"a": [3, 4]})
        writer.flush()
        assert next(batches)["a"].to_pylist() == [3, 4]


def test_a_daemon_elsewhere_is_found_again(daemon: Any, tmp_path: Any) -> None:
    running = daemon("--listen", f"unix:{tmp_path / 'one'}")
    with rund.init("p", root_url=running.root) as run:
        running.stop()
        running.flags = ("--listen", f"unix:{tmp_path / 'two'}")
        running.start()
        run.set_description("moved")
        run.log({"a": 1})
        assert len(run.metrics_tables) == 1
        assert run.daemon.transport.address.endswith("two")
