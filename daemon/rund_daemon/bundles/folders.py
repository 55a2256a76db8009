"""Bundles in folders. A bundle is made beside its place and gets its name by a rename."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import BinaryIO

from rund_daemon.failpoints import failpoint
from rund_daemon.model import IfExists
from rund_daemon.segments.layout import make_durable_folder, sync_folder, write_durable_file
from rund_daemon.segments.space import SpaceFloor

from .manifest import MANIFEST, FileEntry, Manifest, read_manifest
from .stores import Passed, blaming, in_the_way, missing, pour, taken

_PREFIX = ".rund-copy-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class FolderStore:
    """A folder of this host."""

    def __init__(self, path: Path, min_free_bytes: int) -> None:
        self._path = path
        self._min_free_bytes = min_free_bytes

    @property
    def url(self) -> str:
        """Its path."""
        return str(self._path)

    @staticmethod
    def folder(_copy_id: str) -> str:
        """Its files lie beside the manifest."""
        return ""

    def current(self) -> Manifest | None:
        """The manifest of the bundle that is there."""
        with blaming(self.url):
            try:
                return read_manifest((self._path / MANIFEST).read_bytes(), self.url)
            except (FileNotFoundError, NotADirectoryError):
                return None

    def is_taken(self) -> bool:
        """Whether anything but an empty folder is there."""
        there = os.path.lexists(self._path)
        return there and not (self._path.is_dir() and not any(self._path.iterdir()))

    def check_free(self, if_exists: IfExists) -> None:
        """Raises ExistsError if what is there is in the way."""
        if not self.is_taken():
            return
        if not (self._path / MANIFEST).is_file():
            raise in_the_way(self.url)
        if if_exists is not IfExists.OVERWRITE:
            raise taken(self.url)

    def add(self, copy_id: str, path: str, source: Path, passed: Passed, *, link: bool) -> FileEntry:
        """Puts a file aside: linked if that can be, else copied."""
        target = self._aside(copy_id) / path
        with source.open("rb") as file, blaming(self.url):
            make_durable_folder(target.parent)
            if link and _link(source, target):
                return pour(file, None, path, passed)
            SpaceFloor(target.parent, self._min_free_bytes).check(os.fstat(file.fileno()).st_size)
            with target.open("xb") as sink:
                entry = pour(file, sink, path, passed)
                sink.flush()
                os.fsync(sink.fileno())
                return entry

    def publish(self, manifest: Manifest, if_exists: IfExists) -> None:
        """Gives the folder its name."""
        aside = self._aside(manifest.copy_id)
        with blaming(self.url):
            for folder, _, _ in os.walk(aside):
                sync_folder(Path(folder))
            write_durable_file(aside / MANIFEST, manifest.to_bytes())
            failpoint("bundle.manifest_written")
            self.check_free(if_exists)
            self._put(aside)
            failpoint("bundle.published")
            sync_folder(self._path.parent)
        self.discard(manifest.copy_id)

    def discard(self, copy_id: str) -> None:
        """Removes what a copy has put aside."""
        aside = self._aside(copy_id)
        old = _old(aside)
        if old.exists() and not self._path.exists():
            old.rename(self._path)
        for folder in (aside, old):
            shutil.rmtree(folder, ignore_errors=True)

    def open(self, manifest: Manifest, path: str) -> BinaryIO:
        """Opens a file of the bundle."""
        with blaming(self.url):
            try:
                return (self._path / manifest.folder / path).open("rb")
            except (FileNotFoundError, NotADirectoryError):
                raise missing(self.url, path) from None

    def _aside(self, copy_id: str) -> Path:
        return self._path.parent / f"{_PREFIX}{copy_id}"

    def _put(self, aside: Path) -> None:
        try:
            # Takes the place of an empty folder, too.
            aside.rename(self._path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if not _exchange(aside, self._path):
                # A file system without an atomic exchange: for an instant there is nothing under the name.
                self._path.rename(_old(aside))
                aside.rename(self._path)


def _old(aside: Path) -> Path:
    return aside.with_name(f"{aside.name}-old")


def _link(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:
        return False  # another file system, one without hard links, or too many of this file
    return True


def _exchange(a: Path, b: Path) -> bool:
    """Exchanges two folders atomically; False where that can't be done."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):
        return False
    if libc.renameat2(_AT_FDCWD, os.fsencode(a), _AT_FDCWD, os.fsencode(b), _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL):
        return False
    raise OSError(code, os.strerror(code), str(b))
