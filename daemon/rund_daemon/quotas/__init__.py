"""How much each project may hold, and whether there is room in it for something new.

Only what is new is asked about: runs that are going on are never refused a row. What a project holds is measured when
somebody asks, in a thread, and remembered for a while: a project with many runs is not counted for each of them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from rund_daemon.catalog import Catalog
from rund_daemon.errors import ExhaustedError, Reason
from rund_daemon.names import RunName
from rund_daemon.segments.layout import Layout

from .usage import ProjectUsage, all_projects, size_of_run, usage_of

T = TypeVar("T")

__all__ = ["UNLIMITED", "Allowance", "ProjectUsage", "Quota", "Quotas"]

LONGEST_SECONDS = 60.0
"""A measurement is good for no longer."""
COST_FACTOR = 100.0
"""Nor for longer than so many times what it took: measuring takes a hundredth of a thread's time at most."""
PATIENCE_SECONDS = 1.0
"""Nobody waits longer for a measurement if there was room by the last one."""


@dataclass(frozen=True, slots=True)
class Quota:
    """How many bytes a project may hold, and where that is another number by project. 0: as many as it likes."""

    size: int = 0
    by_project: Mapping[str, int] = field(default_factory=dict)

    def of(self, project: str) -> int:
        """The quota of a project; 0 if it has none."""
        return self.by_project.get(project, self.size)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a project holds, and how much it may; without a `quota` all is well."""

    project: str = ""
    held: int = 0
    quota: int = 0

    def check(self, size: int = 0) -> None:
        """Checks that there is room for something new of so many bytes; of a new run nobody knows how many.

        Raises:
            ExhaustedError: OVER_QUOTA.
        """
        if not self.quota or self.held + max(size, 1) <= self.quota:
            return
        new = f", this is {size:,} more" if size else ""
        raise ExhaustedError(
            Reason.OVER_QUOTA,
            f"project {self.project!r} holds {self.held:,} bytes{new}, and its quota is {self.quota:,}; delete runs "
            f"with `rund rm` and free their room with `rund gc --project {self.project} --all`, or raise `quota` or "
            "`project_quota` in the daemon's rund.toml. Runs that are there can be written and resumed as before",
            project=self.project,
            held_bytes=self.held,
            quota_bytes=self.quota,
        )


UNLIMITED = Allowance()


@dataclass(frozen=True, slots=True)
class _Figure:
    usage: ProjectUsage
    good_until: float


class Quotas:
    """The quotas of a root's projects, and what they hold. For the event loop's thread."""

    def __init__(
        self, catalog: Catalog, layout: Layout, quota: Quota, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._catalog = catalog
        self._layout = layout
        self._quota = quota
        self._clock = clock
        self._figures: dict[str, _Figure] = {}
        self._measuring: dict[str, asyncio.Future[tuple[ProjectUsage, float]]] = {}

    def quota_of(self, project: str) -> int:
        """How many bytes a project may hold; 0 if it has no quota."""
        return self._quota.of(project)

    async def allowance(self, project: str) -> Allowance:
        """What there is room for in a project. It costs nothing where no quota is set."""
        quota = self._quota.of(project)
        if not quota:
            return UNLIMITED
        last = self._figures.get(project)
        if last is not None and last.usage.held_bytes < quota and not self._is_good(last):
            await asyncio.wait([self._measurement(project)], timeout=PATIENCE_SECONDS)
            # What was measured meanwhile, or what was known before.
            return Allowance(project, self._figures.get(project, last).usage.held_bytes, quota)
        return Allowance(project, (await self._usage(project)).held_bytes, quota)

    async def usage(self, project: str = "") -> list[ProjectUsage]:
        """What a project holds, or what each of them does, by name."""
        if project:
            return [await self._usage(project)]
        found = await _off_loop(lambda: all_projects(self._catalog))
        return [await self._usage(name) for name in found]

    async def size_of(self, run: RunName) -> int:
        """Bytes of a run, which are those of a copy; 0 if there is no such run."""
        return await _off_loop(lambda: size_of_run(self._catalog, self._layout, run))

    def grow(self, project: str, size: int) -> None:
        """Counts what has come in at once, and not by and by as the rows of a run do."""
        if (figure := self._figures.get(project)) is not None:
            usage = replace(figure.usage, held_bytes=figure.usage.held_bytes + size)
            self._figures[project] = replace(figure, usage=usage)

    def forget(self) -> None:
        """Has everything measured anew: much may have been removed."""
        self._figures.clear()
        self._measuring.clear()

    async def _usage(self, project: str) -> ProjectUsage:
        figure = self._figures.get(project)
        if figure is not None and self._is_good(figure):
            return figure.usage
        # Others may wait for it, too.
        usage, _ = await asyncio.shield(self._measurement(project))
        return usage

    def _is_good(self, figure: _Figure) -> bool:
        return self._clock() < figure.good_until

    def _measurement(self, project: str) -> asyncio.Future[tuple[ProjectUsage, float]]:
        """The measurement that goes on, or one that begins now."""
        work = self._measuring.get(project)
        if work is None:
            work = asyncio.get_running_loop().run_in_executor(None, self._measure, project)
            self._measuring[project] = work
            work.add_done_callback(partial(self._keep, project))
        return work

    def _measure(self, project: str) -> tuple[ProjectUsage, float]:
        began = self._clock()
        usage = usage_of(self._catalog, self._layout, project)
        return usage, self._clock() - began

    def _keep(self, project: str, work: asyncio.Future[tuple[ProjectUsage, float]]) -> None:
        failed = work.cancelled() or work.exception() is not None
        if self._measuring.get(project) is not work:
            return  # it was begun before everything was forgotten
        del self._measuring[project]
        if failed:
            return
        usage, took = work.result()
        # Of names that stand for nothing there may be any number.
        if usage.run_count or usage.held_bytes:
            self._figures[project] = _Figure(usage, self._clock() + min(LONGEST_SECONDS, COST_FACTOR * took))


async def _off_loop(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
