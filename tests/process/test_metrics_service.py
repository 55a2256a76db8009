"""Rows in, rows out: large, wide, empty, side by side, and live."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from rund_pb.v1 import metrics_pb2
from rund_pb.v1 import metrics_service_pb2 as ms

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    Write,
    arrow_batch,
    arrow_stream,
    closing,
    create_run,
    create_table,
    get_run,
    get_table,
    new_id,
    opening,
    plain,
    read,
    running,
    schema_bytes,
    stream_bytes,
    values,
    write,
    write_batches,
    write_table,
)

MIB = 1 << 20
Columns = metrics_pb2.ColumnBatch


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("metrics") / "root")


@pytest.fixture
def table(daemon: RawDaemon) -> str:
    return create_table(daemon, create_run(daemon).name, "t").name


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


# --- creating ---


def test_a_table_is_created_with_all_that_is_said_of_it(daemon: RawDaemon) -> None:
    run = create_run(daemon).name
    source = write_table(daemon, pa.record_batch({"label": [0, 1, 2]}), table_id="source")
    schema = pa.schema({"loss": pa.float64(), "v": pa.list_(pa.float32(), 4)})
    described = create_table(
        daemon,
        run,
        "t ü",
        stream_name="s",
        foreign_table_url=source.name,
        foreign_table_display_name="Source",
        columns=[metrics_pb2.ColumnSchema(name="loss", unit="nat", value_map={1: "one"})],
        constants=values({"epoch": 3, "note": "x"}),
        arrow_schema=schema_bytes(schema),
    )
    assert described.name == f"{run}/metrics/t ü"
    assert (described.url, described.stream_name, described.row_count) == ("metrics/t ü", "s", 0)
    assert (described.foreign_table_url, described.input_table_id) == (source.url, source.input_table_id)
    columns = {column.name: column for column in described.columns}
    assert (columns["loss"].unit, dict(columns["loss"].value_map)) == ("nat", {1: "one"})
    assert columns["loss"].arrow_type == "double"
    assert columns["v"].role == metrics_pb2.COLUMN_ROLE_EMBEDDING
    assert plain(described.constants) == {"epoch": 3, "note": "x"}
    assert read(daemon, described.name).schema.names == ["loss", "v", "epoch", "note"]
    assert [create_table(daemon, run).url for _ in range(2)] == ["metrics/metrics_0001", "metrics/metrics_0002"]
    assert get_run(daemon, run).metrics[0].name == described.name


def test_tables_are_listed_in_pages_in_the_order_of_their_making(daemon: RawDaemon) -> None:
    run = create_run(daemon).name
    made = [create_table(daemon, run, f"t{number}").name for number in (3, 1, 2, 5, 4)]
    found, token = [], ""
    while True:
        request = ms.ListMetricsTablesRequest(parent=run, page_size=2, page_token=token)
        page = daemon.rpc.ListMetricsTables(request)
        found += [table.name for table in page.metrics_tables]
        token = page.next_page_token
        if not token:
            break
    assert found == made


# --- writing ---


def test_a_batch_of_64_mb_goes_in_and_comes_out(daemon: RawDaemon, table: str) -> None:
    rows = (64 * MIB - 4096) // (128 * 4)
    vectors = pa.array(np.random.default_rng(0).random(rows * 128, dtype=np.float32))
    batch = pa.record_batch({"v": pa.FixedSizeListArray.from_arrays(vectors, 128)})
    answers = write(
        daemon, opening(table, schema=batch.schema), arrow_batch(1, batch), arrow_batch(2, batch), closing()
    )
    assert answers[-1].closed.metrics_table.row_count == 2 * rows
    begun = time.monotonic()
    found = read(daemon, table, start_row=rows)
    assert found.column("v").combine_chunks().equals(batch.column("v"))
    assert time.monotonic() - begun < 20
    too_large = pa.record_batch({"w": pa.array(np.zeros(64 * MIB // 8 + 1))})
    with pytest.raises(RefusedError) as refused:
        write(daemon, opening(table, "other", too_large.schema), arrow_batch(1, too_large))
    assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
    assert get_table(daemon, table).row_count == 2 * rows


def test_a_table_of_500_columns(daemon: RawDaemon, table: str) -> None:
    wide = pa.record_batch({f"column {number} ü": [number, None, number * 2] for number in range(500)})
    write_batches(daemon, table, *[wide] * 5)
    found = read(daemon, table)
    assert (found.num_rows, found.num_columns) == (15, 500)
    assert read(daemon, table, columns=["column 499 ü"]).column(0).to_pylist() == [499, None, 998] * 5
    assert len(get_table(daemon, table).columns) == 500


def test_empty_things(daemon: RawDaemon, table: str) -> None:
    assert read(daemon, table).num_rows == 0
    empty = numbers(0, 0)
    assert write_batches(daemon, table, empty, empty, numbers(0, 2), empty) == 4
    answers = write(daemon, opening(table, "none"), arrow_stream(1, schema=pa.schema({"y": pa.string()})), closing())
    assert answers[-1].closed.metrics_table.row_count == 2
    assert read(daemon, table).schema.names == ["x", "y"]
    assert write(daemon, opening(table, "nothing"), closing())[-1].HasField("closed")
    assert write(daemon, opening(table, "nobody"))[0].HasField("opened"), "close is optional"
    write(daemon, opening(table, "sealer"), closing(seal=True))
    assert get_table(daemon, table).sealed


def test_the_schema_may_change_between_batches(daemon: RawDaemon, table: str) -> None:
    first, second = numbers(0, 2), pa.record_batch({"x": [0.5], "s": ["new"]})
    answers = write(
        daemon,
        opening(table, schema=first.schema),
        arrow_batch(1, first),
        Write(schema=Write.Schema(arrow_schema=schema_bytes(second.schema))),
        arrow_batch(2, second),
        arrow_stream(3, pa.record_batch({"s": ["stream"], "l": [[1, 2]]})),
        Write(
            batch=Write.Batch(
                sequence=4, columns=Columns(columns=[Columns.Column(name="x", ints=Columns.Ints(values=[9]))])
            )
        ),
        closing(),
    )
    assert answers[-1].closed.metrics_table.row_count == 5
    found = read(daemon, table)
    assert found.schema.field("x").type == pa.float64(), "an integer becomes a float"
    assert found.to_pylist() == [
        {"x": 0.0, "s": None, "l": None},
        {"x": 1.0, "s": None, "l": None},
        {"x": 0.5, "s": "new", "l": None},
        {"x": None, "s": "stream", "l": [1, 2]},
        {"x": 9.0, "s": None, "l": None},
    ]


def test_plain_columns_of_all_kinds(daemon: RawDaemon, table: str) -> None:
    columns = Columns(
        columns=[
            Columns.Column(name="d", doubles=Columns.Doubles(values=[0.5, float("inf")])),
            Columns.Column(name="i", ints=Columns.Ints(values=[1, -(2**63)])),
            Columns.Column(name="b", bools=Columns.Bools(values=[True, False]), null_rows=[1]),
            Columns.Column(name="s", strings=Columns.Strings(values=["a", "ü"])),
            Columns.Column(name="v", vectors=Columns.Vectors(width=2, values=[1, 2, 3, 4])),
        ]
    )
    write(daemon, opening(table), Write(batch=Write.Batch(sequence=1, columns=columns)), closing())
    found = read(daemon, table)
    assert found.schema.field("v").type == pa.list_(pa.float32(), 2)
    assert found.to_pylist() == [
        {"d": 0.5, "i": 1, "b": True, "s": "a", "v": [1.0, 2.0]},
        {"d": float("inf"), "i": -(2**63), "b": None, "s": "ü", "v": [3.0, 4.0]},
    ]


def test_acks_come_while_the_writer_goes_on_and_rows_are_visible_with_them(daemon: RawDaemon, table: str) -> None:
    may_go_on = threading.Event()

    def messages() -> Iterator[Write]:
        yield opening(table)
        yield arrow_stream(1, numbers(0, 5))
        may_go_on.wait(60)
        yield arrow_stream(2, numbers(5, 9))
        yield closing()

    answers = daemon.rpc.WriteMetrics(messages())
    assert next(answers).opened.committed_sequence == 0
    assert next(answers).ack.committed_sequence == 1
    assert read(daemon, table).num_rows == 5
    may_go_on.set()
    assert [answer.WhichOneof("message") for answer in answers] == ["ack", "closed"]
    assert read(daemon, table).num_rows == 9


def test_a_writer_that_comes_back_sends_what_was_not_acked(daemon: RawDaemon, table: str) -> None:
    assert write_batches(daemon, table, numbers(0, 5), numbers(5, 10), stream_id="mine") == 2
    answers = write(
        daemon, opening(table, "mine"), *(arrow_stream(s, numbers(5 * s - 5, 5 * s)) for s in (1, 2, 3)), closing()
    )
    assert answers[0].opened.committed_sequence == 2
    assert answers[-1].closed.metrics_table.row_count == 15
    with pytest.raises(RefusedError) as refused:
        write(daemon, opening(table, "mine"), arrow_stream(5, numbers(0, 1)))
    assert (refused.value.code, refused.value.metadata["committed_sequence"]) == ("OUT_OF_RANGE", "3")
    assert read(daemon, table).column("x").to_pylist() == list(range(15))


def test_a_repeat_is_acked_at_once(daemon: RawDaemon, table: str) -> None:
    write_batches(daemon, table, numbers(0, 5), stream_id="mine")
    staying = threading.Event()

    def messages() -> Iterator[Write]:
        yield opening(table, "mine")
        yield arrow_stream(1, numbers(0, 5))
        staying.wait(60)

    answers = daemon.rpc.WriteMetrics(messages())
    next(answers)
    assert next(answers).ack.committed_sequence == 1
    staying.set()
    answers.close()


def test_a_stream_is_taken_over_by_a_new_connection(daemon: RawDaemon, table: str) -> None:
    staying = threading.Event()

    def messages() -> Iterator[Write]:
        yield opening(table, "mine")
        yield arrow_stream(1, numbers(0, 5))
        staying.wait(60)

    old = daemon.rpc.WriteMetrics(messages())
    next(old), next(old)
    answers = write(daemon, opening(table, "mine"), arrow_stream(2, numbers(5, 10)), closing())
    assert answers[0].opened.committed_sequence == 1
    with pytest.raises(RefusedError) as refused:
        next(old)
    staying.set()
    assert (refused.value.code, refused.value.reason) == ("ABORTED", "STREAM_TAKEN_OVER")
    assert read(daemon, table).num_rows == 10


def test_a_bad_batch_ends_its_stream_alone_and_keeps_what_came_before(daemon: RawDaemon, table: str) -> None:
    good = ThreadPoolExecutor(1)
    other = create_table(daemon, create_run(daemon).name, "other").name
    writing = good.submit(write_batches, daemon, other, *[numbers(0, 100)] * 200)
    bad = Write(batch=Write.Batch(sequence=3, arrow_batch=b"\xff" * 64))
    with pytest.raises(RefusedError) as refused:
        write(
            daemon,
            opening(table, "bad", numbers(0, 1).schema),
            arrow_batch(1, numbers(0, 5)),
            arrow_batch(2, numbers(5, 9)),
            bad,
        )
    assert (refused.value.reason, refused.value.metadata["sequence"]) == ("INVALID_ARROW", "3")
    assert writing.result() == 200
    good.shutdown()
    assert read(daemon, table).num_rows == 9
    assert read(daemon, other).num_rows == 20_000


def test_rows_of_two_writers_with_different_columns_are_read_in_commit_order(daemon: RawDaemon, table: str) -> None:
    clock = iter(range(10_000))
    turn = threading.Lock()

    def writing(stream_id: str) -> Iterator[Write]:
        yield opening(table, stream_id)
        for sequence in range(1, 201):
            with turn:
                yield arrow_stream(sequence, pa.record_batch({"sent": [next(clock)], stream_id: [sequence]}))
        yield closing()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: list(daemon.rpc.WriteMetrics(writing(name))), ["a", "b"]))
    found = read(daemon, table)
    assert sorted(found.column("sent").to_pylist()) == list(range(400))
    for name in ("a", "b"):
        rows = [row for row in found.column(name).to_pylist() if row is not None]
        assert rows == list(range(1, 201)), "each writer's rows keep their order"
    again = read(daemon, table, start_row=123, row_limit=77)
    assert again.equals(found.slice(123, 77)) or again.to_pylist() == found.slice(123, 77).to_pylist()


def test_a_table_that_is_not_there_is_made_if_asked_for(daemon: RawDaemon) -> None:
    name = f"{create_run(daemon).name}/metrics/made"

    def make(number: int) -> int:
        messages = [opening(name, f"w{number}", create_missing=True), arrow_stream(1, numbers(0, 1)), closing()]
        return write(daemon, *messages)[0].opened.committed_sequence

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(make, range(8))) == [0] * 8
    assert read(daemon, name).num_rows == 8


def test_example_ids_refer_to_rows_of_the_input_table(daemon: RawDaemon) -> None:
    source = write_table(daemon, pa.record_batch({"label": [5, 6, 7]}), table_id="labels")
    table = create_table(daemon, create_run(daemon).name, "t", foreign_table_url=source.url)
    for kind in (pa.int64(), pa.int32(), pa.uint8()):
        batch = pa.record_batch({"example_id": pa.array([2, 0], kind), "loss": [0.1, 0.2]})
        write(daemon, opening(table.name, new_id(), batch.schema), arrow_batch(1, batch), closing())
    found = read(daemon, table.name)
    assert found.schema.field("example_id").type == pa.int64()
    assert found.column("input_table_id").to_pylist() == [source.input_table_id] * 6
    roles = {column.name: column.role for column in get_table(daemon, table.name).columns}
    assert roles["example_id"] == metrics_pb2.COLUMN_ROLE_EXAMPLE_ID


def test_a_stream_with_an_end_mark_and_one_without_are_the_same(daemon: RawDaemon, table: str) -> None:
    data = stream_bytes(numbers(0, 3), numbers(3, 5))
    for sequence, part in enumerate((data, data[:-8]), 1):
        write(
            daemon, opening(table, f"w{sequence}"), Write(batch=Write.Batch(sequence=1, arrow_stream=part)), closing()
        )
    assert read(daemon, table).column("x").to_pylist() == [0, 1, 2, 3, 4] * 2
