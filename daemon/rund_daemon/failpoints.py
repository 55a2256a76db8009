"""Named points at which a test has the daemon die, stand still, or meet a disk that fails or is slow.

`RUND_FAILPOINTS="sink.synced=kill@3, segment.sync=eio"`: at the third time that the point is reached the process gets
SIGKILL; every sync of a segment fails. `segment.sync=sleep:200` has each take 200 ms longer. Without the variable,
which is read once, a point is an empty call.

A point is `room.moment`, and its name says what has just been done, or, where it may fail, what comes next.
"""

from __future__ import annotations

import errno
import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

FAILPOINTS = frozenset(
    {
        "sink.appended",  # a group's bytes are with the kernel
        "segment.sync",  # a segment is about to be synced
        "sink.synced",  # a group's bytes are durable, and no commit knows them
        "staging.checked",  # a staged file is whole and durable, and not queued
        "placing.moved",  # a staged file lies in its table's folder, and its entry is not durable
        "segment.created",  # an open segment has its file, whose entry is not durable
        "catalog.staged",  # a transaction is whole and about to be committed
        "catalog.committed",  # it is durable, and nobody has been answered
        "catalog.move_begun",  # a committed move of a folder or file is about to be made
        "catalog.move_made",  # it is made, and not forgotten yet
        "catalog.settled",  # all moves of a group are made
        "sealing.closed",  # a table's open segments take no more rows
        "seal.written",  # a sealed file is durable under its temporary name
        "seal.renamed",  # it has its name, whose entry is not durable
        "sealing.written",  # it is durable, and no commit knows it
        "sealing.exchanged",  # the records name it in place of what it replaces
        "file.written",  # a small file is durable under its temporary name
        "file.renamed",  # it has its name, whose entry is not durable
        "snapshots.written",  # run.json files are written, and the catalog still lists them
        "copying.copied",  # a copy's files are there, and no commit knows them
        "copying.published",  # the copy is a run
        "bundle.captured",  # a state of a run is set aside for a bundle
        "bundle.file_written",  # one more of its files is at its destination
        "bundle.manifest_written",  # a folder is a whole bundle, and does not have its name
        "bundle.published",  # it has its name, and what it replaced is there still
        "bundle.objects_written",  # all of its files are in an object store, and nothing points to them
        "bundle.objects_published",  # its manifest does, and what it replaced is there still
        "importing.taken",  # a bundle's files are there, and no commit knows them
        "importing.published",  # it is a run
        "collecting.begun",  # a run in trash can't be found or restored any more
        "collecting.some",  # some of what is kept for its tables is forgotten
        "collecting.removed",  # its files are gone, and the catalog still says that this goes on
        "reducing.staged",  # a job has hold of the files that it reads
        "reducing.made",  # its tables and models are written, and no commit knows them
        "reducing.published",  # they are in place, and what replaced what is in trash
        "reducing.source_forgotten",  # a replaced table in trash can't be restored any more
        "recovery.cut",  # a start has cut a segment back
        "recovery.link_removed",  # it has removed a segment that was never committed
        "recovery.done",  # it has brought the files in line
        "drain.told",  # a stop has told all who wait
        "drain.ended",  # all calls have ended
        "drain.sealed",  # all is sealed
        "drain.closed",  # the catalog is closed
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


def _sleep(milliseconds: int) -> Callable[[], None]:
    return lambda: time.sleep(milliseconds / 1000)


_ACTIONS = {"kill": _kill, "hang": _hang, "eio": _fail(errno.EIO), "enospc": _fail(errno.ENOSPC)}


def _parse(text: str) -> dict[str, _Armed]:
    armed = {}
    for item in text.split(","):
        name, _, what = item.strip().partition("=")
        word, _, at = what.partition("@")
        kind, _, milliseconds = word.partition(":")
        action = _sleep(int(milliseconds)) if kind == "sleep" and milliseconds.isdecimal() else _ACTIONS.get(word)
        if name not in FAILPOINTS or action is None:
            # One that is misspelt would have a test pass that tests nothing.
            raise ValueError(
                f"RUND_FAILPOINTS: {item.strip()!r} is not NAME=ACTION[@TIME] of a failpoint that there is"
            )
        armed[name] = _Armed(action, int(at or 0))
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


failpoint = armed(os.environ.get("RUND_FAILPOINTS"))
