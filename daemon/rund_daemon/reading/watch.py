"""Follows the changes of runs: in order, without a gap, from any revision that is still kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import RunDetails, details_of
from rund_daemon.errors import InvalidError, RevisionGoneError
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.model import Event, EventType, Revision, Run, Uid

from .pace import Pace

# Read from one snapshot at a time, so that a slow watcher never holds one.
_BATCH = 256


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """What to follow: a project, one run of it, or everything if all are empty.

    A run is known by its name until it was seen, and by its uid from then on: it may be renamed.
    """

    project: str = ""
    run: str = ""
    full: bool = False
    uid: Uid | None = None

    def takes(self, event: Event, run: Run) -> bool:
        """Whether an event is one of those that are followed."""
        if self.run:
            return run.uid == self.uid or (run.project, run.name) == (self.project, self.run)
        return not self.project or event.project == self.project


@dataclass(frozen=True, slots=True)
class RunChange:
    """One change.

    `type` is None for a run as it was when the watch began; `details` is None once all of these are sent.
    """

    revision: Revision
    type: EventType | None
    details: RunDetails | None


# Compared by identity: many watchers are given the same ones.
@dataclass(frozen=True, eq=False)
class RunChanges:
    """Changes in their order.

    Attributes:
        changes: those that are followed; perhaps none.
        reached: the revision of the last one that was looked at.
        more: whether there may be further ones already.
    """

    changes: tuple[RunChange, ...]
    reached: Revision
    more: bool = False


class RunWatch:
    """Watches runs."""

    def __init__(self, catalog: Catalog, feed: Feed) -> None:
        self._catalog = catalog
        self._feed = feed
        self._pace = Pace()
        # What was read at the newest revision: watchers who follow the same are mostly at the same place.
        self._read: dict[tuple[WatchQuery, Revision], RunChanges] = {}
        self._read_at = Revision(-1)

    async def watch(self, query: WatchQuery, after: Revision | None) -> AsyncIterator[RunChanges]:
        """Gives changes until the caller stops.

        Args:
            query: which runs.
            after: the last revision that the caller has seen; None begins with the runs as they are.

        Raises:
            InvalidError: the revision has not been reached yet.
            RevisionGoneError: the changes after it are no longer kept.
            DrainingError: the daemon stops.
        """
        query = self._with_uid(query)
        if after is None:
            present, seen = await asyncio.get_running_loop().run_in_executor(None, self._present, query)
            for begin in range(0, len(present), _BATCH):
                yield RunChanges(tuple(present[begin : begin + _BATCH]), seen)
        else:
            self._check(after)
            seen = after
        with self._pace.one_more():
            while True:
                news = self._feed.waiter(RUNS_TOPIC)
                more = True
                while more:
                    found = self._after(query, seen)
                    seen, more = found.reached, found.more
                    if found.changes:
                        query = _with_seen_uid(query, found)
                        yield found
                await news
                await self._pace.turn()

    def _with_uid(self, query: WatchQuery) -> WatchQuery:
        if not query.run:
            return query
        with self._catalog.snapshot() as snapshot:
            uid = snapshot.get(shelves.RUN_NAMES, keys.names(query.project, query.run))
        return replace(query, uid=uid)

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
            details = [_details(snapshot, run, query) for run in runs]
        present = [RunChange(detail.run.revision, None, detail) for detail in details]
        return [*present, RunChange(revision, None, None)], revision

    def _check(self, after: Revision) -> None:
        with self._catalog.snapshot() as snapshot:
            newest = snapshot.revision
            oldest = next(snapshot.scan(shelves.EVENTS), None)
        if not 0 <= after <= newest:
            raise InvalidError("after_revision", f"{after} is not a revision of this root; the newest is {newest}")
        first = oldest[1].revision if oldest else newest + 1
        if after + 1 < first:
            raise RevisionGoneError(first)

    def _after(self, query: WatchQuery, after: Revision) -> RunChanges:
        with self._catalog.snapshot() as snapshot:
            if snapshot.revision != self._read_at:
                self._read.clear()
                self._read_at = snapshot.revision
            found = self._read.get((query, after))
            if found is None:
                found = self._read[query, after] = _changes_after(snapshot, query, after)
        return found


def _changes_after(snapshot: Snapshot, query: WatchQuery, after: Revision) -> RunChanges:
    events = [event for _, event in islice(snapshot.scan(shelves.EVENTS, start=keys.u64(after + 1)), _BATCH)]
    if not events:
        return RunChanges((), after)
    if events[0].revision != after + 1:
        raise RevisionGoneError(events[0].revision)
    details: dict[Uid, RunDetails] = {}
    found = []
    for event in events:
        run = snapshot.get(shelves.RUNS, event.run_uid)
        if run is None or not query.takes(event, run):
            continue
        if run.uid not in details:
            details[run.uid] = _details(snapshot, run, query)
        found.append(RunChange(event.revision, event.type, details[run.uid]))
    return RunChanges(tuple(found), events[-1].revision, more=len(events) == _BATCH)


def _details(snapshot: Snapshot, run: Run, query: WatchQuery) -> RunDetails:
    return details_of(snapshot, run) if query.full else RunDetails(run, (), (), ())


def _with_seen_uid(query: WatchQuery, found: RunChanges) -> WatchQuery:
    seen: Sequence[RunDetails] = [change.details for change in found.changes if change.details is not None]
    return replace(query, uid=seen[-1].run.uid) if query.run and seen else query
