"""Memory that the machine has before it is measured.

The host of a virtual machine gives it memory page by page as it is first used, and takes back what lies idle for two
seconds (Linux calls it free page reporting). A program that writes into the page cache there waits longer for its host
than for the disk, or does not, by chance: on one machine 16 MB took 12 to 42 ms, and 3.3 ms in memory that had been in
use just before.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

_BYTES = 1 << 30
_PIECE = b"\1" * (1 << 20)


def warm_memory(folder: Path) -> None:
    """Fills a gigabyte of the page cache, or half of the free memory if that is less, and frees it.

    By way of a file and not of memory of this process: what that gives back is not what files get next.

    Args:
        folder: Where the file is for that time, on any disk.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(min(_BYTES, free // 2) // len(_PIECE)):
            file.write(_PIECE)
