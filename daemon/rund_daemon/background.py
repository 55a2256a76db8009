"""Work that goes on beside the requests, for as long as the daemon lives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .errors import DrainingError, RundError

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 5.0


async def keep_running(work: Callable[[], Awaitable[None]]) -> None:
    """Does work until it is cancelled or the daemon drains. A full disk, or a fault, only delays it."""
    while True:
        try:
            await work()
        except DrainingError:
            return
        except Exception as error:
            refused = isinstance(error, RundError)
            logger.warning(
                "background_work_failed",
                exc_info=not refused,
                extra={"work": getattr(work, "__qualname__", ""), "error": str(error)},
            )
            await asyncio.sleep(_RETRY_SECONDS)
