"""Opens the LMDB environment of a root and checks its format.

The 0.9 format with default sync and without writemap: the only mode that survives a loss of power soundly, and that
answers a full disk with an error instead of SIGBUS. The map is reserved once and large; it costs address space, not
disk.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb

from rund_daemon.errors import Reason, StateError

from .examination import check_catalog, mark_in_use
from .keys import u32
from .shelves import SHELVES

if TYPE_CHECKING:
    from .transaction import Databases

FORMAT = 1
"""Version of the key tree and the records. A catalog of a greater one is refused."""

MAX_READERS = 512
_FORMAT_KEY = b"format"


def open_environment(folder: Path, map_size: int) -> tuple[lmdb.Environment, Databases]:
    """Opens or makes the catalog in a folder.

    Args:
        folder: `<root>/catalog`.
        map_size: bytes of address space; a bound on the catalog's size.

    Raises:
        StateError: it is damaged, can't be opened, or was written by a newer version.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_catalog(folder)
    mark_in_use(folder)
    try:
        return _open(folder, map_size)
    except lmdb.Error as error:
        raise StateError(Reason.WRONG_STATE, f"{folder}: {error}; is it a catalog of rund, and whole?") from error


def _open(folder: Path, map_size: int) -> tuple[lmdb.Environment, Databases]:
    environment = lmdb.Environment(
        str(folder),
        map_size=map_size,
        max_dbs=len(SHELVES) + 8,
        max_readers=MAX_READERS,
        mode=0o600,
        lib_version=0,
        # Reads come from a few threads; keeping their transactions spares a lock each.
        max_spare_txns=8,
    )
    databases = {shelf.name: environment.open_db(shelf.name.encode()) for shelf in SHELVES}
    _check_format(environment, databases)
    # LMDB syncs what is in its files. That they are there at all is another thing, which a loss of power can take back.
    for named_in in (folder, folder.parent):
        _sync_names(named_in)
    environment.reader_check()
    return environment, databases


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_format(environment: lmdb.Environment, databases: Databases) -> None:
    meta = databases["meta"]
    with environment.begin(write=True) as txn:
        found = txn.get(_FORMAT_KEY, db=meta)
        if found is None:
            txn.put(_FORMAT_KEY, u32(FORMAT), db=meta)
        elif int.from_bytes(found, "big") > FORMAT:
            version = int.from_bytes(found, "big")
            raise StateError(
                Reason.WRONG_STATE,
                f"the catalog has format {version} and this version of rund reads up to {FORMAT}; use a newer rund",
            )
