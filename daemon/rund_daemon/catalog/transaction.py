"""Typed access to one LMDB transaction.

A `Snapshot` sees one moment of the catalog and must be short-lived: a reader that stays open keeps every page it can
see from being used again. A `Change` belongs to the writer's thread alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from rund_daemon.errors import CorruptError
from rund_daemon.model import Revision

from . import keys
from .shelves import META, Shelf

if TYPE_CHECKING:
    import lmdb

    Databases = Mapping[str, lmdb._Database]  # noqa: SLF001  # py-lmdb has no public name for it

T = TypeVar("T")


class Snapshot:
    """Reads the catalog as it was at one moment."""

    def __init__(self, txn: lmdb.Transaction[bytes], databases: Databases) -> None:
        self._txn = txn
        self._databases = databases

    def get(self, shelf: Shelf[T], key: bytes) -> T | None:
        """Gives the value of a key, or None."""
        data = self._txn.get(key, db=self._databases[shelf.name])
        return None if data is None else _decode(shelf, data)

    def has(self, shelf: Shelf[T], key: bytes) -> bool:
        """Says whether there is a key, without decoding its value."""
        return self._txn.get(key, db=self._databases[shelf.name]) is not None

    def count(self, shelf: Shelf[T]) -> int:
        """Gives the number of keys on a shelf, at once."""
        return int(self._txn.stat(self._databases[shelf.name])["entries"])

    def scan(
        self, shelf: Shelf[T], prefix: bytes = b"", *, start: bytes = b"", reverse: bool = False
    ) -> Iterator[tuple[bytes, T]]:
        """Gives the entries whose keys begin with `prefix`, in the order of their keys.

        Args:
            shelf: where to look.
            prefix: how the keys begin.
            start: the first key to give if it is there; with `reverse`, the first one below it is given first.
            reverse: from the last key down.
        """
        with self._txn.cursor(db=self._databases[shelf.name]) as cursor:
            if not prefix and not start and not reverse:
                # The whole shelf, in half the time.
                for key, value in cursor:
                    yield key, shelf.decode(value)
                return
            found = _seek_last(cursor, prefix, start) if reverse else cursor.set_range(start or prefix)
            step = cursor.prev if reverse else cursor.next
            while found and cursor.key().startswith(prefix):
                yield cursor.key(), _decode(shelf, cursor.value())
                found = step()

    def last(self, shelf: Shelf[T], prefix: bytes = b"") -> tuple[bytes, T] | None:
        """Gives the entry with the greatest key that begins with `prefix`."""
        return next(self.scan(shelf, prefix, reverse=True), None)

    @property
    def revision(self) -> Revision:
        """The newest revision of the root."""
        kept = self.get(META, keys.REVISION)
        return Revision(int.from_bytes(kept, "big") if kept else 0)


class Change(Snapshot):
    """A transaction that writes. Nothing of it is seen before it is committed, and all of it is then."""

    def put(self, shelf: Shelf[T], key: bytes, value: T) -> None:
        """Sets the value of a key."""
        self._txn.put(key, shelf.encode(value), db=self._databases[shelf.name])

    def delete(self, shelf: Shelf[T], key: bytes) -> bool:
        """Removes a key and says whether it was there."""
        return self._txn.delete(key, db=self._databases[shelf.name])

    def delete_all(self, shelf: Shelf[T], prefix: bytes, at_most: int | None = None) -> int:
        """Removes every key that begins with `prefix`, or the first of them, and gives their number."""
        deleted = 0
        with self._txn.cursor(db=self._databases[shelf.name]) as cursor:
            found = cursor.set_range(prefix)
            while found and cursor.key().startswith(prefix) and deleted != at_most:
                # Deleting leaves the cursor on the key that follows.
                found = cursor.delete() and cursor.key() != b""
                deleted += 1
        return deleted

    def next_revision(self) -> Revision:
        """Takes the next place in the order of all changes."""
        revision = Revision(self.revision + 1)
        self.put(META, keys.REVISION, keys.u64(revision))
        return revision


def _decode(shelf: Shelf[T], data: bytes) -> T:
    try:
        return shelf.decode(data)
    except Exception as error:  # whatever garbage provokes
        raise CorruptError(
            f"the catalog holds a record in {shelf.name!r} that can't be read ({type(error).__name__}); stop the "
            "daemon, and make the catalog again of the runs' files with `rund fsck --rebuild`"
        ) from error


def _seek_last(cursor: lmdb.Cursor[bytes], prefix: bytes, start: bytes) -> bool:
    beyond = start or _after(prefix)
    if beyond is None or not cursor.set_range(beyond):
        return cursor.last()
    return cursor.prev()


def _after(prefix: bytes) -> bytes | None:
    """The least key that is greater than every key with this prefix; None if there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None
