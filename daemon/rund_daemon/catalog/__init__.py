"""The catalog: what is known of every run, table, segment and stream, and how far each is committed.

The only room that knows LMDB. Others read a `Snapshot`, and hand the writer functions of a `Change`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from . import keys, shelves
from .environment import open_environment
from .shelves import Shelf
from .transaction import Change, Snapshot
from .writer import AppendSink, CatalogWriter

__all__ = ["AppendSink", "Catalog", "Change", "Mover", "Shelf", "Snapshot", "keys", "shelves"]

T = TypeVar("T")


class Mover(Protocol):
    """Carries out the folder moves of a committed transaction; doing one twice is the same as once."""

    def __call__(self, source: str, destination: str) -> None:
        """Moves a folder; both paths are relative to the root."""


class Catalog:
    """An open catalog with its writer thread."""

    def __init__(self, folder: Path, map_size: int, sink: AppendSink[Any], mover: Mover) -> None:
        """Opens the catalog and finishes the moves that an earlier daemon left undone."""
        self._environment, self._databases = open_environment(folder, map_size)
        self._mover = mover
        self._listeners: list[Callable[[], None]] = []
        self._writer = CatalogWriter(self._environment, self._databases, sink, self._finish_moves)
        self._finish_moves()

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts to take work."""
        self._writer.start(loop)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """Opens a view of this moment. Keep it short: never across an await or a slow reader."""
        with self._environment.begin() as txn:
            yield Snapshot(txn, self._databases)

    def submit(self, mutation: Callable[[Change], T]) -> asyncio.Future[T]:
        """Queues a mutation; the future is answered once it is durable."""
        return self._writer.submit(mutation)

    def append(self, append: object) -> None:
        """Queues an append for the sink."""
        self._writer.append(append)

    def change_before_start(self, mutation: Callable[[Change], T]) -> T:
        """Carries out a mutation on the caller's thread. Only before `start`: recovery needs it."""
        with self._environment.begin(write=True) as txn:
            return mutation(Change(txn, self._databases))

    def check_readers(self) -> int:
        """Frees the slots of readers that died and gives their number."""
        return self._environment.reader_check()

    def close(self) -> None:
        """Commits what is queued, then closes. Blocks."""
        self._writer.close()
        self._environment.close()

    def _finish_moves(self) -> None:
        moves = self._pending_moves()
        if not moves:
            return
        for _, move in moves:
            self._mover(move.source, move.destination)
        with self._environment.begin(write=True) as txn:
            change = Change(txn, self._databases)
            for key, _ in moves:
                change.delete(shelves.MOVES, key)

    def _pending_moves(self) -> Sequence[tuple[bytes, Any]]:
        with self.snapshot() as snapshot:
            return list(snapshot.scan(shelves.MOVES))
