"""The head of a journal that another process has left, or that has nobody to send its rows.

POSIX locks have a trap: a process that closes any descriptor of the file gives its locks up. So the head is opened
once, here, and everything that is read of it is read through this object.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from pathlib import Path

from ._identity import boot_id, start_ticks
from ._journal_files import DRAIN_LOCK_BYTE, LIVE_LOCK_BYTE
from ._journal_format import (
    CURSOR_OFFSET,
    CUT_SLOTS,
    CUTS_OFFSET,
    FLAG_LOCKS,
    FLAG_SENDER,
    HEAD_BYTES,
    SLOT_BYTES,
    Cut,
    Identity,
    JournalFormatError,
    pack_cut,
)


class AdoptedHead:
    """A head whose cursor and cuts this process may write, as long as it is open."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._memory = mmap.mmap(descriptor, HEAD_BYTES)
        self._turn = 0
        self._writer_is_gone = False

    @classmethod
    def take(cls, path: Path) -> AdoptedHead | None:
        """Opens a head and locks it; None if somebody drains this journal already, or it is gone.

        Raises:
            JournalFormatError: The file is too short for a head.
        """
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        if os.fstat(descriptor).st_size < HEAD_BYTES:
            os.close(descriptor)
            raise JournalFormatError(f"{path} is too short for the head of a journal")
        # The file may have been removed by the drainer before, between the opening and the locking.
        if not _lock(descriptor, DRAIN_LOCK_BYTE) or os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def read(self) -> bytes:
        """The head as it is now."""
        return self._memory[:]

    def writer_is_gone(self, identity: Identity) -> bool:
        """Whether the writer has died or left the journal, so that no row will follow."""
        if not self._writer_is_gone:
            if identity.flags & FLAG_LOCKS:
                self._writer_is_gone = _lock(self._descriptor, LIVE_LOCK_BYTE)
            else:
                same_boot = identity.boot_id == boot_id()
                alive = same_boot and start_ticks(identity.pid) == identity.start_ticks != 0
                self._writer_is_gone = not alive
        return self._writer_is_gone

    def is_drained_by_writer(self, identity: Identity) -> bool:
        """Whether a writer that could not lock sends its rows itself, and lives."""
        sends_unlocked = identity.flags & (FLAG_SENDER | FLAG_LOCKS) == FLAG_SENDER
        return sends_unlocked and not self.writer_is_gone(identity)

    def write_cut(self, cut: Cut) -> None:
        """Records which rows a batch holds. Must come before the batch is sent."""
        self._write(CUTS_OFFSET + cut.sequence % CUT_SLOTS * SLOT_BYTES, cut)

    def write_cursor(self, cut: Cut) -> None:
        """Records the last batch that is acknowledged."""
        self._turn ^= 1
        self._write(CURSOR_OFFSET + self._turn * SLOT_BYTES, cut)

    def remove(self) -> None:
        """Removes the head, the last file of the journal to go."""
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets others drain the journal."""
        os.close(self._descriptor)

    def _write(self, offset: int, cut: Cut) -> None:
        self._memory[offset : offset + SLOT_BYTES] = pack_cut(cut)


def _lock(descriptor: int, byte: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False
    return True
