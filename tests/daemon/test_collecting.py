"""What is in trash goes for good: when it has expired, all of it, and nothing else."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rund_daemon.catalog import shelves
from rund_daemon.catalog.lookup import OUTPUT
from rund_daemon.checking import check
from rund_daemon.errors import NotFoundError
from rund_daemon.identity import now
from rund_daemon.model import Micros, Run
from rund_daemon.names import RunName
from rund_daemon.runs import collecting
from rund_daemon.runs.collecting import TrashCollector, TrashQuery
from rund_daemon.runs.trash import Retention

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in

ALL = TrashQuery(age=Micros(0))
DAY = 24 * 3600 * 1_000_000


async def deleted(rooms: Rooms, name: str, project: str = "p") -> Run:
    """A run with all that a run can have, in trash."""
    run = await rooms.new_run(name, project)
    table = await rooms.new_table(run)
    await rooms.write(table, *(numbers(at, at + 1) for at in range(120)))
    await rooms.seal(await rooms.new_table(run, "empty"))
    await rooms.runs.add_value(RunName(project, name), OUTPUT, {"loss": 0.5}, NO_REQUEST)
    (rooms.layout.bulk_data(project, name)).mkdir()
    (rooms.layout.bulk_data(project, name) / "large").write_bytes(bytes(10_000))
    return await rooms.runs.delete(RunName(project, name), "", NO_REQUEST)


def kept(rooms: Rooms) -> dict[str, int]:
    """How much is on each shelf that runs fill."""
    with rooms.catalog.snapshot() as snapshot:
        counts = {shelf.name: snapshot.count(shelf) for shelf in shelves.SHELVES}
    return {name: count for name, count in counts.items() if name not in ("events", "meta", "requests", "moves")}


@pytest.mark.parametrize("at_once", [7, 2_000])
def test_nothing_is_left_of_it_and_others_are_untouched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(collecting, "_KEYS_AT_ONCE", at_once)

    async def work(rooms: Rooms) -> None:
        other = await rooms.new_run("other")
        table = await rooms.new_table(other)
        await rooms.write(table, numbers(0, 10))
        before = kept(rooms)
        run = await deleted(rooms, "run")
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        assert kept(rooms) != before
        assert await collector.find(TrashQuery()) == await collector.collect(TrashQuery()) == [], "it has not expired"
        (found,) = await collector.find(ALL)
        assert found.run is not None
        assert (found.run.uid, found.path) == (run.uid, rooms.layout.trashed(run.uid))
        assert found.size == sum(path.stat().st_size for path in found.path.rglob("*") if path.is_file())
        assert list(await collector.collect(ALL)) == [found]
        assert kept(rooms) | {"snapshots": 0} == before | {"snapshots": 0}
        assert [*rooms.layout.trash.iterdir()] == [rooms.layout.trash / "new"]
        assert [*(rooms.layout.trash / "new").iterdir()] == []
        with pytest.raises(NotFoundError):
            rooms.runs.get_by_uid(run.uid)
        assert (await rooms.read(table.uid)).num_rows == 10
        assert check(rooms.catalog, rooms.layout).findings == ()

    run_in(tmp_path, work)


def test_what_was_begun_is_finished_after_a_restart(tmp_path: Path) -> None:
    async def first(rooms: Rooms) -> None:
        run = await deleted(rooms, "run")
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        await rooms.catalog.submit(lambda change: collector._forget(change, run))

    async def second(rooms: Rooms) -> None:
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        assert check(rooms.catalog, rooms.layout).findings == ()
        assert await collector.finish_begun() == 1
        assert await collector.finish_begun() == 0
        assert not {name: count for name, count in kept(rooms).items() if count}

    run_in(tmp_path, first)
    run_in(tmp_path, second)


def test_each_project_has_its_time(tmp_path: Path) -> None:
    retention = Retention(30, {"short": 2, "never": 36_500})

    async def work(rooms: Rooms) -> None:
        rooms.runs._retention = retention
        for project in ("p", "short", "never"):
            await deleted(rooms, "run", project)
        for days, expected in ((1, []), (3, ["short"]), (29, []), (31, ["p"]), (10_000, [])):
            collector = TrashCollector(
                rooms.catalog, rooms.layout, lambda days=days: Micros(now() + days * DAY), retention
            )
            gone = await collector.collect(TrashQuery())
            assert [entry.run.project for entry in gone if entry.run] == expected

    run_in(tmp_path, work)


def test_of_a_project_and_of_an_age(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        for project in ("a", "b"):
            await deleted(rooms, "run", project)
        later: Any = lambda: Micros(now() + 2 * DAY)  # noqa: E731
        collector = TrashCollector(rooms.catalog, rooms.layout, later)
        assert await collector.find(TrashQuery("a", Micros(3 * DAY))) == []
        assert [entry.run.project for entry in await collector.collect(TrashQuery("a", Micros(DAY))) if entry.run] == [
            "a"
        ]
        assert len(await collector.find(ALL)) == 1

    run_in(tmp_path, work)


def test_what_is_restored_in_the_last_moment_stays(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        run = await deleted(rooms, "run")
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        found = await collector.find(ALL)
        restored = await rooms.runs.undelete(RunName("p", "run"), None, NO_REQUEST)
        assert [await collector._collect(entry.run.uid, ALL) for entry in found if entry.run] == [False]
        assert replace(rooms.runs.get_by_uid(run.uid).run, revision=restored.revision) == restored

    run_in(tmp_path, work)


def test_strays_go_when_they_are_old(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        stray, file = rooms.layout.trash / "stray-1", rooms.layout.trash / "stray-2"
        (stray / "deep").mkdir(parents=True)
        (stray / "deep" / "x").write_bytes(bytes(100))
        file.write_bytes(bytes(10))
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        assert await collector.collect(TrashQuery()) == []
        assert await collector.collect(TrashQuery("p", Micros(0))) == [], "they are no project's"
        gone = await collector.collect(ALL)
        assert [(os.fspath(entry.path), entry.size, entry.run) for entry in gone] == [
            (str(stray), 100, None),
            (str(file), 10, None),
        ]
        assert rooms.layout.strays() == []

    run_in(tmp_path, work)
