"""Which calls are open, so that a daemon that stops can wait until each has been told its end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from rund_daemon.errors import DrainingError


class OpenCalls:
    """Counts calls from their first message to their status. Belongs to the event loop's thread."""

    def __init__(self) -> None:
        self._count = 0
        self._closed = False
        self._news = asyncio.Event()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Holds a call open. Its status must have been sent before this ends."""
        if self._closed:
            # It is only going to be refused, and those who ask again and again must not hold up a stop.
            yield
            return
        self._count += 1
        try:
            yield
        finally:
            self._count -= 1
            self._news.set()

    def check_open(self) -> None:
        """Refuses a call that came after the close. Raises DrainingError."""
        if self._closed:
            raise DrainingError

    def close(self) -> None:
        """Lets no more calls in."""
        self._closed = True

    async def ended(self, timeout_seconds: float) -> bool:
        """Waits until no call is open, and says whether none is."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while self._count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            return False
        return True
