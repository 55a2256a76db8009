"""Disk space held back for deletions.

LMDB never writes in place, so even a deletion needs some pages. Others fill disks too, so no floor of ours keeps these
free; a file does. It is given up when a deletion finds no room, and made again when there is room for more than it.
While it is gone only deletions are committed: anything else would use up what they need.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class Reserve:
    """A file of a fixed size. Belongs to the writer's thread."""

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size
        self._held = size > 0 and path.exists() and path.stat().st_size == size

    def take(self) -> bool:
        """Makes the file if it is not there and there is room for twice as much; says whether it is there."""
        if self._size and not self._held:
            state = os.statvfs(self._path.parent)
            self._held = state.f_bavail * state.f_frsize >= 2 * self._size and self._allocate()
        return self._held or not self._size

    def give_up(self) -> bool:
        """Removes the file; says whether it was there."""
        if not self._held:
            return False
        self._path.unlink(missing_ok=True)
        self._held = False
        logger.warning("reserve_given_up", extra={"bytes": self._size})
        return True

    def _allocate(self) -> bool:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._size)
        except OSError as error:
            logger.warning("reserve_failed", extra={"bytes": self._size, "error": str(error)})
            self._path.unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)
        return True
