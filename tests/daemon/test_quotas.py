"""What a project holds is measured once for all who ask, is remembered, and is forgotten when trash is collected."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest
from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.errors import ExhaustedError, Reason
from rund_daemon.identity import now
from rund_daemon.model import Micros
from rund_daemon.names import RunName
from rund_daemon.quotas import UNLIMITED, Allowance, Quota, Quotas
from rund_daemon.runs.collecting import TrashCollector, TrashQuery
from rund_daemon.runs.trash import Retention
from rund_daemon.runs.trashed_tables import discard_table

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in

ALL = TrashQuery("", Micros(0))


class Clock:
    """A clock that is set by hand, and by which every measurement takes half a second."""

    def __init__(self) -> None:
        self.time, self.readings = 1_000.0, 0

    def __call__(self) -> float:
        self.readings += 1
        return self.time + 0.5 * self.readings


def test_a_quota_is_the_projects_or_everybodys() -> None:
    quota = Quota(10, {"much": 20, "all": 0})
    assert [quota.of(name) for name in ("much", "all", "other")] == [20, 0, 10]
    assert Quota().of("p") == 0


@pytest.mark.parametrize(
    ("held", "size", "fits"),
    [(0, 0, True), (99, 0, True), (100, 0, False), (101, 0, False), (0, 100, True), (0, 101, False), (60, 40, True)],
)
def test_what_is_as_large_as_the_quota_fits(held: int, size: int, fits: bool) -> None:
    allowance = Allowance("p", held, 100)
    UNLIMITED.check(size)
    if fits:
        allowance.check(size)
        return
    with pytest.raises(ExhaustedError) as refused:
        allowance.check(size)
    assert refused.value.reason is Reason.OVER_QUOTA
    assert refused.value.metadata == {"project": "p", "held_bytes": str(held), "quota_bytes": "100"}


async def with_rows(rooms: Rooms, name: str, rows: int) -> int:
    """A run with so many rows, and its bytes."""
    run = await rooms.new_run(name)
    table = await rooms.new_table(run)
    await rooms.write(table, numbers(0, rows))
    return rooms.runs.get_by_uid(run.uid).tables[0].mark.bytes


def test_it_is_remembered_for_a_hundred_times_what_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rund_daemon.quotas.PATIENCE_SECONDS", 60.0)

    async def work(rooms: Rooms) -> None:
        clock = Clock()
        quotas = Quotas(rooms.catalog, rooms.layout, Quota(10**9), clock)
        first = await with_rows(rooms, "first", 100)
        assert (await quotas.allowance("p")).held == first
        second = await with_rows(rooms, "second", 1_000)
        clock.time += 40
        assert (await quotas.allowance("p")).held == first
        clock.time += 20
        assert (await quotas.allowance("p")).held == first + second

    run_in(tmp_path, work)


def test_those_who_ask_together_wait_for_one_measurement(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        clock = Clock()
        quotas = Quotas(rooms.catalog, rooms.layout, Quota(10**9), clock)
        held = await with_rows(rooms, "run", 100)
        asked = [asyncio.ensure_future(quotas.allowance("p")) for _ in range(5)]
        await asyncio.sleep(0)
        asked.pop().cancel()
        assert [allowance.held for allowance in await asyncio.gather(*asked)] == [held] * 4
        assert clock.readings == 3, "once before, once behind, and once for how long it is good"

    run_in(tmp_path, work)


def test_with_room_left_nobody_waits_long_and_without_it_the_truth_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(rooms: Rooms) -> None:
        clock = Clock()
        quota = Quota(await with_rows(rooms, "first", 100) + 1)
        quotas = Quotas(rooms.catalog, rooms.layout, quota, clock)
        first = (await quotas.allowance("p")).held
        second = await with_rows(rooms, "second", 1_000)
        clock.time += 100
        monkeypatch.setattr("rund_daemon.quotas.PATIENCE_SECONDS", 0.0)
        hold = threading.Event()
        busy = [asyncio.get_running_loop().run_in_executor(None, hold.wait, 20) for _ in range(40)]
        assert (await quotas.allowance("p")).held == first, "what was known, while threads are busy elsewhere"
        hold.set()
        await asyncio.gather(*busy)
        await quotas.usage("p")
        assert (await quotas.allowance("p")).held == first + second
        await rooms.runs.delete(RunName("p", "first"), "", NO_REQUEST)
        await rooms.runs.delete(RunName("p", "second"), "", NO_REQUEST)
        collector = TrashCollector(rooms.catalog, rooms.layout, now)
        await collector.collect(ALL)
        clock.time += 100
        assert (await quotas.allowance("p")).held == 0, "it was full, so nothing is refused by an old figure"

    run_in(tmp_path, work)


def test_without_a_quota_nothing_is_measured(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        clock = Clock()
        quotas = Quotas(rooms.catalog, rooms.layout, Quota(0, {"p": 5}), clock)
        assert await quotas.allowance("other") is UNLIMITED
        assert clock.readings == 0

    run_in(tmp_path, work)


def test_everything_of_a_run_counts_until_it_is_collected(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        quotas = rooms.quotas
        rows = await with_rows(rooms, "run", 100)
        bulk = rooms.layout.bulk_data("p", "run")
        (bulk / "deep").mkdir(parents=True)
        (bulk / "deep" / "file").write_bytes(bytes(1_000))
        assert await quotas.size_of(RunName("p", "run")) == rows + 1_000
        assert await quotas.size_of(RunName("p", "nobody")) == 0
        (kept,) = await quotas.usage()
        assert (kept.project, kept.run_count, kept.held_bytes, kept.trashed_bytes) == ("p", 1, rows + 1_000, 0)
        await rooms.runs.delete(RunName("p", "run"), "", NO_REQUEST)
        await asyncio.to_thread(rooms.catalog.wait_until_settled, 20)
        quotas.forget()
        (gone,) = await quotas.usage("p")
        assert (gone.run_count, gone.trashed_run_count) == (0, 1)
        assert gone.held_bytes == gone.trashed_bytes == kept.held_bytes
        collector = TrashCollector(rooms.catalog, rooms.layout, now, quotas=quotas)
        assert len(await collector.collect(ALL)) == 1
        assert await quotas.usage() == []
        assert (await quotas.usage("p"))[0].held_bytes == 0

    run_in(tmp_path, work)


def test_replaced_tables_and_reducers_count(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        for name in ("first", "second"):
            await rooms.new_run(name, "other")
        run = await rooms.new_run("run")
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 100))
        (before,) = await rooms.quotas.usage("p")
        reducer = rooms.layout.reducer("p", "umap")
        reducer.mkdir(parents=True)
        (reducer / "model.arrow").write_bytes(bytes(500))

        def replace_it(change: Change) -> None:
            discard_table(change, run, table, now(), rooms.layout, Retention())
            change.put(shelves.REDUCER_NAMES, keys.names("p", "umap"), run.uid)

        await rooms.catalog.submit(replace_it)
        rooms.quotas.forget()
        (after,) = await rooms.quotas.usage("p")
        assert (after.held_bytes, after.trashed_bytes) == (before.held_bytes + 500, before.held_bytes)
        assert [(usage.project, usage.run_count) for usage in await rooms.quotas.usage()] == [("other", 2), ("p", 1)]

    run_in(tmp_path, work)


def test_a_measurement_that_was_begun_before_is_not_remembered(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        clock = Clock()
        quotas = Quotas(rooms.catalog, rooms.layout, Quota(10**9), clock)
        held = await with_rows(rooms, "run", 100)
        asked = asyncio.ensure_future(quotas.allowance("p"))
        await asyncio.sleep(0)
        quotas.forget()
        assert (await asked).held == held
        more = await with_rows(rooms, "more", 100)
        assert (await quotas.allowance("p")).held == held + more
        quotas.grow("p", 5)
        quotas.grow("unknown", 5)
        assert (await quotas.allowance("p")).held == held + more + 5

    run_in(tmp_path, work)
