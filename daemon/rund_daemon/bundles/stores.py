"""Where bundles are put: a folder, or a place in an object store. Each takes files aside and publishes them at once.

Nothing that is not published is ever taken for a bundle: a folder gets its name when it is whole, and an object store
its `bundle.json` last. What a copy has put aside is found again by its id.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from rund_daemon.errors import CorruptError, ExhaustedError, ExistsError, NotFoundError, Reason, RundError
from rund_daemon.model import IfExists
from rund_daemon.progress import Progress
from rund_daemon.segments.space import is_full

from .manifest import FileEntry, Manifest

# A cancelled copy ends within the time that one of these takes.
CHUNK_BYTES = 4 * 1024 * 1024

URL_FIELD = "destination_url"


@dataclass(slots=True)
class Passed:
    """How many bytes of a copy are done. Tells the copy's progress."""

    progress: Progress
    total: int
    done: int = 0

    def add(self, size: int, path: str) -> None:
        """Counts bytes. Raises OperationCancelledError."""
        self.done += size
        self.progress.report(0.05 + 0.9 * min(1.0, self.done / max(self.total, 1)), path)


class Store(Protocol):
    """A place for one bundle."""

    @property
    def url(self) -> str:
        """Its URL."""

    def folder(self, copy_id: str) -> str:
        """Where the files of a copy lie in the bundle, once it is published."""

    def current(self) -> Manifest | None:
        """The manifest of the bundle that is there. Raises CorruptError."""

    def is_taken(self) -> bool:
        """Whether something is there that a new bundle would have to replace."""

    def check_free(self, if_exists: IfExists) -> None:
        """Raises ExistsError if what is there is in the way."""

    def add(self, copy_id: str, path: str, source: Path, passed: Passed, *, link: bool) -> FileEntry:
        """Puts a file aside. With `link` it never changes, and need not be copied."""

    def publish(self, manifest: Manifest, if_exists: IfExists) -> None:
        """Makes what was put aside the bundle, and removes the one that was there. Raises ExistsError."""

    def discard(self, copy_id: str) -> None:
        """Removes what a copy has put aside, or has left of a bundle that it replaced. Twice is the same as once."""

    def open(self, manifest: Manifest, path: str) -> BinaryIO:
        """Opens a file of the bundle for reading. Raises NotFoundError."""


def pour(source: BinaryIO, sink: BinaryIO | None, path: str, passed: Passed) -> FileEntry:
    """Copies a file, or only reads it, and gives its size and digest."""
    digest, size = hashlib.sha256(), 0
    while data := source.read(CHUNK_BYTES):
        digest.update(data)
        if sink is not None:
            sink.write(data)
        size += len(data)
        passed.add(len(data), path)
    return FileEntry(path, size, digest.hexdigest())


def taken(url: str) -> ExistsError:
    """The answer to who would put a bundle where something is."""
    return ExistsError(
        Reason.RUN_EXISTS,
        f"{URL_FIELD}: there is a bundle at {url}; name another place, or another if_exists",
        field=URL_FIELD,
    )


def in_the_way(url: str) -> ExistsError:
    """The answer to who would replace what is no bundle."""
    return ExistsError(
        Reason.RUN_EXISTS,
        f"{URL_FIELD}: what is at {url} is no bundle and is left alone; name another place, or remove it yourself",
        field=URL_FIELD,
    )


def missing(url: str, path: str) -> NotFoundError:
    """The answer to who reads a file that is not there."""
    return NotFoundError(Reason.RUN_NOT_FOUND, f"there is no {path} at {url}: it is no bundle, or was removed")


def damaged(url: str, path: str, what: str) -> CorruptError:
    """The answer to who reads a file that is not as it was written."""
    return CorruptError(f"{url}/{path} is damaged: {what}; copy the run again")


@contextmanager
def blaming(url: str) -> Iterator[None]:
    """Turns what an operating system or an object store says into an error that names the place."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise ExhaustedError(
                Reason.NO_SPACE, f"{URL_FIELD}: there is no room for it at {url}", field=URL_FIELD
            ) from error
        text = os.strerror(error.errno) if error.errno else str(error)
        raise RundError(
            Reason.STORAGE_FAILED,
            f"{url} could not be read or written: {text[:400]}; "
            "check its address and the daemon's credentials, and try again",
        ) from error
