"""When each writer was last heard of. Belongs to the event loop's thread.

It is kept in memory only: a daemon that starts anew has heard of nobody, and whoever waits for a sign counts from then.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable


class Presence:
    """Signs of life of the writers that take part in runs.

    Args:
        clock: seconds that never go backwards.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._heard: dict[str, float] = {}
        self._connected: Counter[str] = Counter()

    def hear(self, writer_id: str) -> None:
        """A call came from the writer."""
        self._heard[writer_id] = self.clock()

    def connect(self, writer_id: str) -> None:
        """A connection of the writer's was opened: it counts as heard until `disconnect`."""
        self._connected[writer_id] += 1

    def disconnect(self, writer_id: str) -> None:
        """A connection has ended."""
        self.hear(writer_id)
        self._connected[writer_id] -= 1
        if not self._connected[writer_id]:
            del self._connected[writer_id]

    def last_heard(self, writer_id: str) -> float | None:
        """When the writer was heard of, by the clock; None if it never was."""
        return self.clock() if writer_id in self._connected else self._heard.get(writer_id)

    def forget(self, writer_id: str) -> None:
        """The writer has finished."""
        self._heard.pop(writer_id, None)
