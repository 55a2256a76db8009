"""Follows the changes of runs: in order, without a gap, from any revision that is still kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice

from rund_daemon.catalog import Catalog, keys, shelves
from rund_daemon.catalog.lookup import RunDetails, details_of
from rund_daemon.errors import InvalidError, RevisionGoneError
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.model import Event, EventType, Revision

# Read from one snapshot at a time, so that a slow watcher never holds one.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """What to follow: a project, one run of it, or everything if both are empty."""

    project: str = ""
    run: str = ""
    full: bool = False


@dataclass(frozen=True, slots=True)
class RunChange:
    """One change.

    `type` is None for a run as it was when the watch began; `details` is None once all of these are sent.
    """

    revision: Revision
    type: EventType | None
    details: RunDetails | None


class RunWatch:
    """Watches runs."""

    def __init__(self, catalog: Catalog, feed: Feed) -> None:
        self._catalog = catalog
        self._feed = feed

    async def watch(self, query: WatchQuery, after: Revision | None) -> AsyncIterator[RunChange]:
        """Gives changes until the caller stops.

        Args:
            query: which runs.
            after: the last revision that the caller has seen; None begins with the runs as they are.

        Raises:
            InvalidError: the revision has not been reached yet.
            RevisionGoneError: the changes after it are no longer kept.
            DrainingError: the daemon stops.
        """
        if after is None:
            present = asyncio.get_running_loop().run_in_executor(None, self._present, query)
            changes, after = await present
            for change in changes:
                yield change
            yield RunChange(after, None, None)
        else:
            self._check(after)
        while True:
            news = self._feed.waiter(RUNS_TOPIC)
            while batch := self._after(query, after):
                for event, details in batch:
                    after = event.revision
                    if details is not None:
                        yield RunChange(event.revision, event.type, details)
            await news

    def _present(self, query: WatchQuery) -> tuple[list[RunChange], Revision]:
        with self._catalog.snapshot() as snapshot:
            prefix = keys.names_prefix(query.project) if query.project else b""
            uids = [
                uid
                for key, uid in snapshot.scan(shelves.RUN_NAMES, prefix)
                if not query.run or key == keys.names(query.project, query.run)
            ]
            runs = [run for uid in sorted(uids) if (run := snapshot.get(shelves.RUNS, uid))]
            revision = snapshot.revision
            details = [details_of(snapshot, run) if query.full else RunDetails(run, (), (), ()) for run in runs]
        return [RunChange(detail.run.revision, None, detail) for detail in details], revision

    def _check(self, after: Revision) -> None:
        with self._catalog.snapshot() as snapshot:
            newest = snapshot.revision
            oldest = next(snapshot.scan(shelves.EVENTS), None)
        if not 0 <= after <= newest:
            raise InvalidError("after_revision", f"{after} is not a revision of this root; the newest is {newest}")
        first = oldest[1].revision if oldest else newest + 1
        if after + 1 < first:
            raise RevisionGoneError(first)

    def _after(self, query: WatchQuery, after: Revision) -> list[tuple[Event, RunDetails | None]]:
        with self._catalog.snapshot() as snapshot:
            events = [event for _, event in islice(snapshot.scan(shelves.EVENTS, start=keys.u64(after + 1)), _BATCH)]
            if events and events[0].revision != after + 1:
                raise RevisionGoneError(events[0].revision)
            found: list[tuple[Event, RunDetails | None]] = []
            for event in events:
                run = snapshot.get(shelves.RUNS, event.run_uid)
                wanted = run is not None and (not query.project or event.project == query.project)
                if run is None or not wanted or (query.run and run.name != query.run):
                    found.append((event, None))
                elif query.full:
                    found.append((event, details_of(snapshot, run)))
                else:
                    found.append((event, RunDetails(run, (), (), ())))
        return found
