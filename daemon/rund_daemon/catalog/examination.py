"""Finds out whether a catalog can be opened without the daemon dying of it.

LMDB maps its file and believes it: a torn one ends the process with SIGBUS, a page of garbage with SIGSEGV. So the two
pages that it begins with are checked always, by reading them; and after an unclean end every page is looked at by
a process that may die of it (`page_walk.py`). Such an end leaves the file `in-use`.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.errors import Reason, StateError

DATA_FILE = "data.mdb"
_IN_USE = "in-use"
_WALK = Path(__file__).with_name("page_walk.py")
_WALK_SECONDS = 600

# mdb.c: page header (number, pad, flags, lower, upper), then MDB_meta: magic, version, address, map size, two databases
# of 48 bytes, last page, transaction. The free list's first word is the page size.
_META = struct.Struct("<QHHHH II QQ I44x 48x QQ")
_MAGIC, _VERSION, _META_FLAG = 0xBEEFC0DE, 1, 0x08
_PAGE_SIZES = frozenset(1 << bits for bits in range(9, 16))


def damage_of(folder: Path) -> str:
    """Says what is wrong with a catalog; empty if nothing is, or if there is none yet.

    Args:
        folder: `<root>/catalog`. Nobody may have it open.
    """
    path = folder / DATA_FILE
    try:
        size = path.stat().st_size
        begin = _begin(path)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    if begin is None:
        return f"{path} does not begin as an LMDB file of rund does"
    # Pages that were taken and given back in one transaction are not written: the last may lie beyond a sound end.
    doubtful = size < begin.end or (folder / _IN_USE).exists()
    return _walk(folder) if doubtful else ""


def check_catalog(folder: Path) -> None:
    """Refuses a damaged catalog.

    Raises:
        StateError: it names the file and what to do.
    """
    if wrong := damage_of(folder):
        raise StateError(
            Reason.WRONG_STATE,
            f"{wrong}. The runs' own files are not touched by that: stop here, and make the catalog again of them with "
            f"`rund fsck --rebuild --root {folder.parent}`; this one is kept aside",
        )


def mark_in_use(folder: Path) -> None:
    """Notes that a process has the catalog open."""
    with suppress(OSError):  # on a full disk a later start looks at the first pages only
        (folder / _IN_USE).touch(mode=0o600)


def mark_closed(folder: Path) -> None:
    """Notes that it was closed as it should be."""
    with suppress(OSError):
        (folder / _IN_USE).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Begin:
    """The newer of the two first pages: its transaction, and where the last page that was ever taken ends."""

    transaction: int
    end: int


def _begin(path: Path) -> _Begin | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = _read_meta(os.pread(descriptor, _META.size, 0))
        second = _read_meta(os.pread(descriptor, _META.size, first[0])) if first else None
    finally:
        os.close(descriptor)
    if first is None or second is None or first[0] != second[0]:
        return None
    page_size, transaction, last_page = max(first, second, key=lambda meta: meta[1])
    return _Begin(transaction, (last_page + 1) * page_size)


def _read_meta(data: bytes) -> tuple[int, int, int] | None:
    """Page size, number of the transaction and last page, of one of the two first pages; None if it is none."""
    if len(data) < _META.size:
        return None
    _, _, flags, _, _, magic, version, _, _, page_size, last_page, transaction = _META.unpack(data)
    if magic != _MAGIC or version != _VERSION or not flags & _META_FLAG or page_size not in _PAGE_SIZES:
        return None
    return page_size, transaction, last_page


def _walk(folder: Path) -> str:
    command = [sys.executable, "-I", str(_WALK), str(folder)]
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter and a script of ours
            command, capture_output=True, text=True, timeout=_WALK_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{folder / DATA_FILE} is damaged: reading it does not come to an end"
    if done.returncode < 0:
        return f"{folder / DATA_FILE} is damaged: reading it ends in signal {-done.returncode}"
    if done.returncode:
        reason = (done.stdout.strip() or done.stderr.strip()).splitlines()[-1:]
        return f"{folder / DATA_FILE} is damaged: {''.join(reason)[:300]}"
    return ""
