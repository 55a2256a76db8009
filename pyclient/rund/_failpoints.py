"""Named points at which a test has a client process die, stand still, or meet a disk that fails.

``RUND_CLIENT_FAILPOINTS="sender.cut_written=kill@3"``: at the third time that the point is reached the process gets
SIGKILL. Without the variable, which is read once, a point is an empty call; none lies on the short way of ``log``. An
adopter that a daemon begins inherits the daemon's.

A point is ``room.moment``, and its name says what has just been done.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

FAILPOINTS = frozenset(
    {
        "journal.head_mapped",  # a head has its file, under its temporary name
        "journal.head_made",  # the head is whole
        "journal.file_made",  # a data file is allocated, and no part of the journal yet
        "journal.file_finished",  # the last file is ended, and the next one not begun
        "journal.file_begun",  # a data file has its head
        "journal.file_freed",  # a file whose rows are acknowledged is removed
        "journal.closed",  # no row will follow
        "journal.file_removed",  # a data file of a journal that is done with is removed
        "journal.head_removed",  # its head is removed, too
        "staging.written",  # a file of batches is there, and the daemon has not been told
        "sender.cut_written",  # it is written down which rows a batch holds, and the batch is not sent
        "sender.sent",  # the batch is with the stream
        "sender.acked",  # it is acknowledged, and the cursor does not say so
        "sender.cursor_written",  # the cursor says so
        "adoption.taken",  # a left journal is locked by its adopter
        "adoption.cut_written",  # as the sender's
        "adoption.sent",
        "adoption.acked",
        "adoption.cursor_written",
        "adoption.drained",  # all rows are acknowledged, and the files are there
        "adoption.file_removed",
        "adoption.head_removed",
    }
)
"""All names. A test compares them with the places in the code."""


@dataclass
class _Armed:
    """One point that does something.

    Attributes:
        action: what it does.
        at: only at this time that it is reached; 0 means every time.
    """

    action: Callable[[], None]
    at: int
    count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def reach(self) -> None:
        if next(self.count) == self.at or not self.at:
            self.action()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _hang() -> None:
    """Holds this thread for ever."""
    threading.Event().wait()


def _fail(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


_ACTIONS = {"kill": _kill, "hang": _hang, "eio": _fail(errno.EIO), "enospc": _fail(errno.ENOSPC)}


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for item in text.split(","):
        name, _, what = item.strip().partition("=")
        action, _, at = what.partition("@")
        if name not in FAILPOINTS or action not in _ACTIONS:
            # One that is misspelt would have a test pass that tests nothing.
            raise ValueError(f"RUND_CLIENT_FAILPOINTS: {item.strip()!r} is not NAME=ACTION[@TIME] of a failpoint")
        armed[name] = _Armed(_ACTIONS[action], int(at or 0))
    return armed


def armed(text: str | None) -> Callable[[str], None]:
    """Makes the function that code calls at its points, of what the variable says.

    Raises:
        ValueError: it names no failpoint or no action.
    """
    if not text:
        return lambda _: None
    points = _parse(text)

    def reach(name: str) -> None:
        if point := points.get(name):
            point.reach()

    return reach


failpoint = armed(os.environ.get("RUND_CLIENT_FAILPOINTS"))
