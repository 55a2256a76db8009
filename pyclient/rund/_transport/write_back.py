"""Has the kernel begin to write a file to the disk before anybody waits for that."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

_SYNC_FILE_RANGE_WRITE = 2
_TO_THE_END = ctypes.c_int64(0)


def begin_write_back(descriptor: int) -> None:
    """Starts the writing of a file's changed pages; a later sync waits for what is left.

    It returns at once, but for a disk that has as much to do as it takes.

    It promises nothing, and where the kernel has no such call it does nothing (sync_file_range(2)).
    """
    if _sync_file_range is not None:
        _sync_file_range(descriptor, ctypes.c_int64(0), _TO_THE_END, _SYNC_FILE_RANGE_WRITE)


def _find() -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = ctypes.CDLL(None).sync_file_range
    except (OSError, AttributeError):
        return None
    return found


_sync_file_range = _find()
