"""The files of one write stream that are being checked.

A few are looked at side by side: one is read while others become durable. They are taken in their order all the same.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from rund_daemon.errors import RundError
from rund_daemon.segments.staged_file import StagedFile

from .budget import ByteBudget

Check = Callable[[], StagedFile]
Take = Callable[[StagedFile], Awaitable[None]]

_SIDE_BY_SIDE = 3


class FileChecks:
    """The checks of one stream's files. Belongs to the event loop's thread.

    Args:
        budget: of the bytes that may be in memory.
        file_bytes: what a check holds of them; not the file's size, which nobody knows yet.
        ended: is called when a check has ended.
    """

    def __init__(self, budget: ByteBudget, file_bytes: int, ended: Callable[[], None]) -> None:
        self._budget = budget
        self._file_bytes = file_bytes
        self._ended = ended
        self._tasks: deque[asyncio.Task[None]] = deque()
        self.running = 0
        # Why a file is not taken, nor what comes behind it.
        self.refusal: Exception | None = None

    async def begin(self, sequence: int, check: Check, take: Take) -> None:
        """Has a file checked on a thread, and taken when all before it were.

        Returns when there is room for another one.

        Args:
            sequence: the last one of its batches, for its refusal.
            check: reads the file and makes it durable.
            take: hands it on.
        """
        await self._budget.take(self._file_bytes)
        before = self._tasks[-1] if self._tasks else None
        self.running += 1
        self._tasks.append(asyncio.create_task(self._run(before, sequence, check, take)))
        while len(self._tasks) >= _SIDE_BY_SIDE:
            # And not `await`, which a cancellation would go on to.
            await asyncio.wait([self._tasks[0]])
            self._tasks.popleft()

    async def finish(self) -> None:
        """Waits until all files are taken. Raises what one was refused with."""
        if self._tasks:
            await asyncio.wait([self._tasks[-1]])
        if self.refusal is not None:
            raise self.refusal

    async def _run(self, before: asyncio.Task[None] | None, sequence: int, check: Check, take: Take) -> None:
        try:
            checked = await self._check(check)
            if before is not None:
                await asyncio.wait([before])
            if self.refusal is None:
                # Not earlier: a fault in this file is no reason to refuse those before it.
                self.refusal = checked if isinstance(checked, Exception) else await self._take(checked, take)
            if isinstance(self.refusal, RundError):
                self.refusal.metadata.setdefault("sequence", str(sequence))
        finally:
            self.running -= 1
            self._ended()

    async def _check(self, check: Check) -> StagedFile | Exception:
        try:
            return await asyncio.get_running_loop().run_in_executor(None, check)
        except Exception as error:
            return error
        finally:
            # Before it waits for another file, which may wait for room.
            self._budget.give_back(self._file_bytes)

    async def _take(self, file: StagedFile, take: Take) -> Exception | None:
        try:
            await take(file)
        except Exception as error:
            return error
        return None
