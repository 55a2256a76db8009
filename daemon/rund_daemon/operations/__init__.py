"""Long-running jobs: begun by a request, followed and cancelled by name, remembered when they have ended.

A job changes nothing until its last step, one transaction. So one that is cancelled, or cut short by a stop of the
daemon, has failed cleanly: the next start says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice

from rund_daemon.catalog import Catalog, Change, Snapshot, shelves
from rund_daemon.catalog.requests import once
from rund_daemon.errors import DrainingError, ExhaustedError, NotFoundError, Reason, RundError
from rund_daemon.feed import Feed
from rund_daemon.identity import Clock, UidSource, parse_uid, uid_text
from rund_daemon.model import Micros, Operation, RequestKey, Uid
from rund_daemon.progress import Progress
from rund_daemon.segments.space import is_full, no_space

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reduced:
    """What a reduction made: URLs of tables by those of the tables that they replace, and names of reducers."""

    tables: Mapping[str, str]
    reducers: tuple[str, ...]


Job = Callable[[Uid, Progress], Awaitable[Uid | Reduced]]
"""Works under the operation's uid and gives the uid of the run that it made, or none, or what it has reduced."""

NO_RUN = Uid(b"")


class Operations:
    """The jobs of a root."""

    def __init__(self, catalog: Catalog, feed: Feed, clock: Clock, new_uid: UidSource) -> None:
        self._catalog = catalog
        self._feed = feed
        self._clock = clock
        self._new_uid = new_uid
        self._running: dict[Uid, tuple[asyncio.Task[None], Progress]] = {}

    async def fail_interrupted(self) -> int:
        """Ends the operations that a stop of the daemon cut short, and gives their number.

        Those with a destination outside the root are left: see `unsettled`.
        """
        error, now = DrainingError(), self._clock()

        def mutation(change: Change) -> int:
            operations = (operation for _, operation in change.scan(shelves.OPERATIONS))
            open_ = [operation for operation in operations if not operation.done and not operation.destination_url]
            for operation in open_:
                change.put(shelves.OPERATIONS, operation.uid, _failed(operation, error, now))
            return len(open_)

        try:
            return await self._catalog.submit(mutation)
        except ExhaustedError as error:
            # On a full disk the daemon starts all the same, for reading and deleting; the next start says it.
            logger.warning("operations_left_open", extra={"error": error.message})
            return 0

    def unsettled(self) -> list[Operation]:
        """Gives the operations of earlier daemons that may have left something outside the root."""
        with self._catalog.snapshot() as snapshot:
            operations = [operation for _, operation in snapshot.scan(shelves.OPERATIONS)]
        return [
            operation
            for operation in operations
            if operation.destination_url
            and operation.uid not in self._running
            and (not operation.done or operation.error_reason)
        ]

    async def settle(self, uid: Uid, failure: RundError | None) -> None:
        """Says that one of them has left nothing, and how it ended if it has not."""
        now = self._clock()

        def mutation(change: Change) -> None:
            operation = change.get(shelves.OPERATIONS, uid)
            if operation is None:
                return
            if not operation.done:
                operation = _failed(operation, failure, now) if failure else _succeeded(operation, NO_RUN, now)
            if operation.error_reason:
                operation = replace(operation, destination_url="")
            change.put(shelves.OPERATIONS, uid, operation)

        await self._catalog.submit(mutation)
        self._feed.publish((uid,))

    async def start(
        self,
        method: str,
        target: str,
        request: RequestKey,
        job: Job,
        check: Callable[[Snapshot], None],
        *,
        destination_url: str = "",
    ) -> Operation:
        """Begins a job; the same request again gives the operation that it began.

        Args:
            method: the RPC.
            target: resource name of what it works on.
            request: makes the retry recognisable.
            job: does the work.
            check: raises what can be said at once; a repeated request is not checked again.
            destination_url: what it makes, if that lies outside the root.
        """
        operation = Operation(self._new_uid(), method, target, self._clock(), destination_url=destination_url)

        def mutation(change: Change) -> tuple[Operation, bool]:
            def begin() -> Operation:
                check(change)
                change.put(shelves.OPERATIONS, operation.uid, operation)
                return operation

            return once(
                change,
                request,
                operation.create_time,
                begin,
                lambda result: result.uid,
                lambda kept: change.get(shelves.OPERATIONS, kept),
            )

        found, new = await self._catalog.submit(mutation)
        if new:
            progress = Progress()
            task = asyncio.create_task(self._run(operation, job, progress))
            self._running[operation.uid] = (task, progress)
        return found

    def get(self, uid: Uid) -> Operation:
        """Gives an operation as it is now. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            operation = snapshot.get(shelves.OPERATIONS, uid)
        if operation is None:
            raise NotFoundError(Reason.OPERATION_NOT_FOUND, f"there is no operation {uid_text(uid)}")
        return self._with_progress(operation)

    def page(self, size: int, position: str) -> tuple[list[Operation], str]:
        """Gives operations, newest first, and where the next page begins."""
        start = parse_uid(position, "page_token") if position else b""
        with self._catalog.snapshot() as snapshot:
            scan = snapshot.scan(shelves.OPERATIONS, start=start, reverse=True)
            found = [self._with_progress(operation) for _, operation in islice(scan, size + 1)]
        return found[:size], uid_text(found[size - 1].uid) if len(found) > size else ""

    async def cancel(self, uid: Uid) -> Operation:
        """Asks an operation to end. Raises NotFoundError."""
        self.get(uid)
        if running := self._running.get(uid):
            running[1].cancelled = True

            def mutation(change: Change) -> None:
                operation = change.get(shelves.OPERATIONS, uid)
                if operation is not None and not operation.done:
                    change.put(shelves.OPERATIONS, uid, replace(operation, cancel_requested=True))

            await self._catalog.submit(mutation)
        return self.get(uid)

    async def wait(self, uid: Uid, timeout_seconds: float) -> Operation:
        """Waits until an operation is done or the time has passed. Raises NotFoundError, DrainingError."""
        try:
            async with asyncio.timeout(timeout_seconds):
                while True:
                    news = self._feed.waiter(uid)
                    if (operation := self.get(uid)).done:
                        return operation
                    await news
        except TimeoutError:
            return self.get(uid)

    async def stop(self) -> None:
        """Ends all jobs; the next start says that they failed."""
        for task, progress in list(self._running.values()):
            progress.cancelled = True
            task.cancel()
        await asyncio.gather(*(task for task, _ in self._running.values()), return_exceptions=True)

    async def _run(self, operation: Operation, job: Job, progress: Progress) -> None:
        result: Uid | Reduced = NO_RUN
        failure = None
        try:
            result = await job(operation.uid, progress)
        except RundError as error:
            failure = error
        except Exception as error:
            logger.exception("operation_failed", extra={"operation": uid_text(operation.uid)})
            failure = (
                no_space(0, 0)
                if is_full(error)
                else RundError(Reason.INTERNAL, f"{operation.method} failed: {type(error).__name__}")
            )
        now = self._clock()

        def mutation(change: Change) -> None:
            kept = change.get(shelves.OPERATIONS, operation.uid) or operation
            ended = _failed(kept, failure, now) if failure else _succeeded(kept, result, now)
            change.put(shelves.OPERATIONS, operation.uid, ended)

        await self._catalog.submit(mutation)
        self._running.pop(operation.uid, None)
        self._feed.publish((operation.uid,))

    def _with_progress(self, operation: Operation) -> Operation:
        running = self._running.get(operation.uid)
        if running is None or operation.done:
            return operation
        return replace(operation, progress=running[1].share, message=running[1].message)


def _succeeded(operation: Operation, result: Uid | Reduced, now: Micros) -> Operation:
    ended = replace(operation, end_time=now, progress=1.0, message="done")
    if isinstance(result, Reduced):
        return replace(ended, result_tables=result.tables, result_reducers=result.reducers)
    return replace(ended, result_run_uid=result)


def _failed(operation: Operation, error: RundError, now: Micros) -> Operation:
    return replace(operation, end_time=now, error_reason=str(error.reason), error_message=error.message)
