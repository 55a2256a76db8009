"""However rows came, and whatever is open at the end: a table that takes no more rows is as few files as it can be."""

from __future__ import annotations

from pathlib import Path

import pytest
from rund_daemon.catalog import shelves
from rund_daemon.checking import check
from rund_daemon.identity import new_uid, now
from rund_daemon.model import MetricsTable, Run, RunStatus, Uid
from rund_daemon.names import RunName
from rund_daemon.processes import boot_id
from rund_daemon.rebuilding import rebuild
from rund_daemon.runs.writers import Ending
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.layout import Layout

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in, table_name

ROUNDS = (640, 320, 160, 80, 40)


def files(rooms: Rooms, run: Run) -> list[str]:
    return sorted(path.name for path in rooms.folder(run).iterdir())


async def filled(rooms: Rooms) -> tuple[Run, MetricsTable]:
    """A run whose table was sealed now and then: each time there was too little to join it with what was before."""
    run = await rooms.new_run()
    table = await rooms.new_table(run)
    for number, rows in enumerate(ROUNDS):
        first = sum(ROUNDS[:number])
        await rooms.write(table, numbers(first, first + rows), stream_id=f"w{number}")
        await rooms.seal(table)
    assert len(files(rooms, run)) > 2
    assert {Path(name).suffix for name in files(rooms, run)} == {".arrow"}, "nothing is open"
    return run, table


async def finish(rooms: Rooms, status: RunStatus = RunStatus.COMPLETED) -> None:
    await rooms.runs.finish(RunName("p", "run"), Ending(status), NO_REQUEST)


async def seal_ended(rooms: Rooms) -> None:
    await rooms.sealer.request_ended()
    await rooms.sealer.finish()


async def check_is_one(rooms: Rooms, run: Run, table: Uid, rows: list[int]) -> None:
    assert len(files(rooms, run)) == 1, files(rooms, run)
    assert (await rooms.read(table)).column("x").to_pylist() == rows
    assert check(rooms.catalog, rooms.layout).findings == ()
    with rooms.catalog.snapshot() as snapshot:
        assert not list(snapshot.scan(shelves.OPEN_SEGMENTS)), "nothing waits for anything"


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("rows_at_the_end", [0, 10])
def test_the_end_of_a_run(tmp_path: Path, rows_at_the_end: int, compression: Compression) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await filled(rooms)
        count = sum(ROUNDS)
        if rows_at_the_end:
            await rooms.write(table, numbers(count, count + rows_at_the_end), stream_id="last")
        await finish(rooms)
        rooms.sealer.request_run(run.uid)
        await rooms.sealer.finish()
        await check_is_one(rooms, run, table.uid, list(range(count + rows_at_the_end)))

    run_in(tmp_path, work, compression=compression)


def test_the_end_of_a_table_while_its_run_goes_on(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await filled(rooms)
        await rooms.runs.seal_table(table)
        await rooms.seal(table)
        await check_is_one(rooms, run, table.uid, list(range(sum(ROUNDS))))

    run_in(tmp_path, work)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_daemon_that_dies_between_the_end_and_the_join(tmp_path: Path, rebuilt: bool) -> None:
    async def before(rooms: Rooms) -> Run:
        run, _ = await filled(rooms)
        await finish(rooms)
        await rooms.snapshots.write_pending()
        return run

    async def after(rooms: Rooms) -> None:
        await seal_ended(rooms)
        table = rooms.runs.get_table(table_name(run)).table
        await check_is_one(rooms, run, table.uid, list(range(sum(ROUNDS))))

    run = run_in(tmp_path, before)
    if rebuilt:
        assert not rebuild(Layout(tmp_path), 1 << 30, boot_id(), now(), new_uid).loses
    run_in(tmp_path, after)


def test_a_run_that_goes_on_after_its_end(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await filled(rooms)
        count = sum(ROUNDS)
        for life in range(3):
            await finish(rooms, RunStatus.FAILED)
            await seal_ended(rooms)
            # Rows that were left in a journal come after the end, or others take it up again.
            await rooms.write(table, numbers(count + life, count + life + 1), stream_id=f"life-{life}")
            await rooms.seal(table)
        await seal_ended(rooms)
        await check_is_one(rooms, run, table.uid, list(range(count + 3)))

    run_in(tmp_path, work)
