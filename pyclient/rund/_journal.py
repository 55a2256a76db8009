"""The journal of one process: rows that ``log`` returned from are kept, whatever becomes of the process.

A row is packed into a memory-mapped file. The kernel has it from then on, so it survives SIGKILL. The short
way through ``append`` makes no system call and takes one lock, which only callers of ``append`` share; the
sender reads ``files`` and each file's ``tail`` without it. The format is in docs/journal.md.

Several threads may append, and so may a signal handler or a finalizer that interrupts an append of its own
thread: the lock is reentrant, and a record that is begun behind an unfinished one becomes visible with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from time import time_ns
from weakref import WeakMethod
from zlib import crc32

from ._errors import InvalidValueError, JournalFullError, ResourceError, WrongStateError
from ._failpoints import failpoint
from ._identity import new_writer_id, this_writer
from ._journal_files import DataFile, HeadFile, data_path, head_path
from ._journal_format import DATA_HEAD_BYTES, FLAG_SENDER, Identity
from ._journal_limits import JournalLimits
from ._journal_records import WORD
from ._journal_rows import write_row
from ._journal_values import Row, read_row, read_step
from ._journal_writers import no_writer

_ROOM_POLL_S = 0.002


@dataclass(frozen=True, slots=True)
class JournalOwner:
    """For whom a journal is written.

    Attributes:
        writer_id: UUID of this process; the files are named after it.
        stream_id: Write stream of the rows.
        run: Resource name of the run.
        run_uid: Its uid, or empty.
        root: Path of the daemon's root.
        rank: Rank of this process.
        sends: Whether this process sends the rows itself.
        parent_writer_id: The writer that this process was forked from, or empty.
    """

    writer_id: str
    stream_id: str
    run: str
    root: str
    rank: int
    sends: bool
    run_uid: str = ""
    parent_writer_id: str = ""


@dataclass(frozen=True, slots=True)
class _Entry:
    row: Row
    step: int | None
    time_ns: int


class Journal:
    """Rows of one process on their way to the daemon. Makes its files when the first row comes.

    In a forked child it begins anew: another writer, files of its own, no sender, nothing of the parent's.

    Args:
        directory: Folder of the files.
        owner: For whom it is written.
        limits: How large it may grow.
        wake: Called when the sender has something to do, but never on the short way. A signal handler may
            call it while it runs.
    """

    __slots__ = (
        "__weakref__",
        "_allocated",
        "_closed",
        "_deferred",
        "_directory",
        "_file",
        "_freed",
        "_limits",
        "_rolling",
        "_waited_in_vain",
        "_wake",
        "dropped_rows",
        "files",
        "head",
        "lock",
        "next_step",
        "owner",
    )

    head: HeadFile | None
    files: deque[DataFile]
    owner: JournalOwner
    dropped_rows: int
    lock: RLock
    next_step: int

    def __init__(self, directory: Path, owner: JournalOwner, limits: JournalLimits, wake: Callable[[], None]) -> None:
        self._directory = directory
        self._limits = limits
        self._begin(owner, wake)
        _call_in_forked_children(WeakMethod(self._begin_in_child))

    def append(self, values: Mapping[str, object], step: int | None = None) -> None:
        """Keeps one row. When it returns, the row survives SIGKILL of this process.

        Args:
            values: Values by key; see ``read_row`` for what they may be.
            step: The step; None means one more than that of the last row of this process, 0 at first.

        Raises:
            InvalidArgumentError: A key, a value or the step can't be kept; the message names it.
            JournalFullError: There was no room for as long as the limits allow.
            WrongStateError: The journal is closed.
        """
        file = self._file
        try:
            if file.latest(self, file, values, step):
                return
            writer = file.writers[(*values,)]
            if writer(self, file, values, step):
                file.latest = writer
                return
        except (KeyError, struct.error, OverflowError, TypeError, AttributeError):
            pass  # a shape that has no function in this file, or values that the slow way converts or refuses
        self._append_planned(values, step)

    def _append_planned(self, values: Mapping[str, object], step: int | None) -> None:
        """Appends a row of a known shape, whose keys another shape may have with other types; else the slow way."""
        try:
            row = (*values.values(),)
            with self.lock:
                file = self._file
                plan = file.plans[(*values, *map(type, row))]
                at = self.next_step if step is None else step
                if type(at) is not int:
                    at = read_step(at)
                body = plan.pack(at, time_ns(), *row)
                word = crc32(body, plan.seed) << 32 | plan.low
                # One line, because rows that have their step are written without the lock.
                file.claimed = end if (fits := (end := (begin := file.claimed) + plan.size) <= file.limit) else begin
                if fits:
                    # From here on nothing is called, so no signal handler comes between.
                    try:
                        file.memory[begin + 8 : end] = body
                        file.words[begin >> 3] = word
                    except BaseException:
                        file.void(begin, end)
                        raise
                    if file.tail == begin:
                        file.tail = file.claimed
                    self.next_step = at + 1
                    return
        except (KeyError, struct.error, OverflowError, TypeError, AttributeError):
            pass  # a shape that is new in this file, or values that the slow way converts or refuses
        self._append_slowly(values, step)

    def position(self) -> int:
        """Position after the last row."""
        file = self._file
        return file.position(file.tail)

    def is_current(self, file: DataFile) -> bool:
        """Whether rows still go into this file."""
        return file is self._file

    def ask_to_be_woken(self) -> None:
        """Has the next append call ``wake``. Who asks looks for rows once more before it sleeps."""
        self._file.limit = 0

    def free(self, position: int) -> None:
        """Removes the files that end before a position. Called by the sender alone."""
        while self.files and self.files[0].finished:
            file = self.files[0]
            if self.is_current(file) or file.position(file.tail) > position:
                return
            self.files.popleft()
            file.path.unlink(missing_ok=True)
            failpoint("journal.file_freed")
            self._freed += file.size

    def close(self) -> None:
        """Takes no more rows."""
        with self.lock:
            self._closed = True
            self._file.limit = self._file.capacity = 0
            self._file.plans.clear()
            self._file.writers.clear()
            self._file.latest = no_writer
            if self.head is not None:
                self.head.mark_closed()
                failpoint("journal.closed")

    def remove(self) -> None:
        """Removes all files, when everything in them is acknowledged."""
        while self.files:
            self.files.popleft().path.unlink(missing_ok=True)
            failpoint("journal.file_removed")
        if self.head is not None:
            self.head.remove()
            self.head = None

    def release(self) -> None:
        """Leaves the files to whoever adopts them."""
        if self.head is not None:
            self.head.abandon()
            self.head = None

    def _begin(self, owner: JournalOwner, wake: Callable[[], None]) -> None:
        self.owner = owner
        self.head = None
        self.files = deque()
        self.dropped_rows = 0
        self._wake = wake
        self.lock = RLock()
        self._file = DataFile(self._directory, 0, 0, bytearray(DATA_HEAD_BYTES + WORD))
        self._file.limit = self._file.capacity = 0
        self.next_step = 0
        self._allocated = self._freed = 0
        self._rolling = self._waited_in_vain = self._closed = False
        self._deferred: deque[_Entry] = deque()

    def _begin_in_child(self) -> None:
        # Only this thread lives here; who held the lock or was writing does not. Nothing inherited is used.
        old, head, closed = self._file, self.head, self._closed
        owner = replace(self.owner, writer_id=new_writer_id(), stream_id=new_writer_id(), sends=False)
        self._begin(replace(owner, parent_writer_id=self.owner.writer_id), _nobody)
        self._closed = closed
        old.detach()
        if head is not None:
            head.abandon()

    def _append_slowly(self, values: Mapping[str, object], step: object) -> None:
        entry = _Entry(read_row(values), None if step is None else read_step(step), time_ns())
        if self._place(entry):
            return
        give_up = time.monotonic() + (0.0 if self._waited_in_vain else self._limits.block_seconds)
        while time.monotonic() < give_up:
            self._wake()
            time.sleep(_ROOM_POLL_S)
            if self._place(entry):
                return
        self._waited_in_vain = True
        self._refuse()

    def _place(self, entry: _Entry) -> bool:
        with self.lock:
            if self._closed:
                raise WrongStateError("the run's log is closed in this process")
            if self._rolling:  # this thread is making a file, and a signal handler of its has come here
                self._deferred.append(entry)
                return True
            if self._file.limit != self._file.capacity:
                self._file.limit = self._file.capacity
                self._wake()
            try:
                return self._write(entry)
            finally:
                self._write_deferred()

    def _write_deferred(self) -> None:
        # A signal handler may take from the queue between two lines of this.
        with contextlib.suppress(IndexError):
            while True:
                if not self._write(self._deferred.popleft()):
                    self._count_drop()

    def _write(self, entry: _Entry) -> bool:
        fresh = False
        while True:
            file = self._file
            if self._write_into(file, entry):
                return True
            if file is not self._file:
                continue  # a signal handler has gone on to the next file
            if fresh:
                most = file.capacity - DATA_HEAD_BYTES
                raise InvalidValueError(f"the row is too large for the journal, whose files hold {most} bytes")
            if not self._roll():
                return False
            fresh = True

    def _write_into(self, file: DataFile, entry: _Entry) -> bool:
        step = read_step(self.next_step) if entry.step is None else entry.step
        if not write_row(file, entry.row, step, entry.time_ns):
            return False
        self.next_step = step + 1
        return True

    def _roll(self) -> bool:
        self._rolling = True
        try:
            self._reap()
            number = self._file.number + 1
            size = self._limits.next_file_bytes(number, self._allocated - self._freed)
            if size == 0:
                return False
            if self.head is None:
                self.head = self._make_head()
            file = DataFile.create(data_path(self._directory, self.owner.writer_id, number), number, size)
            failpoint("journal.file_made")
            self._go_on_in(file)
            self._waited_in_vain = False
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise ResourceError(f"the journal in {self._directory} can't be written: {error}") from error
        finally:
            self._rolling = False
        self._wake()
        return True

    def _go_on_in(self, file: DataFile) -> None:
        old = self._file
        if old.number and not old.finished:
            old.finish()
            failpoint("journal.file_finished")
        file.begin(self.owner.writer_id, old.position(old.claimed) if old.number else 0)
        failpoint("journal.file_begun")
        # Nothing is called from here on: a signal handler that raises does so before or after all of it.
        self._allocated += file.size
        self.files += (file,)
        self._file = file

    def _reap(self) -> None:
        """Without a sender, the daemon removes what it has drained; this finds out."""
        if self.owner.sends:
            return
        while self.files and self.files[0].finished and not self.files[0].path.exists():
            self._freed += self.files.popleft().size

    def _make_head(self) -> HeadFile:
        if head_path(self._directory, self.owner.writer_id).exists():
            # An earlier journal of this process that could not be emptied. Its files must not be touched.
            again = self.owner.writer_id
            self.owner = replace(self.owner, writer_id=new_writer_id(), parent_writer_id=again)
        owner, this = self.owner, this_writer(self.owner.writer_id)
        identity = Identity(
            writer_id=owner.writer_id,
            stream_id=owner.stream_id,
            run=owner.run,
            run_uid=owner.run_uid,
            root=owner.root,
            host=this.host,
            boot_id=this.boot_id,
            parent_writer_id=owner.parent_writer_id,
            pid=this.pid,
            start_ticks=this.start_ticks,
            created=time_ns(),
            rank=owner.rank,
            flags=FLAG_SENDER if owner.sends else 0,
        )
        return HeadFile.create(self._directory, identity, drains=owner.sends)

    def _refuse(self) -> None:
        if self._limits.when_full == "drop":
            with self.lock:
                self._count_drop()
            return
        raise JournalFullError(
            f"the journal in {self._directory} has {self._allocated - self._freed} bytes and no room: "
            f"no daemon took rows for {self._limits.block_seconds:g} s. Start one, make room on the disk, or "
            "raise RUND_JOURNAL_BYTES"
        )

    def _count_drop(self) -> None:
        self.dropped_rows += 1
        if self.head is not None:
            self.head.write_dropped(self.dropped_rows)


def _nobody() -> None:
    """There is no sender to wake."""


def _call_in_forked_children(method: WeakMethod[Callable[[], None]]) -> None:
    def in_child() -> None:
        bound = method()
        if bound is not None:
            bound()

    # Can't be undone: what stays behind for a journal that is gone is one dead reference.
    os.register_at_fork(after_in_child=in_child)
