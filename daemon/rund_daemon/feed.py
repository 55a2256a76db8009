"""Wakes those who wait for something to change. Belongs to the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable


class Feed:
    """Topics that can be waited for. A waiter looks first, then waits, then looks again; no news is ever queued."""

    def __init__(self) -> None:
        self._waiters: dict[Hashable, set[asyncio.Future[None]]] = {}

    def publish(self, topics: Iterable[Hashable]) -> None:
        """Wakes all who wait for one of the topics."""
        for topic in topics:
            for waiter in self._waiters.pop(topic, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def waiter(self, topic: Hashable) -> asyncio.Future[None]:
        """Gives a future for the next news of a topic. Take it before looking, so that nothing is missed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiters = self._waiters.setdefault(topic, set())
        waiters.add(future)
        future.add_done_callback(lambda done: self._forget(topic, done))
        return future

    def _forget(self, topic: Hashable, waiter: asyncio.Future[None]) -> None:
        waiters = self._waiters.get(topic)
        if waiters is not None:
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[topic]
