"""Arrow from somebody who means harm, over a real socket: refused one by one, and nobody else notices."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.daemon.hostile_arrow import huge_message, many_nulls, mutated, sample_batches
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    Write,
    arrow_stream,
    batch_bytes,
    closing,
    create_run,
    create_table,
    new_id,
    opening,
    read,
    running,
    stream_bytes,
    write,
    write_batches,
)

REFUSALS = {
    ("INVALID_ARGUMENT", "INVALID_ARROW"),
    ("INVALID_ARGUMENT", "INVALID_COLUMN"),
    ("INVALID_ARGUMENT", "INVALID_FIELD"),
    ("RESOURCE_EXHAUSTED", "OVER_LIMIT"),
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("hostile") / "root")


@pytest.fixture
def table(daemon: RawDaemon) -> str:
    return create_table(daemon, create_run(daemon).name, "t").name


def refusal(daemon: RawDaemon, table: str, schema: pa.Schema, **payload: bytes) -> tuple[str, str] | None:
    batch = Write(batch=Write.Batch(sequence=1, **payload))  # type: ignore[arg-type]
    try:
        write(daemon, opening(table, new_id(), schema), batch, closing())
    except RefusedError as refused:
        return refused.code, refused.reason
    return None


def test_two_thousand_broken_batches_hurt_nobody(daemon: RawDaemon, table: str) -> None:
    neighbour = create_table(daemon, create_run(daemon).name, "neighbour").name
    may_end = False

    def keep_writing() -> Iterator[Write]:
        yield opening(neighbour, "good")
        sequence = 0
        while not may_end:
            sequence += 1
            yield arrow_stream(sequence, pa.record_batch({"x": np.arange(sequence * 10, sequence * 10 + 10)}))
            time.sleep(0.01)
        yield closing()

    pool = ThreadPoolExecutor(1)
    writing = pool.submit(lambda: list(daemon.rpc.WriteMetrics(keep_writing())))
    outcomes: list[tuple[str, str] | None] = []
    for number, batch in enumerate(sample_batches()):
        for broken in mutated(batch_bytes(batch), 250, seed=number):
            outcomes.append(refusal(daemon, table, batch.schema, arrow_batch=broken))  # noqa: PERF401
        for broken in mutated(stream_bytes(batch), 250, seed=1_000 + number):
            outcomes.append(refusal(daemon, table, batch.schema, arrow_stream=broken))  # noqa: PERF401
    may_end = True
    answers = writing.result(60)
    pool.shutdown()
    assert len(outcomes) == 2_000
    assert set(outcomes) - {None} <= REFUSALS
    assert len([outcome for outcome in outcomes if outcome]) > 1_000
    assert daemon.process.poll() is None
    assert not daemon.log("request_failed")
    rows = answers[-1].closed.metrics_table.row_count
    assert read(daemon, neighbour).column("x").to_pylist() == list(range(10, 10 + rows))
    # What was valid after all is there and can be read, filtered and sealed.
    found = read(daemon, table)
    found.validate(full=True)
    write(daemon, opening(table, "sealer"), closing(seal=True))
    assert read(daemon, table, columns=[]).num_rows == found.num_rows


UNWANTED = {
    "dictionary": pa.array(["a", "b"]).dictionary_encode(),
    "nested dictionary": pa.array([["a"]]).cast(pa.list_(pa.dictionary(pa.int8(), pa.string()))),
    "union": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
    "view": pa.array(["a"], pa.string_view()),
    "run-end": pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), [1]),
    "x" * 256: pa.array([1]),
    "a\nb": pa.array([1]),
}


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        *((pa.record_batch([column], [name]), "INVALID_COLUMN") for name, column in UNWANTED.items()),
        (pa.record_batch([[1]] * 10_001, [f"c{n}" for n in range(10_001)]), "OVER_LIMIT"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.schema.names[0][:20],
)
def test_what_is_not_taken_on_the_wire(daemon: RawDaemon, table: str, batch: pa.RecordBatch, reason: str) -> None:
    found = refusal(daemon, table, pa.schema({}), arrow_stream=stream_bytes(batch))
    assert found in REFUSALS
    assert found[1] == reason  # type: ignore[index]
    assert read(daemon, table).num_rows == 0


def test_compressed_bodies_are_refused_unopened(daemon: RawDaemon, table: str) -> None:
    """33 kB that are 256 MiB when unpacked."""
    before = peak_memory_mib(daemon)
    zeros = pa.record_batch({"x": np.zeros(1 << 25)})
    data = stream_bytes(zeros, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    assert len(data) < 100_000
    assert refusal(daemon, table, pa.schema({}), arrow_stream=data) == ("INVALID_ARGUMENT", "INVALID_ARROW")
    assert peak_memory_mib(daemon) < before + 100


@pytest.mark.parametrize("nested", [False, True])
def test_a_million_million_nulls_in_a_few_bytes_are_refused(daemon: RawDaemon, table: str, nested: bool) -> None:
    nulls = many_nulls(10**12)
    column = pa.LargeListArray.from_arrays(pa.array([0, 10**12], pa.int64()), nulls) if nested else nulls
    batch = pa.record_batch([column], ["x"])
    message = huge_message(batch)
    assert len(message) < 1_000
    assert refusal(daemon, table, batch.schema, arrow_batch=message) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")


def test_messages_beyond_the_limit_end_their_call_alone(daemon: RawDaemon, table: str) -> None:
    too_large = Write(batch=Write.Batch(sequence=1, arrow_batch=bytes(67 << 20)))
    with pytest.raises(RefusedError) as refused:
        write(daemon, opening(table), too_large)
    assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "")
    write_batches(daemon, table, pa.record_batch({"x": [1]}))


def test_many_writers_of_large_batches_do_not_make_the_daemon_large(daemon: RawDaemon) -> None:
    batch = pa.record_batch({"x": np.zeros(1 << 20)})
    names = [create_table(daemon, create_run(daemon).name, "t").name for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write_batches(daemon, name, *[batch] * 8), names))
    assert peak_memory_mib(daemon) < 1_200


def peak_memory_mib(daemon: RawDaemon) -> float:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) / 1024
