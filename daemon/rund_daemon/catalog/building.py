"""Builds a catalog beside the one that is there, and puts it in its place."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rund_daemon.model import Micros

from .environment import open_environment
from .examination import mark_closed
from .transaction import Change

if TYPE_CHECKING:
    import lmdb

    from .transaction import Databases

_DATA, _LOCK = "data.mdb", "lock.mdb"
# A transaction is synced: one for each run would cost more than all that is in it.
_GROUP = 256


class CatalogBuild:
    """A catalog that is being built."""

    def __init__(self, folder: Path, staging: Path, map_size: int, now: Micros) -> None:
        self._folder = folder
        self._staging = staging
        self._now = now
        self._environment: lmdb.Environment
        self._databases: Databases
        self._environment, self._databases = open_environment(staging, map_size)
        self._changes: list[Callable[[Change], None]] = []

    def change(self, mutation: Callable[[Change], None]) -> None:
        """Has something put in."""
        self._changes.append(mutation)
        if len(self._changes) == _GROUP:
            self._commit()

    def publish(self) -> Path | None:
        """Puts the catalog in its place, and gives the folder in which the old one is kept."""
        self._commit()
        self._environment.close()
        kept = _keep_aside(self._folder, self._now)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # One rename: there is never a moment without a catalog, in which a start would make an empty one.
        (self._staging / _DATA).rename(self._folder / _DATA)
        mark_closed(self._folder)
        _sync(self._folder)
        _sync(self._folder.parent)
        return kept

    def close(self) -> None:
        """Removes what was not published."""
        self._environment.close()
        shutil.rmtree(self._staging, ignore_errors=True)

    def _commit(self) -> None:
        changes, self._changes = self._changes, []
        with self._environment.begin(write=True) as txn:
            for change in changes:
                change(Change(txn, self._databases))


@contextmanager
def build_catalog(folder: Path, map_size: int, now: Micros) -> Iterator[CatalogBuild]:
    """Begins a catalog that will take the place of the one in a folder, sound or not, there or not.

    Nobody may have that one open.
    """
    staging = folder.with_name(f"{folder.name}.new")
    # What a rebuild that died has left: it never held anything of its own.
    shutil.rmtree(staging, ignore_errors=True)
    build = CatalogBuild(folder, staging, map_size, now)
    try:
        yield build
    finally:
        build.close()


def _keep_aside(folder: Path, now: Micros) -> Path | None:
    """Gives the old data a second name in a folder beside, and moves the lock file, which is made anew."""
    if not (folder / _DATA).exists():
        return None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now / 1_000_000))
    number, kept = 0, folder.with_name(f"{folder.name}.lost-{stamp}")
    while kept.exists():
        number += 1
        kept = folder.with_name(f"{folder.name}.lost-{stamp}-{number}")
    kept.mkdir(mode=0o700)
    try:
        os.link(folder / _DATA, kept / _DATA)
    except OSError:
        shutil.copy2(folder / _DATA, kept / _DATA)  # a file system without hard links
    if (folder / _LOCK).exists():
        (folder / _LOCK).rename(kept / _LOCK)
    _sync(kept)
    _sync(kept.parent)
    return kept


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
