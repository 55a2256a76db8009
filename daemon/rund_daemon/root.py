"""Takes a root for one daemon: checks its file system, locks it, and tells clients where the daemon is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from .segments.layout import make_durable_folder, sync_folder

ADDRESS_FILE = "daemon.json"
LOCK_FILE = "daemon.lock"
ERROR_FILE = "daemon.error"

# Locks, mmap and fsync mean something else on these, and LMDB says that it must not be used on them.
_NETWORK_FILE_SYSTEMS = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "afs",
        "ceph",
        "glusterfs",
        "lustre",
        "beegfs",
        "gpfs",
        "ncpfs",
    }
)


class RootLockedError(Exception):
    """Another daemon owns the root."""


class RootUnusableError(Exception):
    """The root can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class RootLock:
    """The lock of a root. It lasts as long as the descriptor is open; the file is never removed."""

    descriptor: int

    def release(self) -> None:
        """Gives the root up."""
        os.close(self.descriptor)


def take_root(root: Path) -> RootLock:
    """Makes a root if it is not there and locks it.

    Raises:
        RootUnusableError: it lies on a network file system, or can't be written.
        RootLockedError: another daemon owns it.
    """
    try:
        make_durable_folder(root.parent)
        root.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(PermissionError):  # a folder that lets through and can't be read
            sync_folder(root.parent)
        _check_file_system(root)
        descriptor = os.open(root / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RootUnusableError(f"the root {root} can't be used: {error.strerror}; name another with --root") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise RootLockedError(_who_has(root)) from None
    return RootLock(descriptor)


def publish_address(root: Path, content: dict[str, object]) -> None:
    """Forgets an earlier error, and writes `daemon.json` so that a reader sees it whole."""
    (root / ERROR_FILE).unlink(missing_ok=True)
    temporary = root / f".{ADDRESS_FILE}.new"
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(root / ADDRESS_FILE)


def withdraw_address(root: Path) -> None:
    """Removes `daemon.json`."""
    (root / ADDRESS_FILE).unlink(missing_ok=True)


def report_failure(root: Path, message: str) -> None:
    """Leaves the reason of a failed start for the client that began it."""
    try:
        (root / ERROR_FILE).write_text(message + "\n")
    except OSError:
        # stderr has it too; a root that can't be written can't be told.
        return


def file_system_of(path: Path, mounts: str) -> str:
    """Gives the type of the file system that a path lies on, by the text of /proc/self/mounts."""
    best, found = "", ""
    real = str(path.resolve())
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, kind
    return found


def _check_file_system(root: Path) -> None:
    try:
        mounts = Path("/proc/self/mounts").read_text()
    except OSError:
        return
    kind = file_system_of(root, mounts)
    if kind in _NETWORK_FILE_SYSTEMS or kind.startswith("fuse.sshfs"):
        raise RootUnusableError(
            f"the root {root} lies on a network file system ({kind}), where a crash can lose data; "
            "name a folder on a local disk with --root, and copy runs elsewhere"
        )


def _who_has(root: Path) -> str:
    try:
        content = json.loads((root / ADDRESS_FILE).read_text())
        who = f"pid {content['pid']}, listening on {content['address']}"
    except (OSError, ValueError, KeyError, TypeError):
        who = "it is starting or stopping"
    return f"the root {root} is in use by another daemon ({who}); use that one, or name another root with --root"
