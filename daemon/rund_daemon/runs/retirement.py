"""Runs that have ended long ago go to trash by themselves, where the configuration wants it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice

from rund_daemon.catalog import Catalog, shelves
from rund_daemon.catalog.lookup import run_by_uid
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock
from rund_daemon.model import Micros, Run, Uid
from rund_daemon.segments.layout import Layout

from .trash import Retention, move_to_trash

logger = logging.getLogger(__name__)

KEEP_LABEL = "keep"
"""A run with a label of this name stays, whatever its value."""

_PAUSE_SECONDS = 3_600.0
_DAY_MICROS = 24 * 3600 * 1_000_000
# Of one transaction.
_RUNS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class RunAge:
    """How many days a run is kept after its end, and where that is another time by project. 0: for ever."""

    days: float = 0.0
    by_project: Mapping[str, float] = field(default_factory=dict)

    @property
    def matters(self) -> bool:
        """Whether any run goes at all."""
        return self.days > 0 or any(days > 0 for days in self.by_project.values())

    def is_over(self, run: Run, now: Micros) -> bool:
        """Whether a run's time has come."""
        days = self.by_project.get(run.project, self.days)
        if days <= 0 or not run.status.ended or run.delete_time or KEEP_LABEL in run.labels:
            return False
        return (run.end_time or run.update_time) + int(days * _DAY_MICROS) <= now


class Retirement:
    """Moves runs to trash when their time has come."""

    def __init__(
        self, catalog: Catalog, layout: Layout, feed: Feed, clock: Clock, age: RunAge, retention: Retention
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._feed = feed
        self._clock = clock
        self._age = age
        self._retention = retention

    async def run(self) -> None:
        """Does so every hour until it is cancelled."""
        while True:
            if self._age.matters:
                await self.retire()
            await asyncio.sleep(_PAUSE_SECONDS)

    async def retire(self) -> int:
        """Moves those whose time has come, and gives their number."""
        due = iter(await asyncio.get_running_loop().run_in_executor(None, self._due))
        count = 0
        while some := list(islice(due, _RUNS_AT_ONCE)):
            count += await self._move(some)
        if count:
            self._feed.publish((RUNS_TOPIC,))
            logger.info("runs_retired", extra={"count": count})
        return count

    def _due(self) -> list[Uid]:
        now = self._clock()
        with self._catalog.snapshot() as snapshot:
            runs = (snapshot.get(shelves.RUNS, uid) for _, uid in snapshot.scan(shelves.RUN_NAMES))
            return [run.uid for run in runs if run is not None and self._age.is_over(run, now)]

    async def _move(self, uids: list[Uid]) -> int:
        now = self._clock()
        moved = await self._catalog.submit(
            lambda change: [
                move_to_trash(change, run, now, self._layout, self._retention)
                for run in (run_by_uid(change, uid) for uid in uids)
                # It may have been resumed or labelled meanwhile.
                if self._age.is_over(run, now)
            ],
            deletes=True,
        )
        return len(moved)
