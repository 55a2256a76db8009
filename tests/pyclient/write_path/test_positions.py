"""A stream keeps where its writer stood in its own source, in the commit of the rows that were read from there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
from rund._errors import OverLimitError, StreamTakenOverError

from .conftest import LiveRun

Numbers = Callable[[int, int], pa.RecordBatch]


def test_a_stream_goes_on_where_it_stood(run: LiveRun, numbers: Numbers) -> None:
    first = run.stream(stream_id="source")
    assert first.resume() == 0
    first.write(numbers(0, 10), position=1_000)
    first.write(numbers(10, 20))
    first.close(timeout=20)
    second = run.stream(stream_id="source")
    assert second.resume() == 1_000
    second.write(numbers(20, 30), position=2**40)
    second.close(timeout=20)
    assert run.stream(stream_id="source").resume() == 2**40
    assert run.stream(stream_id="another").resume() == 0
    assert [row["n"] for row in run.rows()] == list(range(30))


def test_it_is_kept_when_the_daemon_is_killed(own_run: LiveRun, numbers: Numbers) -> None:
    run = own_run
    stream = run.stream(stream_id="source")
    for n in range(10):
        stream.write(numbers(n, n + 1), position=n + 1)
    stream.wait(timeout=20)
    run.daemon.kill()
    run.daemon.start()
    assert run.stream(stream_id="source").resume() == 10


def test_rows_on_their_way_are_waited_for(run: LiveRun, numbers: Numbers) -> None:
    """Whoever takes a stream over must not send rows once more that an earlier connection has left on their way."""
    position = 0
    for _ in range(20):
        old = run.stream(stream_id="source")
        position = old.resume()
        for _ in range(50):
            position += 10
            old.write(numbers(position - 10, position), position=position)
        position = run.stream(stream_id="source").resume()
        with pytest.raises(StreamTakenOverError):
            old.close(timeout=20)
        assert [row["n"] for row in run.rows()] == list(range(position))
    assert position > 0


def test_a_batch_with_a_position_is_not_cut(run: LiveRun, numbers: Numbers) -> None:
    stream = run.stream()
    with pytest.raises(OverLimitError, match="fewer rows"):
        stream.write(pa.RecordBatch.from_pydict({"n": np.zeros(9_000_000)}), position=1)
    stream.write(numbers(0, 3), position=1)
    assert stream.close(timeout=20).row_count == 3
