"""The one thread that writes: commits whatever has gathered while the last commit was syncing.

Two kinds of work come to it. A `mutation` is a function of a transaction: it checks and writes, and its own child
transaction keeps what it wrote apart until it has returned. An `append` is bytes that must be durable before the
transaction that names them; the sink, which knows files, stages all appends of a group together. Order is always: bytes
durable, catalog commit, answer.

A py-lmdb write transaction belongs to the thread that opened it, so everything below `_run` is that thread's alone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import lmdb

from rund_daemon.errors import DrainingError, ExhaustedError, Reason, StorageError
from rund_daemon.failpoints import failpoint

from .reserve import Reserve
from .shelves import MOVES
from .transaction import Change

if TYPE_CHECKING:
    from .transaction import Databases

logger = logging.getLogger(__name__)

T = TypeVar("T")
A_contra = TypeVar("A_contra", contravariant=True)

# Bounds how long the first of a group waits for the last; a commit of this many costs milliseconds.
MAX_GROUP = 512

# A file system with less than this is full, whatever else it says.
_FULL_BYTES = 1024 * 1024


class AppendSink(Protocol[A_contra]):
    """Makes appended bytes durable. Called on the writer's thread only."""

    def stage(self, txn: Change, appends: Sequence[A_contra]) -> None:
        """Writes and syncs the bytes of a group and puts their records. Rejects single appends by itself."""

    def committed(self, appends: Sequence[A_contra]) -> None:
        """The group's transaction is durable."""

    def abandoned(self, appends: Sequence[A_contra], error: BaseException) -> None:
        """The group's transaction is not: cut the files back and reject every append."""


@dataclass(slots=True)
class _Mutation(Generic[T]):
    apply: Callable[[Change], T]
    future: asyncio.Future[T]
    deletes: bool
    result: T | None = None
    error: BaseException | None = None


class CatalogWriter:
    """Owns LMDB's write transaction and the order of all commits."""

    def __init__(
        self,
        environment: lmdb.Environment,
        databases: Databases,
        sink: AppendSink[Any],
        settle: Callable[[], None],
        reserve: Reserve,
    ) -> None:
        """Does not start the thread yet.

        Args:
            environment: the open catalog.
            databases: its databases by name.
            sink: where appends go.
            settle: carries out what committed transactions left to be done to folders. Called on this thread after such
                a commit, before anyone is answered. While it fails nothing more is committed.
            reserve: space that is kept for deletions.
        """
        self._environment = environment
        self._databases = databases
        self._sink = sink
        self._settle = settle
        self._reserve = reserve
        self._settled = threading.Event()
        self._settled.set()
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="rund-writer", daemon=True)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Starts the thread; answers are given on this loop."""
        self._loop = loop
        self._thread.start()

    def settle_now(self) -> None:
        """Carries out what an earlier daemon left to be done. Only before `start`."""
        self._settled.clear()
        self._try_to_settle()

    def submit(self, apply: Callable[[Change], T], *, deletes: bool = False) -> asyncio.Future[T]:
        """Queues a mutation. The future gives its result once it is durable, or the error that it raised.

        Args:
            apply: checks and writes.
            deletes: whether it may use the space that is kept for deletions.
        """
        assert self._loop is not None
        future: asyncio.Future[T] = self._loop.create_future()
        if self._closing:
            future.set_exception(DrainingError())
        else:
            self._queue.put(_Mutation(apply, future, deletes))
        return future

    def append(self, append: object) -> None:
        """Queues an append; the sink answers it. Appends of one caller are staged in the order of their calls."""
        self._queue.put(append)

    def wait_until_settled(self, timeout_seconds: float) -> bool:
        """Waits until all folders are where the catalog says, and says whether they are. Blocks."""
        return self._settled.wait(timeout_seconds)

    def close(self) -> None:
        """Commits what is queued and ends the thread. Blocks; call it off the event loop."""
        self._closing = True
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        ending = False
        while not ending:
            group = [self._queue.get()]
            while len(group) < MAX_GROUP and not self._queue.empty():
                group.append(self._queue.get())
            ending = None in group
            mutations = [item for item in group if isinstance(item, _Mutation)]
            appends = [item for item in group if item is not None and not isinstance(item, _Mutation)]
            if mutations or appends:
                held = self._commit(mutations, appends)
                if held:
                    self._commit([], held)

    def _commit(self, mutations: list[_Mutation[Any]], appends: list[Any]) -> list[Any]:
        """Commits a group, and gives the appends that must wait for the folders that its mutations move."""
        if not self._reserve.take():
            mutations = self._only_deletions(mutations, self._no_space())
        moving = False
        held: list[Any] = []
        try:
            self._settle_if_needed()
            with self._environment.begin(write=True) as txn:
                for mutation in mutations:
                    self._apply(txn, mutation)
                change = Change(txn, self._databases)
                moving = change.count(MOVES) > 0
                if moving:
                    # An append opens files where the catalog says, and readers too: not before they are there.
                    held, appends = appends, []
                    self._settled.clear()
                self._sink.stage(change, appends)
                failpoint("catalog.staged")
        except BaseException as fault:
            if moving:
                self._settled.set()
            self._fail(mutations, appends + held, fault)
            return []
        failpoint("catalog.committed")
        self._try_to_settle()
        failpoint("catalog.settled")
        self._sink.committed(appends)
        self._answer(mutations)
        return held

    def _fail(self, mutations: list[_Mutation[Any]], appends: list[Any], fault: BaseException) -> None:
        self._end_if_broken()
        error = self._domain_error(fault)
        full = isinstance(error, ExhaustedError)
        logger.error(
            "commit_failed",
            exc_info=None if full else fault,
            extra={"mutations": len(mutations), "appends": len(appends), "error": str(fault)},
        )
        self._sink.abandoned(appends, error)
        deletions = self._only_deletions(mutations, error) if full else []
        if deletions and self._reserve.give_up():
            self._commit(deletions, [])
            return
        for mutation in mutations:
            mutation.error = mutation.error or error
        self._answer(mutations)

    def _end_if_broken(self) -> None:
        """Ends the process if LMDB could not write its last page.

        It refuses all work from then on, and whether the transaction is durable only another start can tell. Nobody is
        answered: callers come back and ask how far they are committed.
        """
        try:
            self._environment.begin(write=True).abort()
        except lmdb.PanicError:
            logger.critical("catalog_broken", exc_info=True)
            os._exit(os.EX_SOFTWARE)
        except lmdb.Error:
            logger.exception("catalog_failed")

    def _only_deletions(self, mutations: list[_Mutation[Any]], error: BaseException) -> list[_Mutation[Any]]:
        others = [mutation for mutation in mutations if not mutation.deletes]
        for mutation in others:
            mutation.error = mutation.error or error
        self._answer(others)
        return [mutation for mutation in mutations if mutation.deletes]

    def _settle_if_needed(self) -> None:
        if not self._settled.is_set():
            self._settle()
            self._settled.set()

    def _try_to_settle(self) -> None:
        try:
            self._settle_if_needed()
        except Exception as error:
            if isinstance(self._domain_error(error), ExhaustedError) and self._reserve.give_up():
                self._try_to_settle()
                return
            # What is committed is so whatever the folders say. The next group settles first, or is refused.
            logger.exception("folder_move_failed")

    def _apply(self, txn: lmdb.Transaction[bytes], mutation: _Mutation[Any]) -> None:
        mutation.error = None
        try:
            with self._environment.begin(parent=txn, write=True) as child:
                mutation.result = mutation.apply(Change(child, self._databases))
        except Exception as error:
            mutation.error = self._domain_error(error)

    def _answer(self, mutations: list[_Mutation[Any]]) -> None:
        assert self._loop is not None
        if mutations and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_resolve, mutations)

    def _domain_error(self, error: BaseException) -> BaseException:
        """A full disk or map is an answer to the caller, and one that fails; everything else is a fault of ours."""
        if self._is_full(error):
            return self._no_space()
        failed = isinstance(error, (OSError, lmdb.Error)) and _errno(error) in StorageError.CAUSES
        return StorageError() if failed else error

    def _is_full(self, error: BaseException) -> bool:
        if isinstance(error, lmdb.MapFullError):
            return True
        if not isinstance(error, (OSError, lmdb.Error)):
            return False
        # LMDB 0.9 reports the errno of its write, and EIO for a write that was cut short: by a full disk, as a rule.
        cut_short = isinstance(error, lmdb.Error) and _errno(error) == errno.EIO
        return _errno(error) in (errno.ENOSPC, errno.EDQUOT) or (cut_short and self._free_bytes() < _FULL_BYTES)

    def _free_bytes(self) -> int:
        state = os.statvfs(self._environment.path())
        return state.f_bavail * state.f_frsize

    @staticmethod
    def _no_space() -> ExhaustedError:
        return ExhaustedError(
            Reason.NO_SPACE,
            "there is no room left for the catalog; delete runs or give the file system more room",
            retry_after_seconds=5.0,
        )


def _resolve(mutations: list[_Mutation[Any]]) -> None:
    for mutation in mutations:
        if mutation.future.done():
            continue
        if mutation.error is not None:
            mutation.future.set_exception(mutation.error)
        else:
            mutation.future.set_result(mutation.result)


def _errno(error: OSError | lmdb.Error) -> int | None:
    return error.errno if isinstance(error, OSError) else error.code
