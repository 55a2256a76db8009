"""The catalog: what is known of every run, table, segment and stream, and how far each is committed.

The only room that knows LMDB. Others read a `Snapshot`, and hand the writer functions of a `Change`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, TypeVar

from rund_daemon.failpoints import failpoint
from rund_daemon.model import FolderMove

from . import keys, shelves
from .building import CatalogBuild, build_catalog
from .environment import open_environment
from .examination import mark_closed
from .reserve import Reserve
from .run_values import fill_last_outputs, lacks_last_outputs
from .shelves import Shelf
from .transaction import Change, Snapshot
from .writer import AppendSink, CatalogWriter

__all__ = [
    "AppendSink",
    "Catalog",
    "CatalogBuild",
    "Change",
    "Mover",
    "Shelf",
    "Snapshot",
    "build_catalog",
    "keys",
    "shelves",
]

T = TypeVar("T")


class Mover(Protocol):
    """Carries out the folder moves of a committed transaction; doing one twice is the same as once."""

    def __call__(self, source: str, destination: str) -> None:
        """Moves a folder; both paths are relative to the root."""


class Catalog:
    """An open catalog with its writer thread."""

    def __init__(
        self, folder: Path, map_size: int, sink: AppendSink[Any], mover: Mover, reserve_bytes: int = 0
    ) -> None:
        """Opens the catalog and finishes the moves that an earlier daemon left undone.

        Args:
            folder: `<root>/catalog`.
            map_size: bytes of address space; a bound on the catalog's size.
            sink: where appends go.
            mover: carries out folder moves.
            reserve_bytes: disk space that is held back for deletions.

        Raises:
            StateError: it can't be opened, or was written by a newer version.
        """
        self._folder = folder
        self._environment, self._databases = open_environment(folder, map_size)
        self._mover = mover
        with self.snapshot() as snapshot:
            lacking = lacks_last_outputs(snapshot)
        if lacking:
            self.change_before_start(fill_last_outputs)
        reserve = Reserve(folder / "reserve", reserve_bytes)
        self._writer = CatalogWriter(self._environment, self._databases, sink, self._finish_moves, reserve)
        self._writer.settle_now()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to take work."""
        self._writer.start(loop)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Opens a view of this moment. Keep it short: never across an await or a slow reader."""
        with self._environment.begin() as txn:
            yield Snapshot(txn, self._databases)

    def submit(self, mutation: Callable[[Change], T], *, deletes: bool = False) -> asyncio.Future[T]:
        """Queues a mutation; the future is answered once it is durable. One that `deletes` works on a full disk too."""
        return self._writer.submit(mutation, deletes=deletes)

    def append(self, append: object) -> None:
        """Queues an append for the sink."""
        self._writer.append(append)

    def change_before_start(self, mutation: Callable[[Change], T]) -> T:
        """Carries out a mutation on the caller's thread. Only before `start`: recovery needs it."""
        with self._environment.begin(write=True) as txn:
            return mutation(Change(txn, self._databases))

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """Waits until all folders are where the catalog says. Blocks: for threads that read files alone.

        Whoever took a path from a snapshot and finds nothing there waits, takes a new snapshot, and looks again.
        """
        return self._writer.wait_until_settled(timeout_seconds)

    def check_readers(self) -> int:
        """Frees the slots of readers that died and gives their number."""
        return self._environment.reader_check()

    def close(self) -> None:
        """Commits what is queued, then closes. Blocks."""
        self._writer.close()
        self._environment.close()
        mark_closed(self._folder)

    def _finish_moves(self) -> None:
        """Carries out what committed transactions left to be done, and forgets it before going on.

        To repeat one move is harmless, its source is gone. To repeat a list is not: what a later move put in the
        place of an earlier one's source would be moved again. Only removals may be forgotten together.
        """
        for removals, moves in groupby(self._pending_moves(), lambda entry: not entry[1].destination):
            for batch in [list(moves)] if removals else [[move] for move in moves]:
                for _, move in batch:
                    failpoint("catalog.move_begun")
                    self._mover(move.source, move.destination)
                    failpoint("catalog.move_made")
                with self._environment.begin(write=True) as txn:
                    for key, _ in batch:
                        Change(txn, self._databases).delete(shelves.MOVES, key)

    def _pending_moves(self) -> Sequence[tuple[bytes, FolderMove]]:
        with self.snapshot() as snapshot:
            return list(snapshot.scan(shelves.MOVES))
