"""Group commit: one fault spoils nobody else's work, folders follow the commit, and a crash in between is mended."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rund_daemon.catalog import Change, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import DrainingError, ExhaustedError, InvalidError, NotFoundError, Reason
from rund_daemon.names import RunName

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in, send
from tests.process.tiny_disk import fill, tiny_disk


def put(key: bytes, value: bytes = b"value"):
    def mutation(change: Change) -> bytes:
        change.put(shelves.META, key, value)
        return value

    return mutation


def fail_after_writing(change: Change) -> None:
    change.put(shelves.META, b"of-the-failed", b"")
    raise InvalidError("field", "no")


def test_a_failing_mutation_takes_back_its_own_work_alone(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        async with rooms.one_group():
            answers = [rooms.catalog.submit(put(b"a")), rooms.catalog.submit(fail_after_writing)]
            answers += [rooms.catalog.submit(lambda _: 1 // 0), rooms.catalog.submit(put(b"b"))]
        first, refused, fault, last = await asyncio.gather(*answers, return_exceptions=True)
        assert (first, last) == (b"value", b"value")
        assert isinstance(refused, InvalidError)
        assert isinstance(fault, ZeroDivisionError)
        with rooms.catalog.snapshot() as snapshot:
            kept = {key for key, _ in snapshot.scan(shelves.META)}
        assert {b"a", b"b"} <= kept
        assert b"of-the-failed" not in kept

    run_in(tmp_path, work)


def test_what_is_queued_when_the_catalog_closes_is_committed(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        answers = [rooms.catalog.submit(put(b"%d" % number)) for number in range(1000)]
        await asyncio.to_thread(rooms.catalog.close)
        assert await asyncio.gather(*answers) == [b"value"] * 1000
        with pytest.raises(DrainingError):
            await rooms.catalog.submit(put(b"late"))

    async def main() -> None:
        rooms = Rooms(tmp_path)
        rooms.open(asyncio.get_running_loop())
        await work(rooms)
        again = Rooms(tmp_path)
        again.open(asyncio.get_running_loop())
        with again.catalog.snapshot() as snapshot:
            assert sum(value == b"value" for _, value in snapshot.scan(shelves.META)) == 1000
        await asyncio.to_thread(again.close)

    asyncio.run(main())


def test_a_full_map_is_no_space_for_the_group_and_the_next_goes_on(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 10))
        async with rooms.one_group():
            giant = rooms.catalog.submit(put(b"giant", bytes(4 << 20)))
            stream = rooms.ingest.open(table, "w")
            await send(stream, 2, numbers(10, 20))
        with pytest.raises(ExhaustedError) as refused:
            await giant
        assert refused.value.reason is Reason.NO_SPACE
        await stream.drain()
        stream.close()
        assert (await rooms.read(table.uid)).column("x").to_pylist() == list(range(20))

    run_in(tmp_path, work, map_size=2 << 20)


def test_a_commit_that_finds_the_disk_full_leaves_no_bytes_and_no_promise(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 10))
        path = rooms.folder(run) / "000000.arrows"
        committed = path.stat().st_size
        filler = fill(rooms.root / "filler", leave=300 * 1024)
        stream = rooms.ingest.open(table, "w")
        async with rooms.one_group():
            giant = rooms.catalog.submit(put(b"giant", bytes(1 << 20)))
            await send(stream, 2, numbers(10, 20))
        for refused in await asyncio.gather(giant, stream.drain(), return_exceptions=True):
            assert isinstance(refused, ExhaustedError)
            assert refused.reason is Reason.NO_SPACE
        stream.close()
        filler.unlink()
        assert (await rooms.read(table.uid)).num_rows == 10
        await rooms.write(table, numbers(20, 25), first=2)
        assert (await rooms.read(table.uid)).column("x").to_pylist() == [*range(10), *range(20, 25)]
        length = committed + len(numbers(20, 25).serialize())
        assert path.stat().st_size == length, "the bytes of the failed group are gone"

    with tiny_disk(tmp_path / "disk", 8) as disk:
        run_in(disk / "root", work)


def test_deletions_have_a_reserve_on_a_full_disk(tmp_path: Path) -> None:
    """Each of these needs new pages, as a deletion in a large catalog does."""
    size = 1 << 20

    async def work(rooms: Rooms) -> None:
        catalog, reserve = rooms.catalog, rooms.layout.catalog / "reserve"
        await catalog.submit(put(b"a"))
        assert reserve.stat().st_blocks * 512 >= 2 * size
        filler = fill(rooms.root / "filler")
        with pytest.raises(ExhaustedError):
            await catalog.submit(put(b"b", bytes(size)))
        assert reserve.exists()
        async with rooms.one_group():
            other, deletion = catalog.submit(put(b"c")), catalog.submit(put(b"d", bytes(size)), deletes=True)
        await deletion
        with pytest.raises(ExhaustedError):
            await other
        assert not reserve.exists()
        with pytest.raises(ExhaustedError):
            await catalog.submit(put(b"e"))
        await catalog.submit(put(b"f", bytes(1000)), deletes=True)
        filler.unlink()
        await catalog.submit(put(b"g"))
        assert reserve.exists(), "it is held back again"
        with catalog.snapshot() as snapshot:
            assert {b"a", b"d", b"f", b"g"} <= {key for key, _ in snapshot.scan(shelves.META)}
            assert not any(snapshot.has(shelves.META, key) for key in (b"b", b"c", b"e"))

    with tiny_disk(tmp_path / "disk", 16) as disk:
        run_in(disk / "root", work, reserve_bytes=2 * size)


def test_rows_of_the_group_that_renames_their_run_land_in_the_renamed_folder(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run("before")
        table, untouched = await rooms.new_table(run), await rooms.new_table(run, "untouched")
        await rooms.write(table, numbers(0, 10))
        old, fresh = rooms.ingest.open(table, "w"), rooms.ingest.open(untouched, "w")
        async with rooms.one_group():
            renaming = asyncio.ensure_future(rooms.rename(run, "after"))
            await asyncio.sleep(0)
            await send(old, 2, numbers(10, 20))
            await send(fresh, 1, numbers(0, 5))
        renamed = await renaming
        await asyncio.gather(old.drain(), fresh.drain())
        assert (await rooms.read(table.uid)).num_rows == 20
        assert (await rooms.read(untouched.uid)).num_rows == 5
        assert not rooms.layout.run("p", "before").exists()
        assert (rooms.folder(renamed, "untouched") / "000000.arrows").exists()
        assert list(rooms.layout.trash.glob("stray-*")) == []

    run_in(tmp_path, work)


def test_rows_of_the_group_that_restores_their_run_are_kept(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table, name = await rooms.new_table(run), RunName("p", "run")
        await rooms.write(table, numbers(0, 10))
        await rooms.runs.delete(name, "", NO_REQUEST)
        with pytest.raises(NotFoundError):
            await rooms.write(table, numbers(10, 20), first=2)
        stream = rooms.ingest.open(table, "w")
        async with rooms.one_group():
            restoring = asyncio.ensure_future(rooms.runs.undelete(name, None, NO_REQUEST))
            await asyncio.sleep(0)
            await send(stream, 2, numbers(10, 20))
        await restoring
        await stream.drain()
        assert (await rooms.read(table.uid)).column("x").to_pylist() == list(range(20))

    run_in(tmp_path, work)


def test_while_a_folder_cannot_be_moved_nothing_more_is_committed(tmp_path: Path) -> None:
    stuck = True

    def before_move(_source: str, _destination: str) -> None:
        if stuck:
            raise PermissionError(13, "not now")

    async def work(rooms: Rooms) -> None:
        nonlocal stuck
        run = await rooms.new_run("before")
        table = await rooms.new_table(run)
        stuck = False
        await rooms.write(table, numbers(0, 10))
        stuck = True
        renamed = await rooms.rename(run, "after")
        assert renamed.name == "after"
        assert not rooms.catalog.wait_until_settled(0)
        with pytest.raises(PermissionError):
            await rooms.catalog.submit(put(b"a"))
        with pytest.raises(PermissionError):
            await rooms.write(table, numbers(10, 20), first=2)
        stuck = False
        await rooms.write(table, numbers(10, 20), first=2)
        assert rooms.catalog.wait_until_settled(0)
        assert (await rooms.read(table.uid)).num_rows == 20
        assert rooms.folder(renamed).exists()

    run_in(tmp_path, work, before_move=before_move)


@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_moves_that_a_crash_cut_short_are_finished_by_the_next_start(
    tmp_path: Path, crash_at: int, moved: bool
) -> None:
    """An overwrite is the hard case: the folder that the second move empties is filled by the third."""
    for folder in ("p/runs/a", "trash/copy"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "who").write_text(folder)
    (tmp_path / "p/runs/a/removed").touch()
    moves = 0

    def mutation(change: Change) -> None:
        add_move(change, "p/runs/a/removed", "")
        add_move(change, "p/runs/a", "trash/old")
        add_move(change, "trash/copy", "p/runs/a")

    def crash(_source: str, _destination: str) -> None:
        nonlocal moves
        moves += 1
        if moves >= crash_at:
            raise OSError(5, "the power is gone")

    async def first(rooms: Rooms) -> None:
        await rooms.catalog.submit(mutation)

    async def second(rooms: Rooms) -> None:
        with rooms.catalog.snapshot() as snapshot:
            assert snapshot.count(shelves.MOVES) == 0

    # With `moved` the crash comes when the folder has moved and the record of it is still there.
    run_in(tmp_path, first, **{"after_move" if moved else "before_move": crash})
    run_in(tmp_path, second)
    assert (tmp_path / "p/runs/a/who").read_text() == "trash/copy"
    assert (tmp_path / "trash/old/who").read_text() == "p/runs/a"
    assert not (tmp_path / "trash/old/removed").exists()
    assert not (tmp_path / "trash/copy").exists()
    assert list((tmp_path / "trash").glob("stray-*")) == []


def test_requests_of_many_callers_share_commits(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        streams = [rooms.ingest.open(table, f"w{number}") for number in range(50)]
        async with rooms.one_group():
            for number, stream in enumerate(streams):
                await send(stream, 1, numbers(number * 10, number * 10 + 10))
        await asyncio.gather(*(stream.drain() for stream in streams))
        rows = (await rooms.read(table.uid)).column("x").to_pylist()
        assert rows == list(range(500)), "they are committed in the order in which they came"

    run_in(tmp_path, work)
