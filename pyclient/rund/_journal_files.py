"""The files of a journal: memory that outlives the process.

Every byte is allocated before it is mapped, so that a full disk is an ``OSError`` at a known place and never
a SIGBUS in the trainer. Nothing here waits, and nothing has a finalizer: the last reference unmaps.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ._failpoints import failpoint
from ._journal_format import (
    CURSOR_OFFSET,
    CUT_SLOTS,
    CUTS_OFFSET,
    DATA_HEAD_BYTES,
    FLAG_LOCKS,
    HEAD_BYTES,
    SLOT_BYTES,
    WRITER_OFFSET,
    Cut,
    Identity,
    pack_cut,
    pack_data_head,
    pack_head,
)
from ._journal_records import CODE_END, CODE_VOID, FIRST_SHAPE_CODE, WORD, low_seed, record_low
from ._journal_writers import RowWriter, no_writer

LIVE_LOCK_BYTE, DRAIN_LOCK_BYTE = 0, 1
"""Bytes of the head file that are locked by the writer while it lives, and by whoever moves the cursor."""

_CHUNK_BYTES = 1 << 20
_END_LOW = record_low(CODE_END, WORD)
_END_WORD = low_seed(_END_LOW) << 32 | _END_LOW


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows of one shape are written.

    Attributes:
        pack: Makes a row's body of step, time and the values.
        low: Low half of a row's first word.
        seed: Checksum of that half.
        size: Bytes of a row's record.
    """

    pack: Callable[..., bytes]
    low: int
    seed: int
    size: int


class DataFile:
    """One file of records, written by the journal's owner alone.

    ``claimed`` is where the next record begins; ``tail`` is the end of what is complete. They differ only
    while a record is being written. A record's word is stored last and in one piece, so that a record is
    there as a whole or not at all.

    Attributes:
        plans: How to write a row, by its keys and the types of its values.
        writers: Functions that do so, by the keys alone: one for each, and for the types that were first.
        latest: The one of them that was called last.
        limit: End of the room for ``Journal.append``; 0 sends its next call the slow way.
        capacity: End of the room, less the word that ends the file.
        finished: Whether the records go on in the next file.
    """

    __slots__ = (
        "base",
        "capacity",
        "claimed",
        "finished",
        "latest",
        "limit",
        "memory",
        "next_code",
        "number",
        "path",
        "plans",
        "size",
        "tail",
        "words",
        "writers",
    )

    def __init__(self, path: Path, number: int, base: int, memory: mmap.mmap | bytearray) -> None:
        self.path = path
        self.number = number
        self.base = base
        self.size = len(memory)
        self.memory = memory
        self.words = memoryview(memory).cast("Q")
        self.plans: dict[tuple[object, ...], Plan] = {}
        self.writers: dict[tuple[object, ...], RowWriter] = {}
        self.latest: RowWriter = no_writer
        self.next_code = FIRST_SHAPE_CODE
        self.tail = self.claimed = DATA_HEAD_BYTES
        self.limit = self.capacity = self.size - WORD
        self.finished = False

    @classmethod
    def create(cls, path: Path, number: int, size: int) -> DataFile:
        """Makes a file of zeros. It is no part of the journal until ``begin`` was called.

        Raises:
            OSError: There is no room for it, or the folder can't be written.
        """
        return cls(path, number, 0, _map_new_file(path, size))

    def begin(self, writer_id: str, base: int) -> None:
        """Writes the file's head: its first record has the position ``base``."""
        self.base = base
        self.memory[:DATA_HEAD_BYTES] = pack_data_head(writer_id, self.number, base)

    def position(self, offset: int) -> int:
        """Position in the journal of a place in the file."""
        return self.base + offset - DATA_HEAD_BYTES

    def write(self, low: int, checksum: int, body: bytes) -> bool:
        """Appends a record; False when there is no room. ``Journal.append`` does the same by itself."""
        size = WORD + len(body)
        # Nothing is called here, so no signal handler takes the room away; and no line ends, so that nobody who writes
        # without the lock does, if these lines are traced.
        self.claimed = end if (fits := (end := (begin := self.claimed) + size) <= self.capacity) else begin
        if not fits:
            return False
        try:
            self.memory[begin + WORD : end] = body
            self.words[begin >> 3] = checksum << 32 | low
        except BaseException:
            self.void(begin, end)
            raise
        if self.tail == begin:
            self.tail = self.claimed
        return True

    def detach(self) -> None:
        """In a forked child: whoever still holds this object must not reach the parent's file through it."""
        self.limit = self.capacity = 0
        self.memory = mmap.mmap(-1, self.size)
        self.words = memoryview(self.memory).cast("Q")

    def void(self, begin: int, end: int) -> None:
        """Fills room that was claimed and not used, so that what follows can be read."""
        low = record_low(CODE_VOID, end - begin)
        self.words[begin >> 3] = low_seed(low) << 32 | low
        if self.tail == begin:
            self.tail = self.claimed

    def finish(self) -> None:
        """Ends the file: the records go on in the next one."""
        self.limit = self.capacity = 0
        begin = self.claimed  # read when nobody can claim any more
        self.words[begin >> 3] = _END_WORD
        self.claimed = begin + WORD
        self.finished = True
        if self.tail == begin:
            self.tail = self.claimed


class HeadFile:
    """The head of a journal: who writes it, which batches were cut, and how far they are acknowledged.

    The writer's words belong to the writer; cursor and cuts belong to whoever drains the journal.
    """

    __slots__ = ("_descriptor", "_memory", "_turn", "_words", "identity", "path")

    def __init__(self, path: Path, identity: Identity, descriptor: int, memory: mmap.mmap) -> None:
        self.path = path
        self.identity = identity
        self._descriptor = descriptor  # kept open: closing any descriptor of the file drops the locks
        self._memory = memory
        self._words = memoryview(memory).cast("Q")
        self._turn = 0

    @classmethod
    def create(cls, directory: Path, identity: Identity, *, drains: bool) -> HeadFile:
        """Makes the head, locked as the format asks; it appears in the folder when it is whole.

        Args:
            directory: The folder of the journal.
            identity: What stands in it.
            drains: Whether this process moves the cursor.

        Raises:
            OSError: The folder can't be written, or there is no room.
        """
        path = head_path(directory, identity.writer_id)
        unfinished = path.with_suffix(".tmp")
        memory = _map_new_file(unfinished, HEAD_BYTES)
        failpoint("journal.head_mapped")
        descriptor = os.open(unfinished, os.O_RDWR | os.O_CLOEXEC)
        locked = _lock(descriptor, LIVE_LOCK_BYTE) and (not drains or _lock(descriptor, DRAIN_LOCK_BYTE))
        identity = replace(identity, flags=identity.flags | (FLAG_LOCKS if locked else 0))
        head = pack_head(identity)
        memory[: len(head)] = head
        unfinished.rename(path)
        failpoint("journal.head_made")
        return cls(path, identity, descriptor, memory)

    def write_cut(self, cut: Cut) -> None:
        """Records which rows a batch holds. Must come before the batch is sent."""
        self._write_slot(CUTS_OFFSET + cut.sequence % CUT_SLOTS * SLOT_BYTES, cut)

    def write_cursor(self, cut: Cut) -> None:
        """Records the last batch that is acknowledged."""
        # The slots take turns, so that one of them is whole at any time.
        self._turn ^= 1
        self._write_slot(CURSOR_OFFSET + self._turn * SLOT_BYTES, cut)

    def mark_closed(self) -> None:
        """Says that no record will follow."""
        self._words[WRITER_OFFSET >> 3] = 1

    def write_dropped(self, rows: int) -> None:
        """Records how many rows were dropped so far."""
        self._words[(WRITER_OFFSET >> 3) + 1] = rows

    def remove(self) -> None:
        """Removes the head, the last file of the journal to go, and gives up the locks."""
        self.path.unlink(missing_ok=True)
        failpoint("journal.head_removed")
        os.close(self._descriptor)

    def abandon(self) -> None:
        """Closes the file and so gives up this process's locks; in a forked child those of the parent stay."""
        os.close(self._descriptor)

    def _write_slot(self, offset: int, cut: Cut) -> None:
        self._memory[offset : offset + SLOT_BYTES] = pack_cut(cut)


def head_path(directory: Path, writer_id: str) -> Path:
    """Path of a journal's head file."""
    return directory / f"{writer_id}.journal"


def data_path(directory: Path, writer_id: str, number: int) -> Path:
    """Path of a journal's data file; numbers begin at 1."""
    return directory / f"{writer_id}.{number:04d}.journal"


def journal_directory(root: Path, environment: Mapping[str, str]) -> Path:
    """The folder for journals: in the root, where the daemon finds them; else in the user's state folder.

    The second is for a root on another host, or one that this user can't write to: it is
    ``$XDG_STATE_HOME/rund/journals``, by default under ``~/.local/state``. No daemon looks there: rows that a
    process left in it when it died are sent by ``rund recover``.

    Raises:
        OSError: Neither can be written.
    """
    wanted = root / "journals"
    if root.is_dir():
        try:
            wanted.mkdir(mode=0o700, exist_ok=True)
        except OSError:
            pass
        else:
            if os.access(wanted, os.W_OK | os.X_OK):
                return wanted
    state = environment.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    fallback = Path(state, "rund", "journals")
    fallback.mkdir(mode=0o700, parents=True, exist_ok=True)
    return fallback


def _lock(descriptor: int, byte: int) -> bool:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False  # a file system without locks: pid and start time must do
    return True


def _map_new_file(path: Path, size: int) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _allocate(descriptor, size)
        return mmap.mmap(descriptor, size)
    except OSError:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
        return
    # Where room can't be asked for, writing is the one way to be given it.
    for begin in range(0, size, _CHUNK_BYTES):
        os.pwrite(descriptor, bytes(min(_CHUNK_BYTES, size - begin)), begin)
