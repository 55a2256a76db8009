"""Wakes those who wait for something to change. Belongs to the event loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable

RUNS_TOPIC = "runs"
"""Changes of runs' metadata. Other topics are the uids of metrics tables (new rows) and of operations."""


class Feed:
    """Topics that can be waited for. A waiter looks first, then waits, then looks again; no news is ever queued."""

    def __init__(self) -> None:
        self._waiters: dict[Hashable, set[asyncio.Future[None]]] = {}
        self._error: BaseException | None = None

    def close(self, error: BaseException) -> None:
        """Ends all waiting, now and later, with an error."""
        self._error = error
        for waiters in list(self._waiters.values()):
            for waiter in list(waiters):
                if not waiter.done():
                    waiter.set_exception(error)

    def publish(self, topics: Iterable[Hashable]) -> None:
        """Wakes all who wait for one of the topics."""
        for topic in topics:
            for waiter in self._waiters.pop(topic, ()):
                if not waiter.done():
                    waiter.set_result(None)

    def waiter(self, topic: Hashable) -> asyncio.Future[None]:
        """Gives a future for the next news of a topic. Take it before looking, so that nothing is missed."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever took it and then had no need to wait must not be told of an error nobody saw.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._error is not None:
            future.set_exception(self._error)
            return future
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
