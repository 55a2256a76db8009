"""Files that are handed over: they become sealed segments as they are, once, in order, or are refused whole."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from rund_daemon.catalog import shelves
from rund_daemon.checking import check
from rund_daemon.errors import ExhaustedError, InvalidError, Reason, RundError, SequenceGapError
from rund_daemon.ingest.batches import ForeignRows
from rund_daemon.ingest.staging import MAX_FILE_BYTES, Staging, StagingFolder
from rund_daemon.ingest.streams import WriteStream
from rund_daemon.model import MetricsTable, Run
from rund_daemon.names import RunName
from rund_daemon.segments.file_format import PREAMBLE

from tests.daemon.rooms import Rooms, numbers, run_in, send

SCHEMA = pa.schema({"x": pa.int64()}).serialize().to_pybytes()


class Writer:
    """A write stream to which files can be handed."""

    def __init__(self, rooms: Rooms, table: MetricsTable, stream_id: str = "w") -> None:
        self.stream: WriteStream = rooms.ingest.open(table, stream_id)
        self.stream.set_schema(SCHEMA, "schema")
        self.folder: StagingFolder = Staging(rooms.layout, rooms.floor).open_folder()
        self.head = self.stream.stage_in(self.folder)
        self.sequence = self.stream.committed

    def body(self, *batches: pa.RecordBatch) -> bytes:
        return b"".join([PREAMBLE, self.head, *(batch.serialize().to_pybytes() for batch in batches)])

    async def hand_over(self, *batches: pa.RecordBatch) -> None:
        """Puts batches into a file and names it."""
        first = self.sequence + 1
        self.sequence += len(batches)
        (self.folder.path / f"{first}.arrow").write_bytes(self.body(*batches))
        await self.stream.write_staged(first, self.sequence, f"{first}.arrow")

    async def send(self, batch: pa.RecordBatch) -> None:
        """Sends one over the socket."""
        self.sequence += 1
        await send(self.stream, self.sequence, batch)

    async def close(self) -> None:
        try:
            await self.stream.drain()
        finally:
            self.stream.close()


async def prepared(rooms: Rooms) -> tuple[Run, MetricsTable]:
    run = await rooms.new_run()
    return run, await rooms.new_table(run)


async def column(rooms: Rooms, table: MetricsTable) -> list[object]:
    return (await rooms.read(table.uid)).column("x").to_pylist()


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_becomes_a_sealed_segment_as_it_is(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 10), numbers(0, 0), numbers(10, 30))
        await writer.close()
        assert writer.stream.committed == 3
        assert await column(rooms, table) == list(range(30))
        assert files(rooms.folder(run)) == ["000000.arrow"]
        with pa.ipc.open_file(rooms.folder(run) / "000000.arrow") as file:
            assert file.read_all().column("x").to_pylist() == list(range(30))
            assert file.num_record_batches == 3
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)
    assert not list((tmp_path / "incoming").iterdir())


def test_files_and_batches_of_many_writers_keep_each_writers_order(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        chance = random.Random(3)
        writers = [Writer(rooms, table, f"w{number}") for number in range(4)]
        sent: list[list[int]] = [[] for _ in writers]
        for step in range(60):
            number = chance.randrange(len(writers))
            begin = 1_000_000 * number + 10 * step
            batch = numbers(begin, begin + 10)
            sent[number] += range(begin, begin + 10)
            await (writers[number].hand_over(batch) if chance.random() < 0.4 else writers[number].send(batch))
            if step % 20 == 19:
                await rooms.seal(table)
        for writer in writers:
            await writer.close()
        for _ in range(2):
            found = await column(rooms, table)
            assert sorted(found) == sorted(value for values in sent for value in values)
            for number, values in enumerate(sent):
                assert [value for value in found if value // 1_000_000 == number] == values
            await rooms.runs.seal_table(table)
            await rooms.seal(table)
        assert len(files(rooms.folder(run))) == 1, "small files are joined in the end"
        assert check(rooms.catalog, rooms.layout).findings == ()
        with rooms.catalog.snapshot() as snapshot:
            assert not list(snapshot.scan(shelves.OPEN_SEGMENTS))

    run_in(tmp_path, work)


def test_a_range_that_is_there_is_dropped_and_a_gap_is_told(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 10), numbers(10, 20))
        await writer.close()
        again = Writer(rooms, table)
        again.sequence = 0
        await again.hand_over(numbers(0, 10), numbers(10, 20))
        await again.stream.drain()
        assert again.stream.repeated
        for first in (2, 4):
            again.sequence = first - 1
            await again.hand_over(numbers(0, 10), numbers(0, 10))
            with pytest.raises(SequenceGapError):
                await again.stream.drain()
            again.stream.close()
            again = Writer(rooms, table)
        again.stream.close()
        assert await column(rooms, table) == list(range(20))
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)


def test_what_a_killed_daemon_had_moved_and_not_committed_is_removed(tmp_path: Path) -> None:
    async def first(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 10))
        await writer.close()
        orphan = rooms.folder(run) / "000002.arrow"
        orphan.write_bytes(writer.body(numbers(10, 20)))
        rooms.layout.announce_segment(table.uid, 2, orphan)

    async def second(rooms: Rooms) -> None:
        details = rooms.runs.get(RunName("p", "run"))
        assert files(rooms.folder(details.run)) == ["000000.arrow"]
        assert await column(rooms, details.tables[0].table) == list(range(10))
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, first)
    run_in(tmp_path, second)


def test_what_the_batches_of_a_file_must_be_is_checked(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        (writer.folder.path / "a").write_bytes(writer.body(numbers(0, 10)))
        await writer.stream.write_staged(1, 2, "a")
        with pytest.raises(InvalidError, match="sequences"):
            await writer.stream.files.finish()
        with pytest.raises(InvalidError) as refused:
            writer.folder.check("a", 1, writer.head, ForeignRows(1, 5), rooms.limits)
        assert refused.value.reason is Reason.ROW_COUNT_MISMATCH
        writer.stream.close()

    run_in(tmp_path, work)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


def compressed(writer: Writer) -> bytes:
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, numbers(0, 1).schema, options=options) as out:
        out.write_batch(numbers(0, 100_000))
    whole = sink.getvalue().to_pybytes()
    return PREAMBLE + writer.head + whole[len(SCHEMA) : -8]


def other_schema(writer: Writer) -> bytes:
    batch = pa.record_batch({"y": ["text"]})
    return PREAMBLE + batch.schema.serialize().to_pybytes() + batch.serialize().to_pybytes()


def whole_file(writer: Writer) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, numbers(0, 1).schema) as out:
        out.write_batch(numbers(0, 10))
    return sink.getvalue().to_pybytes()


HOSTILE: dict[str, Callable[[Writer], bytes]] = {
    "nothing": lambda _writer: b"",
    "zeros": lambda _writer: bytes(5000),
    "cut off": lambda writer: writer.body(numbers(0, 100))[:-100],
    "an end mark": lambda writer: writer.body(numbers(0, 100)) + b"\xff\xff\xff\xff\0\0\0\0",
    "a tail": lambda writer: writer.body(numbers(0, 100)) + b"tail" * 10,
    "two batches": lambda writer: writer.body(numbers(0, 1), numbers(1, 2)),
    "another schema": other_schema,
    "a column too many": lambda writer: writer.body(numbers(0, 10).append_column("y", pa.array(range(10)))),
    "compressed": compressed,
    "with a footer": whole_file,
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path: Path, fault: str) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        writer = Writer(rooms, table)
        (writer.folder.path / "1.arrow").write_bytes(HOSTILE[fault](writer))
        await writer.stream.write_staged(1, 1, "1.arrow")
        with pytest.raises(InvalidError) as refused:
            await writer.stream.files.finish()
        assert str(refused.value.metadata.get("field", "batch.staged")).startswith("batch.staged")
        writer.stream.close()
        assert not rooms.folder(run).exists() or files(rooms.folder(run)) == []

    run_in(tmp_path, work)
    assert not list((tmp_path / "incoming").iterdir())


def test_files_that_are_checked_side_by_side_are_taken_in_their_order(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer, begin = Writer(rooms, table), 0
        # A large one takes longer to check than the small ones behind it.
        for rows in (500_000, 10, 200_000, 10, 10, 300_000, 10):
            await writer.hand_over(numbers(begin, begin + rows))
            begin += rows
        await writer.send(numbers(begin, begin + 10))
        await writer.close()
        assert writer.stream.committed == 8
        assert await column(rooms, table) == list(range(begin + 10))

    run_in(tmp_path, work)


def test_what_comes_behind_a_refused_file_is_not_taken(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 500_000))
        (writer.folder.path / "2.arrow").write_bytes(b"no Arrow")
        await writer.stream.write_staged(2, 2, "2.arrow")
        writer.sequence = 2
        await writer.hand_over(numbers(10, 20))
        with pytest.raises(InvalidError) as refused:
            await writer.send(numbers(20, 30))
        assert refused.value.metadata["sequence"] == "2"
        await writer.close()
        assert writer.stream.committed == 1
        assert await column(rooms, table) == list(range(500_000))

    run_in(tmp_path, work)
    assert not list((tmp_path / "incoming").iterdir())


def test_a_stream_that_is_given_up_takes_no_file_that_is_still_being_checked(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 500_000))
        writer.stream.close()
        await writer.stream.files.finish()
        next_one = Writer(rooms, table)
        assert await rooms.ingest.position(next_one.stream) == next_one.stream.committed == 0
        await next_one.hand_over(numbers(0, 10))
        await next_one.close()
        assert await column(rooms, table) == list(range(10))

    run_in(tmp_path, work)
    assert not list((tmp_path / "incoming").iterdir())


def test_files_with_flipped_bits_never_do_more_than_be_refused(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        whole, chance, taken = writer.body(numbers(0, 50)), random.Random(5), 0
        for number in range(400):
            data = flipped(whole, chance.randrange(len(whole)))
            (writer.folder.path / f"{number}").write_bytes(data)
            try:
                writer.folder.check(f"{number}", 1, writer.head, None, rooms.limits)
                taken += 1  # other values are values, too
            except RundError:
                pass
        assert 0 < taken < 400
        writer.stream.close()

    run_in(tmp_path, work)


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "missing", "path", "hidden", "huge"])
def test_what_is_no_plain_file_of_the_folder_is_refused(tmp_path: Path, kind: str) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        path, outside = writer.folder.path / "1.arrow", tmp_path / "outside"
        outside.write_bytes(writer.body(numbers(0, 10)))
        name = {"path": "../../outside", "hidden": ".hidden"}.get(kind, "1.arrow")
        match kind:
            case "link":
                path.symlink_to(outside)
            case "hard link":
                path.hardlink_to(outside)
            case "pipe":
                os.mkfifo(path)
            case "folder":
                path.mkdir()
            case "huge":
                path.touch()
                os.truncate(path, MAX_FILE_BYTES + 1)
        await writer.stream.write_staged(1, 1, name)
        with pytest.raises(ExhaustedError if kind == "huge" else InvalidError):
            await writer.stream.files.finish()
        writer.stream.close()
        assert outside.read_bytes() == writer.body(numbers(0, 10))

    run_in(tmp_path, work)


def test_a_file_that_is_gone_fails_its_own_stream_alone(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        careless, other = Writer(rooms, table, "careless"), Writer(rooms, table, "other")
        async with rooms.one_group():
            await other.hand_over(numbers(0, 10))
            await careless.hand_over(numbers(0, 10))
            await careless.stream.files.finish()
            await other.send(numbers(10, 20))
            (careless.folder.path / "1.arrow").unlink()
        await other.close()
        with pytest.raises(InvalidError, match="gone"):
            await careless.close()
        assert await column(rooms, table) == list(range(20))
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)


def test_without_an_offer_nothing_is_taken(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        stream = rooms.ingest.open(table, "w")
        stream.set_schema(SCHEMA, "schema")
        with pytest.raises(InvalidError, match="no folder"):
            await stream.write_staged(1, 1, "1.arrow")
        stream.close()

    run_in(tmp_path, work)
