"""One job after the other, each in the process that is kept warm for the next."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.progress import Progress

from .process import Worker

_QUEUE_SECONDS = 0.1
# A warm process holds some hundred MiB, and saves the next job most of half a minute.
_IDLE_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Share:
    """What of the host a job may have: bytes of memory and threads. 0: half of the memory, all cores."""

    memory: int = 0
    cpus: int = 0

    def measured(self) -> Share:
        """The same in numbers."""
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return Share(self.memory or memory // 2, self.cpus or os.cpu_count() or 1)


class Turns:
    """The queue of jobs, and the process."""

    def __init__(self, share: Share) -> None:
        self.share = share.measured()
        self._turn = asyncio.Lock()
        self._worker: Worker | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._ending: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def next(self, progress: Progress) -> AsyncIterator[None]:
        """Waits until the jobs before are done; one that waits can be cancelled, too."""
        taking = asyncio.create_task(self._turn.acquire())
        try:
            while not (await asyncio.wait({taking}, timeout=_QUEUE_SECONDS))[0]:
                progress.report(0.0, "waiting for the jobs before")
            progress.report(0.0, "starting")
            yield
        finally:
            if taking.done() and not taking.cancelled():
                self._turn.release()
            taking.cancel()

    async def carry_out(self, order: Path, progress: Progress) -> None:
        """Has the process carry out an order; raises what `Worker.carry_out` does."""
        if self._idle is not None:
            self._idle.cancel()
        if self._worker is None or not self._worker.alive:
            self._worker = await Worker.start(self.share.cpus)
        worker = self._worker
        await worker.carry_out(order, self.share.memory, progress)
        self._idle = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._end_idle, worker)

    async def stop(self) -> None:
        """Ends the process, if there is one."""
        if self._idle is not None:
            self._idle.cancel()
        if self._worker is not None:
            await self._worker.kill()

    def _end_idle(self, worker: Worker) -> None:
        if worker is self._worker and not self._turn.locked():
            self._worker = None
            self._ending = asyncio.create_task(worker.kill())
