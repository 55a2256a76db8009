"""Watching runs from any revision that is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from rund_daemon.catalog import keys, shelves
from rund_daemon.errors import DrainingError, InvalidError, Reason, RevisionGoneError
from rund_daemon.model import EventType, Revision, RunStatus
from rund_daemon.names import RunName
from rund_daemon.reading.watch import RunChange, RunWatch, WatchQuery
from rund_daemon.runs import Ending

from tests.daemon.rooms import NO_REQUEST, Rooms, run_in


async def take(watch: RunWatch, count: int, after: int | None, query: WatchQuery | None = None) -> list[RunChange]:
    stream = watch.watch(query or WatchQuery(), None if after is None else Revision(after))
    found: list[RunChange] = []
    while len(found) < count:
        found += (await anext(stream)).changes
    await stream.aclose()
    assert len(found) == count
    return found


def test_every_change_is_seen_once_in_order_from_any_revision(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        watch = RunWatch(rooms.catalog, rooms.feed)
        for number in range(300):
            await rooms.new_run(f"r{number}", project=f"p{number % 3}")
        for after in (0, 1, 255, 256, 299):
            found = await take(watch, 300 - after, after)
            assert [change.revision for change in found] == list(range(after + 1, 301))
        of_one = await take(watch, 100, 0, WatchQuery("p1"))
        assert {change.details.run.project for change in of_one if change.details} == {"p1"}
        present = await take(watch, 301, None)
        assert [change.type for change in present] == [None] * 301
        assert present[-1].details is None
        assert present[-1].revision == 300

    run_in(tmp_path, work)


def test_events_that_are_no_longer_kept(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        watch = RunWatch(rooms.catalog, rooms.feed)
        for number in range(10):
            await rooms.new_run(f"r{number}")
        for revision in range(1, 6):
            await rooms.catalog.submit(lambda change, r=revision: change.delete(shelves.EVENTS, keys.u64(r)))
        with pytest.raises(RevisionGoneError) as gone:
            await take(watch, 1, 3)
        assert (gone.value.reason, gone.value.metadata["oldest_revision"]) == (Reason.REVISION_GONE, "6")
        assert [change.revision for change in await take(watch, 5, 5)] == [6, 7, 8, 9, 10]
        for after in (-1, 11):
            with pytest.raises(InvalidError):
                await take(watch, 1, after)

    run_in(tmp_path, work)


def test_a_watcher_waits_and_is_woken(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        watch = RunWatch(rooms.catalog, rooms.feed)
        stream = watch.watch(WatchQuery("p", "run"), Revision(0))
        waiting = asyncio.ensure_future(anext(stream))
        await rooms.new_run("other")
        run = await rooms.new_run("run")
        (change,) = (await asyncio.wait_for(waiting, 30)).changes
        assert (change.type, change.details and change.details.run.uid) == (EventType.CREATED, run.uid)
        await rooms.runs.finish(RunName("p", "run"), Ending(RunStatus.COMPLETED), NO_REQUEST)
        (change,) = (await asyncio.wait_for(anext(stream), 30)).changes
        assert change.type is EventType.UPDATED
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        rooms.feed.close(DrainingError())
        with pytest.raises(DrainingError):
            await asyncio.wait_for(waiting, 30)

    run_in(tmp_path, work)
