"""What comes over the wire: large, odd and hostile, through a real socket. One stream's fault is no other stream's."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
from rund_pb.v1 import metrics_service_pb2

from tests.daemon.hostile_arrow import many_nulls, mutated, sample_batches
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_batch,
    arrow_stream,
    batch_bytes,
    closing,
    create_run,
    create_table,
    get_table,
    opening,
    read,
    write,
    write_batches,
)

Write = metrics_service_pb2.WriteMetricsRequest
MB = 1_000_000


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    root = tmp_path_factory.mktemp("wire") / "root"
    root.mkdir()
    running = RawDaemon(root).start()
    yield running
    running.end()


@pytest.fixture
def table(daemon: RawDaemon) -> str:
    return create_table(daemon, create_run(daemon).name).name


def refusal(daemon: RawDaemon, *messages: Write) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        write(daemon, *messages)
    return caught.value


def test_a_batch_of_64_mb(daemon: RawDaemon, table: str) -> None:
    batch = pa.record_batch({"x": np.arange(64 * MB // 8)})
    write(daemon, opening(table, schema=batch.schema), arrow_batch(1, batch), closing())
    rows = read(daemon, table)
    assert rows.num_rows == batch.num_rows
    assert rows["x"][-1].as_py() == batch.num_rows - 1


def test_a_batch_over_the_limit_names_it(daemon: RawDaemon, table: str) -> None:
    batch = pa.record_batch({"x": np.zeros(65 * 1024 * 1024 // 8 - 4096)})
    error = refusal(daemon, opening(table, schema=batch.schema), arrow_batch(1, batch))
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
    assert error.metadata["limit"] == f"max_batch_bytes={64 * 1024 * 1024}"
    assert get_table(daemon, table).row_count == 0


def test_schemas_that_change_between_batches_are_read_in_the_order_of_their_commits(
    daemon: RawDaemon, table: str
) -> None:
    batches = []
    for number in range(30):
        columns = {"n": [number]} if number % 3 else {"n": [float(number)], f"extra{number % 2}": ["x"]}
        batches.append(pa.record_batch(columns))
    write_batches(daemon, table, *batches)
    rows = read(daemon, table)
    assert rows["n"].to_pylist() == [float(number) for number in range(30)]
    assert rows.column_names == ["n", "extra0", "extra1"]


def test_batches_without_rows_move_the_sequence(daemon: RawDaemon, table: str) -> None:
    empty, full = pa.record_batch({"a": pa.array([], pa.int64())}), pa.record_batch({"a": [1]})
    assert write_batches(daemon, table, empty, full, empty) == 3
    assert read(daemon, table)["a"].to_pylist() == [1]


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (pa.array(["a"]).dictionary_encode(), "INVALID_COLUMN"),
        (pa.array(["a"], pa.string_view()), "INVALID_COLUMN"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "INVALID_COLUMN"),
    ],
    ids=["dictionary", "view", "union"],
)
def test_types_that_are_not_plain_are_refused(daemon: RawDaemon, table: str, column: pa.Array, reason: str) -> None:
    error = refusal(daemon, opening(table), arrow_stream(1, pa.record_batch({"c": column})))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", reason)
    assert "'c'" in error.message


def test_a_compressed_body_is_refused_before_it_is_unpacked(daemon: RawDaemon, table: str) -> None:
    batch = pa.record_batch({"x": np.zeros(16 * MB)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    assert len(data) < MB
    error = refusal(daemon, opening(table), Write(batch=Write.Batch(sequence=1, arrow_stream=data)))
    assert (error.code, error.reason) == ("INVALID_ARGUMENT", "INVALID_ARROW")
    assert "compressed" in error.message


def test_nulls_beyond_number_are_refused(daemon: RawDaemon, table: str) -> None:
    batch = pa.record_batch([many_nulls(2**31 - 1)], ["nothing"])
    error = refusal(daemon, opening(table, schema=batch.schema), arrow_batch(1, batch))
    assert error.reason in ("OVER_LIMIT", "INVALID_ARROW")


def test_one_refused_call_is_one_line_in_the_log(daemon: RawDaemon, table: str) -> None:
    before = len(daemon.log())
    refusal(daemon, opening(table), arrow_stream(2, pa.record_batch({"a": [1]})))
    (line,) = daemon.log()[before:]
    assert line["event"] == "request_refused"
    assert line["reason"] == "SEQUENCE_GAP"


@pytest.mark.parametrize("each", [100, pytest.param(500, marks=pytest.mark.long)])
def test_mutated_messages_hurt_nobody_else(daemon: RawDaemon, table: str, each: int) -> None:
    """Broken messages, each in a stream of its own, beside one that goes on. The daemon at the end is the first one.

    In one stream after the other, 2,000 of them: test_hostile_batches.py.
    """
    pid = daemon.process.pid
    hostile = create_table(daemon, create_run(daemon).name).name
    done = threading.Event()
    written: list[int] = []

    def peaceful() -> None:
        number = 0
        while not done.is_set():
            write_batches(daemon, table, pa.record_batch({"n": [number]}))
            number += 1
        written.append(number)

    neighbour = threading.Thread(target=peaceful)
    neighbour.start()
    outcomes: set[str] = set()
    for seed, batch in enumerate(sample_batches()):
        for number, data in enumerate(mutated(batch_bytes(batch), each, seed)):
            message = Write(batch=Write.Batch(sequence=1, arrow_batch=data))
            try:
                write(daemon, opening(hostile, f"{seed}-{number}", schema=batch.schema), message, closing())
                outcomes.add("stored")
            except RefusedError as error:
                outcomes.add(error.code)
    done.set()
    neighbour.join()
    # Some mutations only change values: those are batches like any other.
    assert outcomes <= {"stored", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"}
    assert daemon.process.pid == pid
    assert daemon.process.poll() is None
    assert read(daemon, table)["n"].to_pylist() == list(range(written[0]))


def test_stored_files_are_read_without_the_daemon(daemon: RawDaemon, table: str) -> None:
    write_batches(daemon, table, pa.record_batch({"a": [1, 2]}), pa.record_batch({"a": [3]}))
    _, project, _, run, _, name = table.split("/")
    folder = daemon.root / project / "runs" / run / "metrics" / name
    (segment,) = folder.iterdir()
    assert pa.ipc.open_stream(segment.read_bytes()).read_all()["a"].to_pylist() == [1, 2, 3]
