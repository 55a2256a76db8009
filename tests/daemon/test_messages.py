"""Arrow messages as bytes: where pyarrow's own end, and that no broken one is more than an InvalidError."""

from __future__ import annotations

import struct

import pyarrow as pa
import pytest
from rund_daemon.errors import ExhaustedError, InvalidError, Reason
from rund_daemon.ingest.batches import WireSchema, plain_schema, read_batch, read_schema, read_stream
from rund_daemon.limits import Limits
from rund_daemon.segments.messages import (
    CONTINUATION,
    DICTIONARY_BATCH,
    END_OF_STREAM,
    RECORD_BATCH,
    SCHEMA,
    read_message,
    read_messages,
)
from rund_daemon.segments.schemas import count_arrays

from tests.daemon.hostile_arrow import huge_message, many_nulls, mutated, sample_batches

LIMITS = Limits()
BATCHES = sample_batches()


def messages_of(data: bytes) -> list[tuple[int, int, int, int]]:
    return [(found.kind, found.begin, found.end, found.rows) for found in read_messages(memoryview(data), "field")]


def stream_of(*batches: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def wire(schema: pa.Schema) -> WireSchema:
    return WireSchema(schema, plain_schema(schema), b"")


def reason_of(data: bytes) -> str:
    with pytest.raises(InvalidError) as refused:
        messages_of(data)
    assert refused.value.reason is Reason.INVALID_ARROW
    assert refused.value.field == "field"
    return refused.value.message


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: "-".join(batch.schema.names))
def test_messages_end_where_pyarrow_ends_them(batch: pa.RecordBatch) -> None:
    schema, rows = batch.schema.serialize().to_pybytes(), batch.serialize().to_pybytes()
    assert messages_of(schema) == [(SCHEMA, 0, len(schema), 0)]
    assert messages_of(rows) == [(RECORD_BATCH, 0, len(rows), batch.num_rows)]
    both = [(SCHEMA, 0, len(schema), 0), (RECORD_BATCH, len(schema), len(schema) + len(rows), batch.num_rows)]
    assert messages_of(schema + rows) == both
    assert messages_of(stream_of(batch)) == both, "the end mark ends it"
    assert messages_of(schema + rows + END_OF_STREAM + b"what follows is not looked at") == both


def test_a_stream_of_thousands_of_messages() -> None:
    batch = BATCHES[0]
    data = stream_of(*[batch] * 5_000)
    found = messages_of(data)
    assert len(found) == 5_001
    assert [begin for _, begin, _, _ in found[1:]] == [end for _, _, end, _ in found[:-1]]
    assert found[-1][2] + len(END_OF_STREAM) == len(data)


def test_nothing_is_no_message() -> None:
    assert read_message(memoryview(b""), 0, "field") is None
    assert read_message(memoryview(END_OF_STREAM), 0, "field") is None


def test_dictionaries_are_told_apart() -> None:
    batch = pa.record_batch({"x": pa.array(["a", "b", "a"]).dictionary_encode()})
    assert [kind for kind, *_ in messages_of(stream_of(batch))] == [SCHEMA, DICTIONARY_BATCH, RECORD_BATCH]


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_compressed_body_is_refused_before_it_is_unpacked(codec: str) -> None:
    zeros = pa.record_batch({"x": pa.array([0] * 1_000_000, pa.int64())})
    data = stream_of(zeros, options=pa.ipc.IpcWriteOptions(compression=codec))
    assert len(data) < 100_000
    assert "uncompressed" in reason_of(data)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"x", "middle"),
        (b"PAR1" + bytes(100), "does not begin"),
        (b"ARROW1\0\0" + bytes(100), "does not begin"),
        (struct.pack("<I", 200) + bytes(300), "does not begin"),  # the format before 0.15
        (struct.pack("<II", CONTINUATION, 7) + bytes(7), "padded"),
        (struct.pack("<II", CONTINUATION, 0xFFFFFFF8) + bytes(8), "cut off"),
    ],
)
def test_what_is_no_message(data: bytes, says: str) -> None:
    assert says in reason_of(data)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: "-".join(batch.schema.names))
def test_every_cut_is_noticed(batch: pa.RecordBatch) -> None:
    data = stream_of(batch)[: -len(END_OF_STREAM)]
    ends = {0, *(end for *_, end, _ in messages_of(data))}
    for length in range(len(data)):
        if length in ends:
            messages_of(data[:length])
        else:
            reason_of(data[:length])


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_broken_heads_are_invalid_or_well_formed(number: int) -> None:
    data = stream_of(BATCHES[number])
    refused = 0
    for broken in mutated(data, 25_000, seed=number):
        try:
            found = messages_of(broken)
        except InvalidError:
            refused += 1
            continue
        assert all(0 <= begin < end <= len(broken) and rows >= 0 for _, begin, end, rows in found)
    assert refused > 5_000


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_broken_batches_are_refused_or_valid(number: int) -> None:
    batch = BATCHES[number]
    schema, reasons = wire(batch.schema), set()
    for broken in mutated(batch.serialize().to_pybytes(), 25_000, seed=100 + number):
        try:
            read_batch(broken, schema, LIMITS, "field").validate(full=True)
        except (InvalidError, ExhaustedError) as refused:
            reasons.add(refused.reason)
    assert Reason.INVALID_ARROW in reasons
    assert reasons <= {Reason.INVALID_ARROW, Reason.OVER_LIMIT}


@pytest.mark.parametrize("number", range(len(BATCHES)))
def test_broken_streams_and_schemas_are_refused_or_valid(number: int) -> None:
    reasons = set()
    for broken in mutated(stream_of(BATCHES[number]), 5_000, seed=200 + number):
        try:
            schema, batches, _ = read_stream(broken, LIMITS, "field")
        except (InvalidError, ExhaustedError) as refused:
            reasons.add(refused.reason)
            continue
        assert all(read.schema.equals(schema) for read in batches)
    for broken in mutated(BATCHES[number].schema.serialize().to_pybytes(), 5_000, seed=300 + number):
        try:
            read_schema(broken, LIMITS, "field")
        except (InvalidError, ExhaustedError) as refused:
            reasons.add(refused.reason)
    assert Reason.INVALID_ARROW in reasons
    assert reasons <= {Reason.INVALID_ARROW, Reason.INVALID_COLUMN, Reason.OVER_LIMIT}


def test_a_batch_of_another_schema_is_refused() -> None:
    other = pa.schema({"i": pa.list_(pa.string()), "f": pa.string()})
    with pytest.raises(InvalidError):
        read_batch(BATCHES[0].serialize().to_pybytes(), wire(other), LIMITS, "field")


def test_a_stream_has_one_schema() -> None:
    data = stream_of(BATCHES[0])[: -len(END_OF_STREAM)] + stream_of(BATCHES[1])
    with pytest.raises(InvalidError, match="other than a schema"):
        read_stream(data, LIMITS, "field")


@pytest.mark.parametrize(
    "column",
    [
        many_nulls(100),
        pa.ListArray.from_arrays(pa.array([0, 2**31 - 2], pa.int32()), many_nulls(2**31 - 1)),
        pa.LargeListArray.from_arrays(pa.array([0, 10**12], pa.int64()), many_nulls(10**12)),
        pa.FixedSizeListArray.from_arrays(many_nulls(2**31 - 1), 2**31 - 1),
        pa.StructArray.from_arrays([pa.FixedSizeListArray.from_arrays(many_nulls(10**9), 10**9)], names=["x"]),
        pa.ListArray.from_arrays(
            pa.array([0, 10**9], pa.int32()), pa.StructArray.from_arrays([many_nulls(10**9)], names=["x"])
        ),
    ],
    ids=["100 nulls", "list", "large list", "vector", "struct of a vector", "list of structs"],
)
def test_values_without_bytes_are_counted_at_every_depth(column: pa.Array) -> None:
    """A few bytes can say that they are 10^12 nulls. Whoever filters them later would pay for each."""
    batch = pa.record_batch([column], names=["x"])
    data = huge_message(batch)
    assert len(data) < 1_000
    limits = Limits(max_batch_rows=99) if column.type == pa.null() else LIMITS
    with pytest.raises(ExhaustedError) as refused:
        read_batch(data, wire(batch.schema), limits, "field")
    assert refused.value.reason is Reason.OVER_LIMIT


def test_a_batch_of_ten_to_the_twelve_nulls_is_refused_by_its_head() -> None:
    batch = pa.record_batch([many_nulls(10**12)], names=["x"])
    with pytest.raises(ExhaustedError) as refused:
        read_batch(huge_message(batch), wire(batch.schema), LIMITS, "field")
    assert refused.value.metadata["value"] == str(10**12)


@pytest.mark.parametrize("batch", BATCHES, ids=lambda batch: "-".join(batch.schema.names))
def test_a_message_has_as_many_arrays_as_its_schema(batch: pa.RecordBatch) -> None:
    message = read_message(memoryview(batch.serialize()), 0, "field")
    assert message is not None
    assert message.nodes == count_arrays(batch.schema)


@pytest.mark.parametrize(
    "extra", [pa.array([2]), pa.array(["b"]), pa.array([[2]]), pa.nulls(1)], ids=lambda a: str(a.type)
)
def test_columns_that_the_schema_does_not_name_are_refused(extra: pa.Array) -> None:
    """Arrow would leave them out without a word."""
    batch = pa.record_batch({"a": pa.array([1]), "b": extra})
    narrow = wire(batch.schema.remove(1))
    for data in (batch.serialize().to_pybytes(), batch.slice(0, 0).serialize().to_pybytes()):
        with pytest.raises(InvalidError, match="arrays") as refused:
            read_batch(data, narrow, LIMITS, "field")
        assert refused.value.reason is Reason.INVALID_ARROW
    with pytest.raises(InvalidError, match="arrays"):
        read_stream(narrow.wire.serialize().to_pybytes() + batch.serialize().to_pybytes(), LIMITS, "field")
