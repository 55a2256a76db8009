"""Compressed sealed files: every reader understands them, none is fooled by what they say, and the wire stays plain."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.feather
import pytest
from rund_daemon.catalog import shelves
from rund_daemon.checking import check
from rund_daemon.errors import CorruptError, InvalidError
from rund_daemon.identity import new_uid, now
from rund_daemon.model import BatchRef, IfExists, MetricsTable, Segment
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.processes import boot_id
from rund_daemon.progress import Progress
from rund_daemon.reading.scan import ScanRequest
from rund_daemon.rebuilding import rebuild
from rund_daemon.runs.copying import CopyTarget
from rund_daemon.segments.commit_log import read_account
from rund_daemon.segments.compression import Compression, compress, decompress
from rund_daemon.segments.heads import segment_head
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.messages import decoded_bytes, read_message, read_messages
from rund_daemon.segments.ranges import column_ranges
from rund_daemon.segments.reader import SegmentReader, StoredBatch
from rund_daemon.segments.salvage import salvage_segment
from rund_daemon.segments.seal import write_sealed

from .rooms import Rooms, run_in

ROWS = pa.record_batch(
    {
        "step": pa.array(range(50_000), pa.int64()),
        "loss": pa.array([None, 0.5] * 25_000),
        "name": pa.array(["a", "", None, "d"] * 12_500),
        "e": pa.array([[1.0, 2.0]] * 50_000, pa.list_(pa.float32(), 2)),
    }
)
HEAD = segment_head(ROWS.schema, (), {})
ZSTD = {"compression": Compression.ZSTD}


def stored(batch: pa.RecordBatch, first_row: int = 0) -> StoredBatch:
    data = memoryview(batch.serialize())
    ref = BatchRef(0, 0, len(data), batch.num_rows, 0, first_row, column_ranges(batch))
    return StoredBatch(ref, Segment(0, False, len(data), batch.num_rows, HEAD, 1), data)


def noise() -> pa.RecordBatch:
    values = np.random.default_rng(0).standard_normal(100_000, dtype=np.float32)
    return pa.record_batch({"x": values})


def steps(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"step": pa.array(range(begin, end), pa.int64())})


# --- files ---


@pytest.mark.parametrize("size", [100, 50_000], ids=["joined", "large"])
def test_every_library_reads_a_compressed_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "000001.arrow"
    parts = [stored(ROWS.slice(at, size), at) for at in range(0, ROWS.num_rows, size)]
    sealed = write_sealed(path, HEAD, parts, 1, Compression.ZSTD)
    assert sealed.length * 5 < ROWS.nbytes
    assert all(ref.decoded_bytes > ref.length for ref in sealed.batches)
    expected = pa.Table.from_batches([ROWS])
    with pa.ipc.open_file(path) as reader:
        assert reader.read_all().equals(expected)
    found = pyarrow.feather.read_table(path)
    assert found.equals(expected)
    pd.testing.assert_frame_equal(pd.read_feather(path), expected.to_pandas())
    assert pl.read_ipc(path).to_arrow()["step"].to_pylist() == list(range(50_000))
    assert pl.scan_ipc(path).select(pl.col("loss").sum()).collect().item() == 12_500
    assert duckdb.sql("SELECT sum(step), count(loss), count(name) FROM found").fetchall() == [
        (sum(range(50_000)), 25_000, 37_500)
    ]
    reader = SegmentReader(tmp_path, [Segment(1, True, sealed.length, sealed.rows, HEAD, len(sealed.batches))])
    assert pa.Table.from_batches([part.decode() for part in reader.read(sealed.batches)]).equals(expected)
    reader.close()
    salvage = salvage_segment(path, 1)
    assert (salvage.refs, salvage.problem) == (sealed.batches, "")


def test_noise_stays_as_it_is(tmp_path: Path) -> None:
    batch = noise()
    head = segment_head(batch.schema, (), {})
    part = stored(batch)
    part = StoredBatch(part.ref, replace(part.segment, arrow_schema=head), part.data)
    (ref,) = write_sealed(tmp_path / "000001.arrow", head, [part], 1, Compression.ZSTD).batches
    assert (ref.decoded_bytes, ref.length) == (0, len(part.data))


# --- lies ---


def test_a_batch_that_would_become_more_than_is_known_is_refused_before_memory_is_taken() -> None:
    data = bytearray(compress(ROWS, Compression.ZSTD) or b"")
    known = decoded_bytes(memoryview(data))
    assert decompress(memoryview(data), ROWS.schema, known).equals(ROWS)
    body = 8 + struct.unpack_from("<I", data, 4)[0]
    at = data.index(struct.pack("<q", 50_000 * 8), body)
    struct.pack_into("<q", data, at, 1 << 40)
    before = pa.total_allocated_bytes()
    with pytest.raises(CorruptError, match="of"):
        decompress(memoryview(data), ROWS.schema, known)
    assert pa.total_allocated_bytes() < before + (1 << 20), "of the terabyte that it tells of"
    struct.pack_into("<q", data, at, -2)
    with pytest.raises(InvalidError, match="negative"):
        decompress(memoryview(data), ROWS.schema, known)


def test_a_bomb_in_a_file_ends_its_salvage(tmp_path: Path) -> None:
    bomb = pa.record_batch({"x": pa.array(np.zeros(40_000_000))})
    path = tmp_path / "000001.arrows"
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with path.open("wb") as file, pa.ipc.new_stream(file, bomb.schema, options=options) as writer:
        writer.write_batch(bomb)
    salvage = salvage_segment(path, 1)
    assert (salvage.refs, "320000000" in salvage.problem) == ((), True)


def test_cut_messages_never_read_beyond_their_end() -> None:
    data = compress(ROWS.slice(0, 2_000), Compression.ZSTD)
    assert data is not None
    for end in range(0, len(data) - 7, 3):  # the last buffer is padded to 8 bytes
        with pytest.raises(InvalidError):
            decoded_bytes(data[:end])


def test_the_wire_refuses_what_files_may_hold() -> None:
    data = compress(ROWS, Compression.ZSTD)
    assert data is not None
    with pytest.raises(InvalidError, match="compressed"):
        read_message(data, 0, "batch")


# --- tables ---


async def filled(rooms: Rooms) -> MetricsTable:
    """A table whose first rows are in a compressed file and whose last are not sealed."""
    table = await rooms.new_table(await rooms.new_run())
    await rooms.write(table, *(steps(at, at + 1_000) for at in range(0, 100_000, 1_000)))
    await rooms.seal(table)
    await rooms.write(table, steps(100_000, 100_100), first=101)
    return table


def refs_of(rooms: Rooms, table: MetricsTable) -> list[BatchRef]:
    with rooms.catalog.snapshot() as snapshot:
        return [ref for _, ref in snapshot.scan(shelves.BATCHES, table.uid)]


def test_readers_get_plain_batches_of_mixed_files(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await filled(rooms)
        refs = refs_of(rooms, table)
        assert [bool(ref.decoded_bytes) for ref in refs] == [True] * (len(refs) - 1) + [False]
        rows = 0
        async for piece in rooms.reader.read(table.uid, ScanRequest()):
            rows += sum(
                message.rows for message in read_messages(memoryview(piece.data), "")
            )  # refuses compressed ones
        assert rows == 100_100
        assert (await rooms.read(table.uid)).column("step").to_pylist() == list(range(100_100))
        found = await rooms.read(table.uid, filter="step >= 70000 AND step < 70010")
        assert found.column("step").to_pylist() == list(range(70_000, 70_010))

    run_in(tmp_path, work, **ZSTD)


def test_compressed_files_are_joined_with_new_rows_whatever_the_setting_is_then(tmp_path: Path) -> None:
    tables: list[MetricsTable] = []

    async def begin(rooms: Rooms) -> None:
        tables.append(await filled(rooms))

    async def go_on(rooms: Rooms) -> None:
        (table,) = tables
        before = {ref.checksum for ref in refs_of(rooms, table) if ref.decoded_bytes}
        await rooms.write(table, steps(100_100, 200_000), first=102)
        await rooms.seal(table)
        refs = refs_of(rooms, table)
        assert len({ref.segment for ref in refs}) == 1
        assert before & {ref.checksum for ref in refs}, "what is compressed is copied as it lies"
        assert (await rooms.read(table.uid)).column("step").to_pylist() == list(range(200_000))

    run_in(tmp_path, begin, **ZSTD)
    run_in(tmp_path, go_on)


def test_a_copy_shares_compressed_files(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await filled(rooms)
        run = rooms.runs.get_table(MetricsTableName("p", "run", "t")).table
        assert run.uid == table.uid
        uid = await rooms.copies.copy(
            RunName("p", "run"), CopyTarget("q", "copy", IfExists.RAISE), new_uid(), Progress()
        )
        (copy,) = rooms.runs.get_by_uid(uid).tables
        assert (await rooms.read(copy.table.uid)).column("step").to_pylist() == list(range(100_100))
        links = {path.suffix: path.stat().st_nlink for path in (tmp_path / "q/runs/copy/metrics/t").iterdir()}
        assert links == {".arrow": 2, ".arrows": 1}

    run_in(tmp_path, work, **ZSTD)


@pytest.mark.parametrize("log", [True, False], ids=["by the log", "by the files"])
def test_a_rebuild_keeps_what_batches_become_and_their_ranges(tmp_path: Path, log: bool) -> None:
    kept: list[BatchRef] = []

    async def begin(rooms: Rooms) -> None:
        kept.extend(refs_of(rooms, await filled(rooms)))
        await rooms.snapshots.write_pending()

    async def compare(rooms: Rooms) -> None:
        table = rooms.runs.get_table(MetricsTableName("p", "run", "t")).table
        assert refs_of(rooms, table) == kept
        assert all(ref.ranges for ref in kept)
        assert (await rooms.read(table.uid)).column("step").to_pylist() == list(range(100_100))
        assert list(check(rooms.catalog, rooms.layout).findings) == []

    run_in(tmp_path, begin, **ZSTD)
    path = tmp_path / "p" / "runs" / "run" / "commits" / "t.jsonl"
    account = read_account(path)
    assert account is not None
    assert list(account.refs.values()) == kept
    if not log:
        path.unlink()
    rebuild(Layout(tmp_path), 1 << 28, boot_id(), now(), new_uid)
    run_in(tmp_path, compare)
