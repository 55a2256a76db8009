"""Makes the appended batches of a group durable: bytes first, then their records, then the answers.

Runs on the writer's thread. A fault of one table's files rejects that table's batches and leaves the others alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence

from rund_daemon.catalog import Change
from rund_daemon.errors import ExhaustedError, RundError, StorageError
from rund_daemon.failpoints import failpoint
from rund_daemon.model import Micros, Revision, Uid
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.space import SpaceFloor, is_full, no_space

from .appends import Append
from .table_files import TableFiles

logger = logging.getLogger(__name__)

# Each open table costs a file descriptor or more; the least recently written one is closed beyond this.
MAX_OPEN_TABLES = 256


class SegmentSink:
    """The `AppendSink` of the catalog's writer."""

    def __init__(
        self,
        layout: Layout,
        floor: SpaceFloor,
        clock: Callable[[], Micros],
        published: Callable[[Iterable[Uid], Iterable[Uid]], None],
    ) -> None:
        """Holds no file yet.

        Args:
            layout: the root.
            floor: of free space, below which rows are refused.
            clock: gives the time of a commit.
            published: called on the event loop with the tables that have new rows, and those worth sealing.
        """
        self._layout = layout
        self._floor = floor
        self._clock = clock
        self._published = published
        self._tables: dict[Uid, TableFiles] = {}
        self._staged: set[Uid] = set()
        # Segments whose sync has failed: what is committed of them is read, and rows go on in another file.
        self._doubted: dict[Uid, set[int]] = {}
        # Runs may have been renamed, deleted or sealed since a table was loaded, and each of these is a new revision.
        self._revision = Revision(-1)
        self._fresh: set[Uid] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sets the loop on which appends are answered."""
        self._loop = loop

    def release(self, table: Uid) -> None:
        """Forgets a table, because its files or its record are about to change. On the writer's thread only."""
        if files := self._tables.pop(table, None):
            files.close()

    def stage(self, txn: Change, appends: Sequence[Append]) -> None:
        """Writes and syncs the bytes of a group and puts their records."""
        self._staged.clear()
        if txn.revision != self._revision:
            self._revision = txn.revision
            self._fresh.clear()
        if appends and self._has_space(appends):
            for count, append in enumerate(appends, 1):
                self._plan(txn, append, appends[:count])
            for uid in list(self._staged):
                self._attempt(uid, appends, self._write)
            failpoint("sink.synced")
            for uid in self._staged:
                self._tables[uid].record(txn, self._clock())

    def committed(self, appends: Sequence[Append]) -> None:
        """Answers a group whose transaction is durable."""
        for uid in self._staged:
            self._tables[uid].keep()
        ripe = frozenset(uid for uid in self._staged if self._tables[uid].ripe)
        self._answer(appends, frozenset(self._staged), ripe)
        self._close_idle()

    def abandoned(self, appends: Sequence[Append], error: BaseException) -> None:
        """Answers a group whose transaction failed; its bytes are cut off when the tables are loaded again."""
        # All of them: they were loaded from what was not committed, and its revision will be another change's.
        self.close()
        self._revision = Revision(-1)
        self._staged.clear()
        for append in appends:
            append.error = append.error or error
        self._answer(appends, frozenset(), frozenset())

    def close(self) -> None:
        """Closes all files."""
        for uid in list(self._tables):
            self.release(uid)

    def _has_space(self, appends: Sequence[Append]) -> bool:
        try:
            self._floor.check(sum(append.size for append in appends))
        except ExhaustedError as error:
            for append in appends:
                append.error = error
            return False
        return True

    def _plan(self, txn: Change, append: Append, so_far: Sequence[Append]) -> None:
        try:
            if self._tables_entry(txn, append).plan(txn, append):
                self._staged.add(append.table)
        except RundError as error:
            append.error = error
        except OSError as error:
            self._reject(append.table, so_far, error)

    def _tables_entry(self, txn: Change, append: Append) -> TableFiles:
        uid = append.table
        files = self._tables.pop(uid, None)
        if files is not None and uid not in self._fresh and files.is_stale(txn):
            files.close()
            files = None
        self._fresh.add(uid)
        if files is None:
            doubted = self._doubted.get(uid, ())
            files = TableFiles.load(txn, self._layout, append.run, append.number, doubted)
        self._tables[uid] = files  # the last of the dict: recently used
        return files

    def _attempt(self, uid: Uid, appends: Sequence[Append], step: Callable[[TableFiles], None]) -> None:
        try:
            step(self._tables[uid])
        except OSError as error:
            self._reject(uid, appends, error)

    @staticmethod
    def _write(files: TableFiles) -> None:
        files.write()
        failpoint("sink.appended")
        files.sync()

    def _reject(self, uid: Uid, appends: Iterable[Append], error: OSError) -> None:
        logger.error("append_failed", extra={"table": uid.hex(), "error": str(error)})
        if files := self._tables.get(uid):
            self._doubted.setdefault(uid, set()).update(files.doubted)
            files.take_back()
        self.release(uid)
        self._staged.discard(uid)
        answer: BaseException = error
        if is_full(error):
            answer = no_space(0, self._floor.min_free_bytes)
        elif error.errno in StorageError.CAUSES:
            answer = StorageError()
        for append in appends:
            if append.table == uid:
                append.error = append.error or answer

    def _answer(self, appends: Sequence[Append], tables: frozenset[Uid], ripe: frozenset[Uid]) -> None:
        if appends and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, appends, tables, ripe)

    def _deliver(self, appends: Sequence[Append], tables: frozenset[Uid], ripe: frozenset[Uid]) -> None:
        for append in appends:
            append.answer(append.error)
        if tables:
            self._published(tables, ripe)

    def _close_idle(self) -> None:
        while len(self._tables) > MAX_OPEN_TABLES:
            self.release(next(iter(self._tables)))
