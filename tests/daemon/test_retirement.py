"""Runs go to trash by themselves when they ended long enough ago, and no others do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rund_daemon.catalog import shelves
from rund_daemon.errors import NotFoundError
from rund_daemon.identity import now
from rund_daemon.model import Micros, RunStatus
from rund_daemon.names import RunName
from rund_daemon.runs import RunUpdate
from rund_daemon.runs.retirement import Retirement, RunAge
from rund_daemon.runs.trash import Retention

from tests.daemon.rooms import NO_REQUEST, Rooms, run_in

DAY = 24 * 3600 * 1_000_000


async def ended(rooms: Rooms, name: str, days_ago: float, **change: object) -> None:
    run = await rooms.new_run(name)
    status = RunUpdate(status=RunStatus.COMPLETED)
    run = await rooms.runs.update(RunName(run.project, run.name), status, "", NO_REQUEST)
    long_ago = Micros(int(now() - days_ago * DAY))
    await rooms.catalog.submit(
        lambda txn: txn.put(shelves.RUNS, run.uid, replace(run, end_time=long_ago, **change))  # type: ignore[arg-type]
    )


def retirement(rooms: Rooms, age: RunAge) -> Retirement:
    return Retirement(rooms.catalog, rooms.layout, rooms.feed, now, age, Retention())


def names(rooms: Rooms) -> list[str]:
    with rooms.catalog.snapshot() as snapshot:
        runs = [snapshot.get(shelves.RUNS, uid) for _, uid in snapshot.scan(shelves.RUN_NAMES)]
    return sorted(run.name for run in runs if run is not None)


def test_those_whose_time_has_come_go_and_can_be_restored(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        await ended(rooms, "old", 8)
        await ended(rooms, "young", 6)
        await ended(rooms, "held", 8, labels={"keep": ""})
        await rooms.new_run("running")
        rooms.layout.bulk_data("p", "old").mkdir(parents=True)
        assert await retirement(rooms, RunAge(7)).retire() == 1
        assert names(rooms) == ["held", "running", "young"]
        with pytest.raises(NotFoundError):
            rooms.runs.get(RunName("p", "old"))
        restored = await rooms.runs.undelete(RunName("p", "old"), None, NO_REQUEST)
        assert (rooms.layout.bulk_data("p", "old").exists(), restored.delete_time) == (True, 0)

    run_in(tmp_path, work)


def test_projects_have_their_own_time_and_many_go_at_once(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        for number in range(120):
            await ended(rooms, f"run-{number}", 2)
        assert await retirement(rooms, RunAge(1, {"p": 0})).retire() == 0
        assert await retirement(rooms, RunAge(0, {"p": 1})).retire() == 120
        assert names(rooms) == []

    run_in(tmp_path, work)


@pytest.mark.parametrize(
    ("age", "matters"),
    [(RunAge(), False), (RunAge(0, {"p": 0}), False), (RunAge(1), True), (RunAge(0, {"p": 1}), True)],
)
def test_without_a_rule_nothing_is_looked_at(age: RunAge, matters: bool) -> None:
    assert age.matters is matters
