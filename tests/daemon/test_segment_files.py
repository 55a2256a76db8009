"""Segments as files: grown and cut back, sealed whole or not at all, read only as they were committed."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import xxhash
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, ColumnSchema, Segment
from rund_daemon.segments.file_format import PREAMBLE, Block, ending
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import Layout, make_durable_folder, settle_move, write_durable_file
from rund_daemon.segments.open_segment import OpenSegment, cut_back_file
from rund_daemon.segments.reader import SegmentReader, StoredBatch
from rund_daemon.segments.seal import LARGE_BYTES, MERGED_ROWS, merge, write_sealed

HEAD = segment_head(pa.schema({"x": pa.int64()}), (), {})


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


# --- open segments ---


def test_a_segment_grows_by_what_is_flushed(tmp_path: Path) -> None:
    segment = OpenSegment.create(tmp_path / "new" / "000000.arrows", HEAD)
    assert segment.append(b"abcd") == len(HEAD)
    assert segment.append(memoryview(b"efgh")) == len(HEAD) + 4
    assert segment.path.stat().st_size == 0, "nothing is written before it is flushed"
    segment.flush()
    segment.sync()
    assert segment.path.read_bytes() == HEAD + b"abcdefgh"
    segment.append(b"dropped")
    segment.close()
    segment.close()
    assert segment.path.read_bytes() == HEAD + b"abcdefgh"


def test_thousands_of_buffers_go_out_in_order(tmp_path: Path) -> None:
    segment = OpenSegment.create(tmp_path / "000000.arrows", b"")
    parts = [os.urandom(number % 7) for number in range(5_000)]
    offsets = [segment.append(part) for part in parts]
    segment.flush()
    data = segment.path.read_bytes()
    assert data == b"".join(parts)
    assert all(data[at : at + len(part)] == part for at, part in zip(offsets, parts, strict=True))
    segment.close()


def test_creating_overwrites_what_no_commit_knows(tmp_path: Path) -> None:
    path = tmp_path / "000000.arrows"
    path.write_bytes(b"left by a crash" * 100)
    segment = OpenSegment.create(path, HEAD)
    segment.flush()
    segment.close()
    assert path.read_bytes() == HEAD


def test_reopening_cuts_the_tail_off_and_goes_on_behind_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "000000.arrows"
    path.write_bytes(b"committed" + b"torn tail")
    segment = OpenSegment.reopen(path, 9)
    assert path.read_bytes() == b"committed"
    assert segment.append(b" and more") == 9
    segment.flush()
    segment.close()
    assert path.read_bytes() == b"committed and more"


@pytest.mark.parametrize("content", [None, b"", b"committe"])
def test_what_is_shorter_than_committed_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "000000.arrows"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OSError, match=r"were committed|No such file"):
        OpenSegment.reopen(path, 9)
    with pytest.raises(OSError, match=r"were committed|No such file"):
        cut_back_file(path, 9)
    assert content is None or path.read_bytes() == content


def test_cutting_back_says_how_much_it_cut(tmp_path: Path) -> None:
    path = tmp_path / "000000.arrows"
    path.write_bytes(b"0123456789")
    assert cut_back_file(path, 4) == 6
    assert cut_back_file(path, 4) == 0
    assert path.read_bytes() == b"0123"


# --- sealed segments ---


def stored(batches: Iterable[pa.RecordBatch], first_row: int = 0) -> Iterator[StoredBatch]:
    """Batches as they are read from open segments, each of its own schema."""
    for batch in batches:
        data = memoryview(batch.serialize())
        checksum = xxhash.xxh3_64_intdigest(data)
        head = segment_head(batch.schema, (), {})
        ref = BatchRef(0, len(head), len(data), batch.num_rows, checksum, first_row)
        yield StoredBatch(ref, Segment(0, False, len(head) + len(data), batch.num_rows, head), data)
        first_row += batch.num_rows


def sealed(
    path: Path, *batches: pa.RecordBatch, head: bytes = HEAD, first_row: int = 0
) -> tuple[Segment, list[BatchRef]]:
    written = write_sealed(path, head, stored(batches, first_row), 7)
    return Segment(7, True, written.length, written.rows, head), list(written.batches)


def test_a_sealed_file_is_plain_arrow_and_its_references_hold(tmp_path: Path) -> None:
    segment, refs = sealed(
        tmp_path / "000007.arrow", *(numbers(at, at + 10) for at in range(0, 1000, 10)), first_row=50
    )
    with pa.ipc.open_file(tmp_path / "000007.arrow") as file:
        assert file.read_all().column("x").to_pylist() == list(range(1000))
        assert file.num_record_batches == len(refs) == 1, "small batches are merged"
    assert (refs[0].first_row, refs[0].rows, segment.rows) == (50, 1000, 1000)
    assert segment.length == (tmp_path / "000007.arrow").stat().st_size
    reader = SegmentReader(tmp_path, [segment])
    (batch,) = reader.read(refs)
    reader.close()
    assert batch.decode().column("x").to_pylist() == list(range(1000))
    assert [path.name for path in tmp_path.iterdir()] == ["000007.arrow"]


def test_an_empty_table_is_sealed_too(tmp_path: Path) -> None:
    segment, refs = sealed(tmp_path / "000007.arrow")
    assert (segment.rows, refs) == (0, [])
    with pa.ipc.open_file(tmp_path / "000007.arrow") as file:
        assert file.schema.names == ["x"]


def test_batches_are_given_the_schema_of_the_whole(tmp_path: Path) -> None:
    head = segment_head(pa.schema({"x": pa.float64(), "y": pa.string()}), (), {})
    other = pa.record_batch({"y": ["a"], "x": pa.array([0.5])})
    sealed(tmp_path / "000007.arrow", numbers(0, 2), other, head=head)
    with pa.ipc.open_file(tmp_path / "000007.arrow") as file:
        assert file.read_all().to_pylist() == [{"x": 0.0, "y": None}, {"x": 1.0, "y": None}, {"x": 0.5, "y": "a"}]


def test_a_failed_seal_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[StoredBatch]:
        yield from stored([numbers(0, 10)])
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(OSError, match="no space"):
        write_sealed(tmp_path / "000007.arrow", HEAD, broken(), 7)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 2 * MERGED_ROWS), max_size=8))
def test_merging_keeps_all_rows_in_order_and_no_small_neighbours(sizes: list[int]) -> None:
    schema = pa.schema({"x": pa.int64()})
    starts = np.concatenate([[0], np.cumsum(sizes)]).tolist() if sizes else [0]
    batches = [pa.record_batch({"x": np.arange(begin, end)}) for begin, end in itertools.pairwise(starts)]
    merged = [
        (part, pa.ipc.read_record_batch(pa.py_buffer(part.data), schema)) for part in merge(stored(batches), schema)
    ]
    rows = np.concatenate([batch.column("x").to_numpy() for _, batch in merged]) if merged else np.array([])
    assert np.array_equal(rows, np.arange(starts[-1]))
    for part, batch in merged:
        assert (part.rows, part.checksum) == (batch.num_rows, xxhash.xxh3_64_intdigest(part.data))
        assert not part.rows or part.first_row == batch.column("x")[0].as_py()
    for (left, _), (right, _) in itertools.pairwise(merged):
        assert max(len(left.data), len(right.data)) >= LARGE_BYTES or left.rows + right.rows > MERGED_ROWS


def test_large_batches_pass_as_they_are_and_small_ones_between_them_are_joined(tmp_path: Path) -> None:
    bounds = [0, 40_000, 80_000, 80_010, 80_020, 120_000]
    batches = [numbers(begin, end) for begin, end in itertools.pairwise(bounds)]
    _, refs = sealed(tmp_path / "000007.arrow", *batches)
    data = (tmp_path / "000007.arrow").read_bytes()
    assert [ref.rows for ref in refs] == [40_000, 40_000, 20, 39_980]
    for ref, batch in zip([refs[0], refs[1], refs[3]], [batches[0], batches[1], batches[4]], strict=True):
        assert data[ref.offset : ref.offset + ref.length] == batch.serialize().to_pybytes()
    with pa.ipc.open_file(tmp_path / "000007.arrow") as file:
        assert file.read_all().column("x").to_pylist() == list(range(120_000))


def test_rows_keep_their_numbers_behind_rows_that_were_taken_out(tmp_path: Path) -> None:
    kept = [*stored([numbers(0, 10)]), *stored([numbers(20, 30), numbers(30, 40)], first_row=20)]
    written = write_sealed(tmp_path / "000007.arrow", HEAD, kept, 7)
    assert [(ref.first_row, ref.rows) for ref in written.batches] == [(0, 10), (20, 20)]


SCHEMAS = [
    pa.schema({"x": pa.int64()}),
    pa.schema({f"column {number}": pa.float32() for number in range(301)}),
    pa.schema(
        {"é": pa.string(), "v": pa.list_(pa.float32(), 4), "s": pa.struct({"a": pa.int8(), "b": pa.list_(pa.utf8())})}
    ),
    pa.schema({"when": pa.timestamp("us", tz="UTC"), "m": pa.map_(pa.string(), pa.decimal128(20, 3))}),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=["one", "many", "nested", "others"])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_our_footer_is_read_by_pyarrow_and_polars(tmp_path: Path, schema: pa.Schema, count: int) -> None:
    head = segment_head(schema, [ColumnSchema(schema.names[0], unit="Ω")], {})
    path = tmp_path / "000007.arrow"
    fields = list(read_head(head))
    batches = [
        pa.RecordBatch.from_arrays([pa.nulls(3, field.type) for field in fields], schema=schema) for _ in range(count)
    ]
    blocks, body, offset = [], [], len(PREAMBLE) + len(head)
    for batch in batches:
        body.append(batch.serialize().to_pybytes())
        blocks.append(Block.of(offset, body[-1]))
        offset += len(body[-1])
    path.write_bytes(b"".join([PREAMBLE, head, *body, ending(head, blocks)]))
    with pa.ipc.open_file(path) as file:
        assert file.schema.equals(read_head(head), check_metadata=True)
        assert [file.get_batch(number) for number in range(file.num_record_batches)] == batches
    with pa.memory_map(str(path)) as mapped:
        assert pa.ipc.open_file(mapped).read_all().num_rows == 3 * count
    if "m" not in schema.names:  # Polars has no maps
        assert pl.read_ipc(path).shape == (3 * count, len(schema))


# --- reading ---


def open_segment(folder: Path, batches: list[pa.RecordBatch]) -> tuple[Segment, list[BatchRef]]:
    path, refs, row = folder / "000000.arrows", [], 0
    segment = OpenSegment.create(path, HEAD)
    for batch in batches:
        data = batch.serialize().to_pybytes()
        offset = segment.append(data)
        refs.append(BatchRef(0, offset, len(data), batch.num_rows, xxhash.xxh3_64_intdigest(data), row))
        row += batch.num_rows
    segment.flush()
    segment.close()
    return Segment(0, False, segment.length, row, HEAD), refs


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 9), max_size=12))
def test_batches_are_read_in_any_order_asked_for(tmp_path: Path, wanted: list[int]) -> None:
    segment, refs = open_segment(tmp_path, [numbers(at * 10, at * 10 + 10) for at in range(10)])
    reader = SegmentReader(tmp_path, [segment])
    found = [stored.decode().column("x").to_pylist() for stored in reader.read([refs[number] for number in wanted])]
    reader.close()
    assert found == [list(range(number * 10, number * 10 + 10)) for number in wanted]


def test_a_batch_larger_than_a_read_is_read_whole(tmp_path: Path) -> None:
    segment, refs = open_segment(tmp_path, [numbers(0, 1_000_000), numbers(0, 1), numbers(0, 700_000)])
    reader = SegmentReader(tmp_path, [segment])
    assert [stored.decode().num_rows for stored in reader.read(refs)] == [1_000_000, 1, 700_000]
    reader.close()


def test_every_flipped_byte_of_a_batch_is_noticed(tmp_path: Path) -> None:
    segment, refs = open_segment(tmp_path, [numbers(0, 3), numbers(3, 6), numbers(6, 9)])
    path = tmp_path / segment.file_name
    whole = path.read_bytes()
    for at in range(refs[1].offset, refs[1].offset + refs[1].length):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        reader = SegmentReader(tmp_path, [segment])
        with pytest.raises(CorruptError):
            list(reader.read(refs))
        assert len(list(reader.read([refs[0], refs[2]]))) == 2, "the others can be read"
        reader.close()


@pytest.mark.parametrize("fault", ["zeros", "short", "empty"])
def test_zeros_and_missing_bytes_are_noticed(tmp_path: Path, fault: str) -> None:
    """To Arrow a zeroed body is a valid batch of zeros, and a missing tail a clean end."""
    segment, refs = open_segment(tmp_path, [numbers(0, 100), numbers(100, 200)])
    path = tmp_path / segment.file_name
    whole = path.read_bytes()
    half = refs[1].offset + refs[1].length // 2
    path.write_bytes({"zeros": whole[:half] + bytes(len(whole) - half), "short": whole[:half], "empty": b""}[fault])
    reader = SegmentReader(tmp_path, [segment])
    with pytest.raises(CorruptError):
        list(reader.read(refs))
    reader.close()


def test_what_is_open_stays_readable_when_it_is_moved_and_removed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    segment, refs = open_segment(tmp_path / "a", [numbers(0, 10)])
    reader = SegmentReader(tmp_path / "a", [segment])
    (tmp_path / "a").rename(tmp_path / "b")
    (tmp_path / "b" / segment.file_name).unlink()
    assert [stored.ref for stored in reader.read(refs)] == refs
    reader.close()
    with pytest.raises(FileNotFoundError):
        SegmentReader(tmp_path / "a", [segment])


# --- folders ---


def test_a_move_is_the_same_done_twice(tmp_path: Path) -> None:
    (tmp_path / "from" / "inner").mkdir(parents=True)
    (tmp_path / "from" / "inner" / "file").write_text("content")
    for _ in range(2):
        settle_move(tmp_path, "from", "deep/down/to")
        assert (tmp_path / "deep/down/to/inner/file").read_text() == "content"
        assert not (tmp_path / "from").exists()


def test_what_stands_in_the_way_goes_to_trash(tmp_path: Path) -> None:
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "who").write_text(name)
    settle_move(tmp_path, "from", "to")
    assert (tmp_path / "to" / "who").read_text() == "from"
    (stray,) = (tmp_path / "trash").iterdir()
    assert (stray / "who").read_text() == "to"


def test_a_removal_is_the_same_done_twice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settle_move(tmp_path, "file", "")
    settle_move(tmp_path, "file", "")
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "run.json"
    write_durable_file(path, b"old")
    write_durable_file(path, b"new" * 100_000)
    assert path.read_bytes() == b"new" * 100_000
    assert [entry.name for entry in path.parent.iterdir()] == ["run.json"]


def test_paths_of_a_root(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert layout.metrics_table(layout.run("p", "r"), "t") == tmp_path / "p/runs/r/metrics/t"
    assert layout.input_table("p", "d", "t") == tmp_path / "p/datasets/d/tables/t"
    assert layout.relative(layout.run("p", "r")) == "p/runs/r"
    assert layout.all_unfinished() == []
    make_durable_folder(layout.unfinished(b"\1\2"))
    make_durable_folder(layout.trashed(b"\3"))
    assert layout.all_unfinished() == [layout.unfinished(b"\1\2")]
