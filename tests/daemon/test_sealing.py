"""Sealing and moving while others write and read: rows keep their numbers and nobody notices."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow as pa
import pytest
from rund_daemon.catalog import shelves
from rund_daemon.checking import check
from rund_daemon.errors import CorruptError
from rund_daemon.model import MetricsTable, Run
from rund_daemon.names import RunName
from rund_daemon.reading.scan import ScanRequest
from rund_daemon.runs.snapshots import full_document
from rund_daemon.segments.layout import Layout

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in, send


async def prepared(rooms: Rooms, rows: int = 100) -> tuple[Run, MetricsTable]:
    run = await rooms.new_run()
    table = await rooms.new_table(run)
    await rooms.write(table, *(numbers(at, at + 10) for at in range(0, rows, 10)))
    return run, table


async def column(rooms: Rooms, table: MetricsTable) -> list[object]:
    return (await rooms.read(table.uid)).column("x").to_pylist()


def suffixes(folder: Path) -> list[str]:
    return sorted(path.suffix for path in folder.iterdir())


def test_rows_that_come_while_others_are_sealed_begin_a_segment_of_their_own(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        stream = rooms.ingest.open(table, "w")
        sealing = asyncio.ensure_future(rooms.seal(table))
        for sequence in range(11, 61):
            await send(stream, sequence, numbers(sequence * 10 - 10, sequence * 10))
            await asyncio.sleep(0)
        await asyncio.gather(stream.drain(), sealing)
        stream.close()
        assert await column(rooms, table) == list(range(600))
        await rooms.seal(table)
        assert await column(rooms, table) == list(range(600))
        assert suffixes(rooms.folder(run)) == [".arrow"], "small sealed files are joined"

    run_in(tmp_path, work)


def test_readers_see_one_moment_while_a_table_is_sealed_and_its_run_renamed(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms, rows=500)
        stream = rooms.ingest.open(table, "w")
        done = False

        async def keep_reading() -> int:
            reads = 0
            while not done:
                found = await column(rooms, table)
                assert found == list(range(len(found)))
                reads += 1
            return reads

        readers = [asyncio.ensure_future(keep_reading()) for _ in range(3)]
        for number in range(12):
            run = await rooms.rename(run, f"run-{number}")
            await send(stream, 51 + number, numbers(500 + 10 * number, 510 + 10 * number))
            await rooms.seal(table)
        await stream.drain()
        done = True
        assert min(await asyncio.gather(*readers)) > 0
        assert await column(rooms, table) == list(range(620))
        assert [path.name for path in (tmp_path / "p" / "runs").iterdir()] == [run.name]

    run_in(tmp_path, work)


def test_a_table_without_rows_gets_its_file(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        schema = pa.schema({"x": pa.int64(), "y": pa.string()}).serialize().to_pybytes()
        described, bare = (
            await rooms.new_table(run, "described", arrow_schema=schema),
            await rooms.new_table(run, "bare"),
        )
        for table in (described, bare):
            await rooms.runs.seal_table(table)
        await rooms.seal(described, bare)
        with pa.ipc.open_file(rooms.folder(run, "described") / "000000.arrow") as file:
            assert file.schema.names == ["x", "y"]
        assert not rooms.folder(run, "bare").exists()

    run_in(tmp_path, work)


@pytest.mark.parametrize("left", ["000000.arrow", ".000000.arrow.new"])
def test_what_a_crash_left_of_a_seal_is_overwritten_by_the_next(tmp_path: Path, left: str) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        (rooms.folder(run) / left).write_bytes(b"half a file")
        await rooms.seal(table)
        assert await column(rooms, table) == list(range(100))
        assert suffixes(rooms.folder(run)) == [".arrow"]

    run_in(tmp_path, work)


def test_a_seal_that_was_left_to_itself_does_not_spoil_the_next(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms, rows=5_000)
        for _ in range(5):
            cancelled = asyncio.ensure_future(rooms.seal(table))
            await asyncio.sleep(0.002)
            cancelled.cancel()
            await asyncio.gather(cancelled, return_exceptions=True)
            await rooms.write(table, numbers(0, 1), stream_id=f"{id(cancelled)}")
        await rooms.seal(table)
        assert (await column(rooms, table))[:5_000] == list(range(5_000))
        assert suffixes(rooms.folder(run)) == [".arrow"]

    run_in(tmp_path, work)


def test_damage_stops_the_seal_of_its_table_alone(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        other = await rooms.new_table(run, "other")
        await rooms.write(other, numbers(0, 10))
        path = rooms.folder(run) / "000000.arrows"
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        await rooms.seal(table, other)
        assert suffixes(rooms.folder(run)) == [".arrows"]
        assert suffixes(rooms.folder(run, "other")) == [".arrow"]
        with pytest.raises(CorruptError):
            await column(rooms, table)
        assert (await rooms.read(table.uid, row_limit=90)).num_rows == 90

    run_in(tmp_path, work)


def test_a_missing_file_is_damage_and_no_fault_of_the_daemon(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        (rooms.folder(run) / "000000.arrows").unlink()
        with pytest.raises(CorruptError, match="is gone"):
            await column(rooms, table)

    run_in(tmp_path, work)


# --- recovery ---


def test_a_start_cuts_torn_tails_and_the_next_has_nothing_to_do(tmp_path: Path) -> None:
    async def first(rooms: Rooms) -> None:
        run, _ = await prepared(rooms)
        trashed = await rooms.new_run("trashed")
        await rooms.write(await rooms.new_table(trashed), numbers(0, 10))
        await rooms.runs.delete(RunName("p", "trashed"), "", NO_REQUEST)
        sealed = await rooms.new_table(run, "sealed")
        await rooms.write(sealed, numbers(0, 10))
        await rooms.seal(sealed)

    run_in(tmp_path, first)
    torn = list(tmp_path.rglob("*.arrows"))
    assert len(torn) == 2
    whole = [path.read_bytes() for path in torn]
    for path in torn:
        path.write_bytes(path.read_bytes() + b"\xff\xff\xff\xff torn" * 3)
    (tmp_path / "trash" / "new" / "0011").mkdir(parents=True)

    async def starts() -> list[tuple[int, int, int, int]]:
        found = []
        for _ in range(2):
            rooms = Rooms(tmp_path)
            recovery = rooms.open(asyncio.get_running_loop())
            found.append((recovery.segments, recovery.cut, recovery.cut_bytes, recovery.damaged))
            await asyncio.to_thread(rooms.close)
        return found

    assert asyncio.run(starts()) == [(2, 2, 54, 0), (2, 0, 0, 0)]
    assert [path.read_bytes() for path in torn] == whole


def test_a_segment_that_was_never_committed_is_removed_and_one_that_was_is_not(tmp_path: Path) -> None:
    async def first(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        other = await rooms.new_table(run, "other")
        folder = rooms.folder(run, "other")
        folder.mkdir(parents=True)
        (folder / "000000.arrows").write_bytes(b"killed before the commit")
        (rooms.layout.trash / "new").mkdir(parents=True, exist_ok=True)
        rooms.layout.new_segment(other.uid, 0).symlink_to(folder / "000000.arrows")
        rooms.layout.new_segment(table.uid, 0).symlink_to(rooms.folder(run) / "000000.arrows")
        (rooms.layout.trash / "new" / "nonsense").symlink_to("/nowhere")

    async def second(rooms: Rooms) -> None:
        run, states = rooms.runs.get(RunName("p", "run")).run, rooms.runs.get(RunName("p", "run")).tables
        assert list(rooms.folder(run, "other").iterdir()) == []
        assert await column(rooms, states[0].table) == list(range(100))
        assert [path.name for path in rooms.layout.all_unfinished()] == ["nonsense"]

    run_in(tmp_path, first)
    run_in(tmp_path, second)


def test_a_start_reports_what_it_cannot_explain(tmp_path: Path) -> None:
    async def first(rooms: Rooms) -> None:
        for name in ("short", "gone", "sound"):
            await rooms.write(await rooms.new_table(await rooms.new_run(name)), numbers(0, 10))

    run_in(tmp_path, first)
    layout = Layout(tmp_path)
    short, gone = (layout.metrics_table(layout.run("p", name), "t") / "000000.arrows" for name in ("short", "gone"))
    short.write_bytes(short.read_bytes()[:-8])
    gone.unlink()

    async def second(rooms: Rooms) -> None:
        for name, readable in (("short", False), ("gone", False), ("sound", True)):
            (state,) = rooms.runs.get(RunName("p", name)).tables
            if readable:
                assert (await rooms.read(state.table.uid)).num_rows == 10
            else:
                with pytest.raises(CorruptError):
                    await rooms.read(state.table.uid)

    async def main() -> None:
        rooms = Rooms(tmp_path)
        recovery = rooms.open(asyncio.get_running_loop())
        assert (recovery.segments, recovery.damaged, recovery.cut) == (3, 2, 0)
        await second(rooms)
        await asyncio.to_thread(rooms.close)

    asyncio.run(main())


# --- run.json ---


def test_the_file_of_a_run_follows_it_wherever_it_goes(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, _ = await prepared(rooms)
        await rooms.snapshots.write_pending()
        await rooms.runs.add_value(RunName("p", "run"), b"o", {"loss": float("nan"), "raw": b"\0"}, NO_REQUEST)
        renamed = await rooms.rename(run, "ünï code")
        assert len(await rooms.snapshots.write_pending()) == 1
        assert not await rooms.snapshots.write_pending()
        text = (rooms.layout.run("p", renamed.name) / "run.json").read_text()
        assert '"ünï code"' in text
        assert not rooms.layout.run("p", "run").exists()
        details = rooms.runs.get(RunName("p", renamed.name))
        with rooms.catalog.snapshot() as snapshot:
            document = full_document(snapshot, details)
        assert document["outputs"] == [{"loss": {"$double": "nan"}, "raw": {"$bytes": "AA=="}}]
        assert document["metrics"][0]["row_count"] == 100  # type: ignore[index]
        await rooms.runs.delete(RunName("p", renamed.name), "", NO_REQUEST)
        await rooms.snapshots.write_pending()
        assert (rooms.layout.trashed(run.uid) / "run.json").exists()
        assert not rooms.layout.run("p", renamed.name).exists()
        with rooms.catalog.snapshot() as snapshot:
            assert snapshot.count(shelves.SNAPSHOTS) == 0

    run_in(tmp_path, work)


def test_a_reader_keeps_its_columns_when_rows_of_wider_types_are_sealed_with_its_own(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        read = rooms.reader.read(table.uid, ScanRequest(filter="x >= 5"))
        found = [await anext(read)]
        await rooms.write(table, pa.record_batch({"x": [0.5, 7.5], "y": ["a", "b"]}), first=11)
        await rooms.seal(table)
        found += [piece async for piece in read]
        rows = pa.ipc.open_stream(b"".join(piece.schema + piece.data for piece in found)).read_all()
        assert rows.to_pydict() == {"x": list(range(5, 100))}

    run_in(tmp_path, work)


def test_what_is_worth_sealing_is_known_after_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rund_daemon.ingest.table_files.RIPE_BATCHES", 12)
    monkeypatch.setattr("rund_daemon.ingest.table_files.RIPE_SEGMENTS", 12)

    async def begin(rooms: Rooms) -> tuple[MetricsTable, MetricsTable]:
        _, table = await prepared(rooms)
        other = await rooms.new_table(await rooms.new_run("other"))
        await rooms.write(other, *(numbers(at, at + 1, f"x{at}") for at in range(10)))
        assert rooms.ripe == set()
        return table, other

    async def go_on(rooms: Rooms) -> None:
        await rooms.write(tables[0], *(numbers(at, at + 1) for at in range(3)), stream_id="v")
        assert rooms.ripe == {tables[0].uid}
        await rooms.write(tables[1], *(numbers(at, at + 1, f"x{at}") for at in range(10, 13)), stream_id="v")
        assert rooms.ripe == {table.uid for table in tables}
        await rooms.seal(*tables)
        rooms.ripe.clear()
        for table in tables:
            await rooms.write(table, numbers(0, 1), stream_id="u")
        assert rooms.ripe == set()

    tables = run_in(tmp_path, begin)
    run_in(tmp_path, go_on)


def test_many_tiny_batches_end_as_one_file_and_readers_see_a_prefix_all_the_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rund_daemon.ingest.table_files.RIPE_BATCHES", 20)

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(-1, 0), stream_id="first")
        done, seen, files = False, [], 0

        async def keep_reading() -> None:
            while not done:
                seen.append(await column(rooms, table))

        async def keep_sealing() -> None:
            nonlocal files
            while not done:
                if rooms.ripe:
                    rooms.ripe.clear()
                    await rooms.seal(table)
                files = max(files, len(list(rooms.folder(run).iterdir())))
                await asyncio.sleep(0)

        async def keep_writing(writer: int) -> None:
            for number in range(100):
                at = 100 * writer + number
                await rooms.write(table, numbers(at, at + 1), stream_id=f"w{writer}", first=number + 1)

        others = [asyncio.ensure_future(work()) for work in (keep_reading, keep_reading, keep_sealing)]
        await asyncio.gather(*map(keep_writing, range(4)))
        done = True
        await asyncio.gather(*others)
        await rooms.seal(table)
        await rooms.runs.seal_table(table)
        await rooms.seal(table)
        rows = await column(rooms, table)
        assert sorted(rows) == list(range(-1, 400))
        assert all(found == rows[: len(found)] for found in seen)
        assert files < 20
        assert suffixes(rooms.folder(run)) == [".arrow"]
        with rooms.catalog.snapshot() as snapshot:
            assert len(list(snapshot.scan(shelves.BATCHES, table.uid))) == 1

    run_in(tmp_path, work)


def test_a_run_that_goes_to_trash_while_it_is_sealed_takes_no_litter_along(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        for number in range(30):
            run = await rooms.new_run(f"run-{number}")
            table = await rooms.new_table(run)
            await rooms.write(table, *(numbers(at, at + 10) for at in range(0, 100, 10)))
            await rooms.write(table, numbers(100, 110), stream_id="other")
            sealing = asyncio.ensure_future(rooms.seal(table))
            # Each time a little later in the course of the seal, from before its first transaction to behind its last.
            await asyncio.sleep(number / 2_000)
            await asyncio.gather(rooms.runs.delete(RunName("p", run.name), "", NO_REQUEST), sealing)
            await asyncio.to_thread(rooms.catalog.wait_until_settled, 20)
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)


@pytest.mark.parametrize("left", ["000001.arrow", ".000001.arrow.new"])
def test_what_a_crash_left_of_a_seal_goes_at_the_next_start_wherever_its_run_is(tmp_path: Path, left: str) -> None:
    async def first(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        (rooms.folder(run) / left).write_bytes(b"half a file")
        rooms.layout.announce_segment(table.uid, 1, rooms.folder(run) / "000001.arrow")
        await rooms.runs.delete(RunName("p", run.name), "", NO_REQUEST)
        # Another run has its name now, and a file of that name that nobody may touch.
        run, _ = await prepared(rooms)
        (rooms.folder(run) / "000001.arrow").write_bytes(b"not this one")

    async def second(rooms: Rooms) -> None:
        findings = check(rooms.catalog, rooms.layout).findings
        assert [finding.path for finding in findings] == [str(tmp_path / "p/runs/run/metrics/t/000001.arrow")]
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, first)
    run_in(tmp_path, second)


def test_a_run_that_comes_back_from_trash_while_it_is_sealed_finds_its_place_free(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        await rooms.catalog.submit(lambda change: rooms.sealer._close_segments(change, table.uid))
        (job,) = rooms.sealer._plan(table.uid)
        head, sealed = rooms.sealer._write(job)
        await rooms.runs.delete(RunName("p", run.name), "", NO_REQUEST)
        async with rooms.one_group():
            restored = asyncio.ensure_future(rooms.runs.undelete(RunName("p", run.name), None, NO_REQUEST))
            await asyncio.sleep(0)
            exchanged = rooms.catalog.submit(lambda change: rooms.sealer._exchange(change, job, head, sealed))
        assert (await restored).uid == run.uid
        assert not await exchanged
        assert rooms.layout.strays() == []
        await rooms.seal(table)
        assert await column(rooms, table) == list(range(100))
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)
