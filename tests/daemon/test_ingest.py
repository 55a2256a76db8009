"""From an accepted batch to its ack: sequences, schemas side by side, and who is refused what."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pyarrow as pa
import pytest
from rund_daemon.catalog import shelves
from rund_daemon.errors import ConflictError, ExhaustedError, InvalidError, NotFoundError, Reason, RundError
from rund_daemon.ingest.table_files import MAX_OPEN_SCHEMAS
from rund_daemon.limits import Limits
from rund_daemon.model import MetricsTable, RequestKey
from rund_daemon.names import RunName

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in, send
from tests.process.tiny_disk import fill, tiny_disk


async def prepared(rooms: Rooms) -> MetricsTable:
    return await rooms.new_table(await rooms.new_run())


async def refused(rooms: Rooms, table: MetricsTable, *batches: pa.RecordBatch, first: int = 1) -> RundError:
    with pytest.raises(RundError) as error:
        await rooms.write(table, *batches, first=first)
    return error.value


async def values(rooms: Rooms, table: MetricsTable, column: str = "x") -> list[object]:
    return (await rooms.read(table.uid)).column(column).to_pylist()


def test_a_batch_that_is_sent_again_is_stored_once(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        assert await rooms.write(table, numbers(0, 5), numbers(5, 10)) == 2
        assert await rooms.write(table, numbers(0, 5), numbers(5, 10), numbers(10, 15)) == 3
        stream = rooms.ingest.open(table, "w")
        assert stream.committed == 3
        async with rooms.one_group():
            for sequence in (4, 4, 3, 4, 5, 5):
                await send(stream, sequence, numbers(5 * sequence - 5, 5 * sequence))
        await stream.drain()
        stream.close()
        assert await values(rooms, table) == list(range(25))

    run_in(tmp_path, work)


def test_streams_of_one_table_do_not_know_each_other(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        await asyncio.gather(*(rooms.write(table, *[numbers(0, 1)] * 20, stream_id=f"{name}") for name in range(20)))
        assert (await rooms.read(table.uid)).num_rows == 400
        with rooms.catalog.snapshot() as snapshot:
            marks = [mark.sequence for _, mark in snapshot.scan(shelves.STREAMS, table.uid)]
        assert marks == [20] * 20

    run_in(tmp_path, work)


@pytest.mark.parametrize("sent", [2, 7, 2**62])
def test_a_gap_is_refused_with_what_is_held(tmp_path: Path, sent: int) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        error = await refused(rooms, table, numbers(0, 5), first=sent)
        assert (error.reason, error.metadata["committed_sequence"]) == (Reason.SEQUENCE_GAP, "0")
        await rooms.write(table, numbers(0, 5))
        error = await refused(rooms, table, numbers(0, 5), first=sent + 1)
        assert error.metadata["committed_sequence"] == "1"
        assert await values(rooms, table) == list(range(5))

    run_in(tmp_path, work)


def test_what_comes_before_a_gap_in_its_group_is_kept(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        stream = rooms.ingest.open(table, "w")
        async with rooms.one_group():
            for sequence in (1, 2, 4):
                await send(stream, sequence, numbers(0, 5))
        with pytest.raises(RundError):
            await stream.drain()
        assert stream.committed == 2
        stream.close()
        assert (await rooms.read(table.uid)).num_rows == 10

    run_in(tmp_path, work)


def test_rows_of_many_schemas_are_read_in_the_order_of_their_commits(tmp_path: Path) -> None:
    kinds = MAX_OPEN_SCHEMAS + 4
    chance = random.Random(4)
    order = [chance.randrange(kinds) for _ in range(120)]

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        streams = [rooms.ingest.open(table, f"w{kind}") for kind in range(kinds)]
        sequences = [0] * kinds
        for row, kind in enumerate(order):
            sequences[kind] += 1
            await send(streams[kind], sequences[kind], pa.record_batch({"row": [row], f"only_{kind}": [kind]}))
        await asyncio.gather(*(stream.drain() for stream in streams))
        rows = await rooms.read(table.uid)
        assert rows.column("row").to_pylist() == list(range(len(order)))
        for row, kind in enumerate(order):
            assert [name for name in rows.schema.names[1:] if rows.column(name)[row].as_py() is not None] == [
                f"only_{kind}"
            ]
        assert sum(file.stat().st_size for file in rooms.folder(run).iterdir()) == await marked_bytes(rooms, table)
        await rooms.seal(table)
        assert (await rooms.read(table.uid)).equals(rows)
        (only,) = rooms.folder(run).iterdir()
        assert only.suffix == ".arrow"
        assert only.stat().st_size == await marked_bytes(rooms, table)

    run_in(tmp_path, work)


async def marked_bytes(rooms: Rooms, table: MetricsTable) -> int:
    with rooms.catalog.snapshot() as snapshot:
        mark = snapshot.get(shelves.MARKS, table.uid)
    assert mark is not None
    return mark.bytes


def test_integers_become_floats_when_floats_come(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        await rooms.write(table, pa.record_batch({"x": [1, 2]}), pa.record_batch({"x": [0.5]}))
        rows = await rooms.read(table.uid)
        assert rows.schema.field("x").type == pa.float64()
        assert rows.column("x").to_pylist() == [1.0, 2.0, 0.5]

    run_in(tmp_path, work)


def test_a_column_of_another_kind_fails_its_stream_alone(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        await rooms.write(table, numbers(0, 5))
        with pytest.raises(InvalidError) as error:
            await rooms.write(table, pa.record_batch({"x": [[1]]}), stream_id="other")
        assert error.value.reason is Reason.INVALID_COLUMN
        # Both fit as long as neither is committed: the writer has the last word.
        lists, structs = rooms.ingest.open(table, "lists"), rooms.ingest.open(table, "structs")
        async with rooms.one_group():
            await send(lists, 1, pa.record_batch({"x": [5], "new": [[1]]}))
            await send(structs, 1, pa.record_batch({"x": [6], "new": [{"a": 1}]}))
        await lists.drain()
        with pytest.raises(InvalidError) as error:
            await structs.drain()
        assert error.value.reason is Reason.INVALID_COLUMN
        assert await values(rooms, table) == [0, 1, 2, 3, 4, 5]
        assert (await values(rooms, table, "new"))[-1] == [1]

    run_in(tmp_path, work)


def test_a_schema_without_committed_rows_changes_nothing(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        good, bad = rooms.ingest.open(table, "good"), rooms.ingest.open(table, "bad")
        await send(good, 1, pa.record_batch({"x": [1.5]}))
        bad.set_schema(pa.schema({"x": pa.string(), "evil": pa.int8()}).serialize().to_pybytes(), "schema")
        with pytest.raises(InvalidError):
            await bad.write_batch(1, b"garbage")
        await send(bad, 9, pa.record_batch({"x": ["text"], "evil": [1]}))
        with pytest.raises(RundError):
            await bad.drain()
        await send(good, 2, pa.record_batch({"x": [2.5]}))
        await good.drain()
        rows = await rooms.read(table.uid)
        assert rows.schema.names == ["x"]
        assert rows.schema.field("x").type == pa.float64()

    run_in(tmp_path, work)


def test_batches_without_rows_move_the_sequence_and_bring_their_columns(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        empty = pa.record_batch({"x": pa.array([], pa.int64()), "y": pa.array([], pa.string())})
        assert await rooms.write(table, empty, empty, empty) == 3
        rows = await rooms.read(table.uid)
        assert (rows.num_rows, rows.schema.names) == (0, ["x", "y"])
        await rooms.write(table, numbers(0, 3), first=4)
        assert (await rooms.read(table.uid)).num_rows == 3

    run_in(tmp_path, work)


def test_a_sealed_table_takes_nothing_but_repeats(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        await rooms.write(table, numbers(0, 5))
        await rooms.runs.seal_table(table)
        error = await refused(rooms, table, numbers(5, 10), first=2)
        assert error.reason is Reason.TABLE_SEALED
        assert await rooms.write(table, numbers(0, 5)) == 1
        assert await values(rooms, table) == list(range(5))

    run_in(tmp_path, work)


def test_a_deleted_run_takes_nothing_and_a_restored_one_goes_on(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table, name = await prepared(rooms), RunName("p", "run")
        await rooms.write(table, numbers(0, 5))
        await rooms.runs.delete(name, "", NO_REQUEST)
        with pytest.raises(NotFoundError) as error:
            await rooms.write(table, numbers(5, 10), first=2)
        assert error.value.reason is Reason.RUN_NOT_FOUND
        assert (await rooms.read(table.uid)).num_rows == 5, "a run in trash can be read"
        await rooms.runs.undelete(name, None, NO_REQUEST)
        await rooms.write(table, numbers(5, 10), first=2)
        assert await values(rooms, table) == list(range(10))

    run_in(tmp_path, work)


def test_a_stream_that_is_opened_again_ends_the_old_one(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        old = rooms.ingest.open(table, "w")
        await send(old, 1, numbers(0, 5))
        new = rooms.ingest.open(table, "w")
        with pytest.raises(ConflictError) as error:
            await send(old, 2, numbers(5, 10))
        assert error.value.reason is Reason.STREAM_TAKEN_OVER
        old.close()
        for sequence in (1, 2):
            await send(new, sequence, numbers(5 * sequence - 5, 5 * sequence))
        await new.drain()
        new.close()
        assert await values(rooms, table) == list(range(10))

    run_in(tmp_path, work)


def test_a_request_without_a_stream_is_stored_once(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)

        async def log(request_id: str, fingerprint: bytes = b"f") -> None:
            stream = rooms.ingest.open(table, "")
            await stream.write_rows(1, numbers(0, 3), "rows", RequestKey(request_id, "LogScalars", fingerprint))
            await stream.drain()
            stream.close()

        async with rooms.one_group():
            together = asyncio.gather(log("a"), log("a"), log("b"))
            await asyncio.sleep(0.05)
        await together
        await log("a")
        assert (await rooms.read(table.uid)).num_rows == 6
        with pytest.raises(InvalidError) as error:
            await log("a", b"other")
        assert error.value.reason is Reason.REQUEST_ID_REUSED
        await log("")
        await log("")
        assert (await rooms.read(table.uid)).num_rows == 12

    run_in(tmp_path, work)


def test_a_table_has_no_more_columns_than_the_limit(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        await rooms.write(table, pa.record_batch({f"a{number}": [1] for number in range(6)}))
        with pytest.raises(ExhaustedError) as error:
            await rooms.write(table, pa.record_batch({f"b{number}": [1] for number in range(5)}), stream_id="other")
        assert error.value.reason is Reason.OVER_LIMIT
        await rooms.write(table, pa.record_batch({f"b{number}": [1] for number in range(4)}), stream_id="other")

    run_in(tmp_path, work, limits=Limits(max_columns=10))


@pytest.mark.parametrize("fault", ["short", "gone", "a folder"])
def test_rows_go_on_beside_a_damaged_segment(tmp_path: Path, fault: str) -> None:
    async def first(rooms: Rooms) -> Path:
        run = await rooms.new_run()
        await rooms.write(await rooms.new_table(run), numbers(0, 5))
        return rooms.folder(run) / "000000.arrows"

    path = run_in(tmp_path, first)
    if fault == "short":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    if fault == "a folder":
        path.mkdir()

    async def second(rooms: Rooms) -> None:
        table = rooms.runs.get(RunName("p", "run")).tables[0].table
        assert await rooms.write(table, numbers(5, 10), first=2) == 2
        rows = await rooms.read(table.uid, start_row=5)
        assert rows.column("x").to_pylist() == [5, 6, 7, 8, 9]
        with pytest.raises((RundError, OSError)):
            await rooms.read(table.uid)

    run_in(tmp_path, second)


def test_a_write_that_finds_the_disk_full_fails_its_table_alone(tmp_path: Path) -> None:
    """The floor is a guess; the disk may still be full when the bytes are written."""

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        large, small = await rooms.new_table(run, "large"), await rooms.new_table(run, "small")
        await rooms.write(large, numbers(0, 10))
        await rooms.write(small, numbers(0, 10))
        path = rooms.folder(run, "large") / "000000.arrows"
        committed = path.stat().st_size
        filler = fill(rooms.root / "filler", leave=300 * 1024)
        streams = [rooms.ingest.open(table, "w") for table in (large, small)]
        async with rooms.one_group():
            await send(streams[0], 2, numbers(10, 100_000))
            await send(streams[1], 2, numbers(10, 20))
        await streams[1].drain()
        with pytest.raises(ExhaustedError) as error:
            await streams[0].drain()
        assert error.value.reason is Reason.NO_SPACE
        filler.unlink()
        assert await values(rooms, small) == list(range(20))
        assert await values(rooms, large) == list(range(10))
        await rooms.write(large, numbers(10, 15), first=2)
        assert await values(rooms, large) == list(range(15))
        assert path.stat().st_size < committed + 1_000, "what was written of the refused batch is gone"

    with tiny_disk(tmp_path / "disk", 8) as disk:
        run_in(disk / "root", work, min_free_bytes=-(1 << 40))


def test_no_more_bytes_wait_than_the_bound(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        stream = rooms.ingest.open(table, "w")
        async with rooms.one_group():
            sending = asyncio.ensure_future(send_all(stream))
            await asyncio.sleep(0.2)
            assert not sending.done(), "the reader of a stream stops at the bound"
        await sending
        await stream.drain()
        stream.close()
        assert (await rooms.read(table.uid)).num_rows == 50_000

    async def send_all(stream: object) -> None:
        for sequence in range(1, 51):
            await send(stream, sequence, numbers(0, 1_000))  # type: ignore[arg-type]

    run_in(tmp_path, work, limits=Limits(max_inflight_bytes=100_000))
