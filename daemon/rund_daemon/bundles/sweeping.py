"""Settles the copies that a stop or a fault cut short: what they have put aside outside the root is removed.

Whether one was published is asked of the place itself. One that can't be reached is asked again later.
"""

from __future__ import annotations

import asyncio
import logging

from rund_daemon.errors import DrainingError, RundError
from rund_daemon.identity import uid_text
from rund_daemon.model import Operation
from rund_daemon.operations import Operations

from .places import Places

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0


class BundleSweep:
    """Settles what an earlier daemon left."""

    def __init__(self, operations: Operations, places: Places) -> None:
        self._operations = operations
        self._places = places

    async def run(self) -> None:
        """Settles until nothing is left."""
        left = self._operations.unsettled()
        while left:
            left = [operation for operation in left if not await self._settle(operation)]
            if left:
                await asyncio.sleep(_RETRY_SECONDS)
        await asyncio.Event().wait()

    async def _settle(self, operation: Operation) -> bool:
        loop = asyncio.get_running_loop()
        try:
            published = await loop.run_in_executor(None, self._sweep, operation)
        except (RundError, OSError) as error:
            logger.warning(
                "copy_not_swept",
                extra={
                    "operation": uid_text(operation.uid),
                    "url": operation.destination_url,
                    "error": str(error)[:500],
                },
            )
            return False
        await self._operations.settle(operation.uid, None if published else DrainingError())
        return True

    def _sweep(self, operation: Operation) -> bool:
        store, copy_id = self._places.store(operation.destination_url), operation.uid.hex()
        current = store.current()
        store.discard(copy_id)
        return current is not None and current.copy_id == copy_id
