"""Looks at every page of a catalog. A script of its own that imports nothing of rund's: it may die of what it reads.

Exits with 0 if every entry of every database is there; with 1 and a line that says why not; or by a signal.
"""

from __future__ import annotations

import sys
from itertools import islice

import lmdb

# More address space than any catalog takes: a greater page number is wrong. It costs nothing.
_MAP_BYTES = 1 << 40


def walk(folder: str) -> None:
    """Reads all entries, and has the free pages read too.

    Raises:
        lmdb.Error: a page is not what it should be.
        ValueError: a database holds another number of entries than it says.
    """
    with lmdb.Environment(
        folder, map_size=_MAP_BYTES, max_dbs=128, create=False, lib_version=0, readonly=False
    ) as environment:
        with environment.begin() as txn, txn.cursor() as cursor:
            names = [bytes(key) for key, _ in islice(cursor.iternext(), 128)]
        for name in names:
            database = environment.open_db(name, create=False)
            with environment.begin() as txn:
                entries = txn.stat(database)["entries"]
                with txn.cursor(db=database) as cursor:
                    # A page that points back would be read for ever.
                    found = sum(1 for _ in islice(cursor.iternext(), entries + 1))
            if found != entries:
                raise ValueError(f"database {name.decode(errors='replace')!r} says {entries} entries and has others")
        with environment.begin(write=True) as txn:
            # Taking a page reads the list of the free ones.
            txn.put(b"\0page_walk", bytes(8192))
            txn.abort()


if __name__ == "__main__":
    try:
        walk(sys.argv[1])
    except (lmdb.Error, ValueError) as error:
        sys.stdout.write(f"{error}\n")
        sys.exit(1)
