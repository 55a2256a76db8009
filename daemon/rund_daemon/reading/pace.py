"""Lets many callers do the same in rounds, so that together they take a small share of the event loop's time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

# About twenty times what it costs the daemon and the watcher to pass on what is new.
_SECONDS_A_WATCHER = 0.004
_LONGEST_SECONDS = 1.0
# Those who were woken by the same news come within this share of a round.
_TOGETHER = 0.1


class Pace:
    """Rounds whose distance grows with the number of those who take part. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._count = 0
        self._began = self._next = 0.0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Takes part."""
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1

    async def turn(self) -> None:
        """Waits for the next round; begins one at once if the last is long ago."""
        loop = asyncio.get_running_loop()
        length = min(_LONGEST_SECONDS, self._count * _SECONDS_A_WATCHER)
        if self._began + length * _TOGETHER < loop.time() < self._next:
            await asyncio.sleep(self._next - loop.time())
        if loop.time() >= self._next:
            self._began = loop.time()
            self._next = self._began + length
