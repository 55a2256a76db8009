"""Copies of runs: complete or not there, whatever happens to the source meanwhile."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from rund_daemon.catalog.lookup import INPUT, OUTPUT
from rund_daemon.errors import CorruptError, ExhaustedError, ExistsError, InvalidError, NotFoundError, RundError
from rund_daemon.identity import new_uid
from rund_daemon.model import IfExists, MetricsTable, Run, RunStatus, Uid
from rund_daemon.names import RunName
from rund_daemon.progress import Progress
from rund_daemon.runs.copying import CopyTarget

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in
from tests.process.tiny_disk import fill, tiny_disk

SOURCE = RunName("p", "source")
TARGET = CopyTarget("q", "copy", IfExists.RAISE)


async def prepared(rooms: Rooms) -> tuple[Run, MetricsTable, MetricsTable]:
    """A run with values, an open and a sealed table, and a side file."""
    run = await rooms.new_run("source")
    opened, sealed = await rooms.new_table(run, "open"), await rooms.new_table(run, "sealed")
    await rooms.write(opened, numbers(0, 10), numbers(10, 20))
    await rooms.write(sealed, numbers(0, 30))
    await rooms.runs.seal_table(sealed)
    await rooms.seal(sealed)
    await rooms.runs.add_value(SOURCE, INPUT, {"in": 1}, NO_REQUEST)
    await rooms.runs.add_value(SOURCE, OUTPUT, {"out": 2}, NO_REQUEST)
    bulk = rooms.layout.bulk_data("p", "source")
    (bulk / "deep").mkdir(parents=True)
    (bulk / "deep" / "file.bin").write_bytes(b"bulk" * 1000)
    (bulk / "link").symlink_to("deep")
    return run, opened, sealed


async def copied(rooms: Rooms, target: CopyTarget = TARGET, progress: Progress | None = None) -> Uid:
    return await rooms.copies.copy(SOURCE, target, new_uid(), progress or Progress())


def test_a_copy_has_all_and_shares_only_what_never_changes(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, opened, _ = await prepared(rooms)
        uid = await copied(rooms)
        details = rooms.runs.get_by_uid(uid)
        assert (details.run.project, details.run.name, details.run.status) == ("q", "copy", RunStatus.PAUSED)
        assert (details.inputs, details.outputs) == (({"in": 1},), ({"out": 2},))
        tables = {state.table.name: state for state in details.tables}
        assert {name: state.mark.rows for name, state in tables.items()} == {"open": 20, "sealed": 30}
        assert tables["open"].table.uid != opened.uid
        for name, rows in (("open", 20), ("sealed", 30)):
            assert (await rooms.read(tables[name].table.uid)).column("x").to_pylist() == list(range(rows))
        bulk = rooms.layout.bulk_data("q", "copy")
        assert (bulk / "deep" / "file.bin").read_bytes() == b"bulk" * 1000
        assert str((bulk / "link").readlink()) == "deep"
        (sealed_file,) = (rooms.layout.run("q", "copy") / "metrics" / "sealed").iterdir()
        (open_file,) = (rooms.layout.run("q", "copy") / "metrics" / "open").iterdir()
        assert (sealed_file.stat().st_nlink, open_file.stat().st_nlink) == (2, 1)
        assert rooms.layout.all_unfinished() == []
        # Each goes its own way from here.
        await rooms.write(opened, numbers(20, 30), first=3)
        await rooms.write(tables["open"].table, numbers(100, 110), stream_id="other")
        assert (await rooms.read(opened.uid)).num_rows == (await rooms.read(tables["open"].table.uid)).num_rows == 30
        (bulk / "deep" / "file.bin").write_bytes(b"mine")
        source_file = rooms.layout.bulk_data("p", run.name) / "deep" / "file.bin"
        assert source_file.read_bytes() == b"bulk" * 1000

    run_in(tmp_path, work)


def test_a_copy_of_a_run_that_is_written_to_holds_what_was_committed_when_it_began(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        _, opened, _ = await prepared(rooms)

        async def keep_writing() -> None:
            for number in range(40):
                await rooms.write(opened, numbers(20 + number, 21 + number), stream_id=f"w{number}")
                if number % 10 == 9:
                    await rooms.seal(opened)

        writing = asyncio.ensure_future(keep_writing())
        uids = [await copied(rooms, CopyTarget("q", "", IfExists.RENAME)) for _ in range(8)]
        await writing
        for uid in uids:
            (state, _) = rooms.runs.get_by_uid(uid).tables
            rows = (await rooms.read(state.table.uid)).column("x").to_pylist()
            assert rows == list(range(state.mark.rows))
            assert len(rows) >= 20

    run_in(tmp_path, work)


class RotatingCheckpoints(Progress):
    """Removes the files of a folder while they are copied, as a training does that keeps its last checkpoints."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def report(self, share: float, message: str) -> None:
        super().report(share, message)
        if message == "bulk data":
            for path in self.folder.glob("*.pt"):
                path.unlink()


def test_files_that_their_owner_removes_meanwhile_are_left_out(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        origin, copy = rooms.layout.bulk_data("p", "source"), rooms.layout.bulk_data("q", "copy")
        for number in range(5):
            (origin / "deep" / f"{number}.pt").write_bytes(b"weights")
        await copied(rooms, progress=RotatingCheckpoints(origin / "deep"))
        assert [path.name for path in (copy / "deep").iterdir()] == ["file.bin"]
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, work)


def test_a_file_that_cannot_be_copied_fails_the_copy(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        os.mkfifo(rooms.layout.bulk_data("p", "source") / "pipe")
        with pytest.raises(OSError, match="pipe"):
            await copied(rooms)
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, work)


def test_a_run_that_has_logged_nothing_is_copied(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await rooms.new_run("source")
        assert rooms.runs.get_by_uid(await copied(rooms)).run.name == "copy"

    run_in(tmp_path, work)


def test_a_source_that_is_renamed_meanwhile_is_followed_or_the_copy_fails_clean(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, _, _ = await prepared(rooms)
        done = False

        async def keep_renaming() -> None:
            # Another run takes the source's name in turns, with a table of the same name.
            other = await rooms.new_run("other")
            # More rows than the source has: a part of its file would pass for a whole one.
            await rooms.write(await rooms.new_table(other, "open"), numbers(500, 600))
            name = run
            while not done:
                name = await rooms.rename(name, "away")
                other = await rooms.rename(other, "source")
                await asyncio.sleep(0.002)
                other = await rooms.rename(other, "other")
                name = await rooms.rename(name, "source")
                await asyncio.sleep(0.002)

        renaming = asyncio.ensure_future(keep_renaming())
        for _ in range(15):
            try:
                uid = await copied(rooms, CopyTarget("q", "", IfExists.RENAME))
            except RundError:
                continue
            for state in rooms.runs.get_by_uid(uid).tables:
                rows = (await rooms.read(state.table.uid)).column("x").to_pylist()
                assert rows in (list(range(20)), list(range(30)), list(range(500, 600)))
        done = True
        await renaming
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, work)


def test_an_overwritten_run_goes_to_trash_with_its_files(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        old = await rooms.new_run("copy", "q")
        table = await rooms.new_table(old, "open")
        await rooms.write(table, numbers(700, 710))
        uid = await copied(rooms, CopyTarget("q", "copy", IfExists.OVERWRITE))
        assert rooms.runs.get(RunName("q", "copy")).run.uid == uid
        assert rooms.runs.get_by_uid(old.uid).run.delete_time
        assert (await rooms.read(table.uid)).column("x").to_pylist() == list(range(700, 710))
        assert list(rooms.layout.trash.glob("stray-*")) == []

    run_in(tmp_path, work)


def test_what_cannot_succeed_is_refused_at_once(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        await rooms.new_run("copy", "q")
        with rooms.catalog.snapshot() as snapshot:
            with pytest.raises(ExistsError):
                rooms.copies.check(snapshot, SOURCE, TARGET)
            with pytest.raises(ExistsError):
                rooms.copies.check(snapshot, SOURCE, CopyTarget("p", "source", IfExists.RAISE))
            with pytest.raises(InvalidError):
                rooms.copies.check(snapshot, SOURCE, CopyTarget("p", "source", IfExists.OVERWRITE))
            with pytest.raises(NotFoundError):
                rooms.copies.check(snapshot, RunName("p", "nobody"), TARGET)
            rooms.copies.check(snapshot, SOURCE, CopyTarget("p", "source", IfExists.RENAME))
        with pytest.raises(ExistsError):
            await copied(rooms)
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, work)


def test_a_cancelled_copy_leaves_nothing(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        progress = Progress()
        progress.cancelled = True
        with pytest.raises(RundError, match="cancelled"):
            await copied(rooms, progress=progress)
        assert rooms.layout.all_unfinished() == []
        with pytest.raises(NotFoundError):
            rooms.runs.get(RunName("q", "copy"))

    run_in(tmp_path, work)


def test_a_damaged_source_is_not_copied(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, _, _ = await prepared(rooms)
        path = rooms.folder(run, "open") / "000000.arrows"
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(CorruptError):
            await copied(rooms)
        assert rooms.layout.all_unfinished() == []

    run_in(tmp_path, work)


def test_a_copy_that_finds_the_disk_full_leaves_nothing(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await prepared(rooms)
        (rooms.layout.bulk_data("p", "source") / "large").write_bytes(bytes(1 << 20))
        fill(rooms.root / "filler", leave=(1 << 20) + 500_000)
        with pytest.raises(ExhaustedError):
            await copied(rooms)
        assert rooms.layout.all_unfinished() == []

    with tiny_disk(tmp_path / "disk", 8) as disk:
        run_in(disk / "root", work, min_free_bytes=1 << 20)
