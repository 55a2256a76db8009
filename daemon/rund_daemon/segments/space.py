"""The floor of free space: what is written in bulk stops above it, so that the catalog can still commit a deletion."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.errors import ExhaustedError, Reason


@dataclass(frozen=True, slots=True)
class SpaceFloor:
    """Bytes of a folder's file system that stay free."""

    folder: Path
    min_free_bytes: int

    def check(self, size: int) -> None:
        """Checks that there is room for so many bytes.

        Raises:
            ExhaustedError: NO_SPACE.
        """
        state = os.statvfs(self.folder)
        free = state.f_bavail * state.f_frsize
        if free - size < self.min_free_bytes:
            raise no_space(free, self.min_free_bytes)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder, without what is behind links. What can't be looked at counts nothing."""
    try:
        state = path.lstat()
        if not stat.S_ISDIR(state.st_mode):
            return state.st_size
        with os.scandir(path) as entries:
            return sum(size_of(Path(entry.path)) if entry.is_dir() else _size_of_file(entry) for entry in entries)
    except OSError:
        return 0


def _size_of_file(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:  # removed meanwhile
        return 0


def is_full(error: BaseException) -> bool:
    """Says whether a write failed for want of space, or of quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def no_space(free: int, floor: int) -> ExhaustedError:
    """The answer to what there is no room for."""
    return ExhaustedError(
        Reason.NO_SPACE,
        f"the file system has {free} bytes free and rund keeps {floor} for deleting; "
        "delete runs or give it more room, and send the request again",
        retry_after_seconds=2.0,
        free_bytes=free,
        min_free_bytes=floor,
    )
