"""A folder that appears at once, whole, or not at all: it is made under another name and then renamed."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".rund-export-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def published(final: Path, top: Path) -> Iterator[Path]:
    """Gives a folder to write into; it gets its name when the block ends well. What bore the name before is removed.

    Args:
        final: the name.
        top: an ancestor of it on the same file system, where the folder is made. What a killed export has left there
            is removed.
    """
    top.mkdir(parents=True, exist_ok=True)
    _remove_left(top)
    staging = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=top))
    lock = _lock(staging)
    try:
        assert lock is not None
        work = staging / "new"
        work.mkdir()
        yield work
        _sync(work)
        final.parent.mkdir(parents=True, exist_ok=True)
        _put(work, final)
        _sync_folder(final.parent)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _remove_left(top: Path) -> None:
    for left in top.glob(f"{_PREFIX}*"):
        # The lock of a process that was killed is free.
        if (lock := _lock(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(lock)


def _lock(folder: Path) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _put(work: Path, final: Path) -> None:
    if not final.exists():
        work.rename(final)
        return
    if not _exchange(work, final):
        # A file system without an atomic exchange: for an instant there is nothing under the name.
        final.rename(work.with_name("old"))
        work.rename(final)


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


def _sync(folder: Path) -> None:
    for path, _, names in os.walk(folder):
        for name in names:
            with (Path(path) / name).open("rb") as file:
                os.fsync(file.fileno())
        _sync_folder(Path(path))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
