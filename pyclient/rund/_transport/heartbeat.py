"""Tells the daemon now and then that this process lives.

Nothing waits for the answer, and the next report makes up for one that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
from rund_pb.v1 import run_service_pb2 as pb

from rund._errors import RundError

from .channel import Transport
from .fork_guard import ForkGuard
from .status import code_of

LEAST_PAUSE_S, MOST_PAUSE_S = 0.25, 30.0
"""Bounds of the time from one report to the next; what the daemon says of its patience decides between them."""
PATIENCE_SHARE = 4
"""Reports in the time that the daemon waits: three may be lost."""
_TIMEOUT_S = 10.0


class Heartbeat:
    """Reports of one writer. Used by one thread; of no use in a forked child.

    Args:
        transport: The connection to the daemon.
        run: Resource name of the run.
        writer_id: The writer.
        find_run: Gives the run's name anew when there is none of the old one: it may have been renamed.
        wake: Called when an answer has come, by another thread: ``due_in`` may have changed.
    """

    def __init__(
        self,
        transport: Transport,
        run: str,
        writer_id: str,
        find_run: Callable[[], str] | None,
        wake: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._run = run
        self._writer_id = writer_id
        self._find_run = find_run
        self._wake = wake
        self._pause_s = MOST_PAUSE_S
        self._next = 0.0
        # Any: grpc has no public name for a call that is also a future.
        self._pending: Any = None
        self._guard = ForkGuard(self._release_after_fork)

    def due_in(self) -> float:
        """Seconds until the next report; not positive when it is due."""
        if self._pending is not None and self._pending.done():
            self._hear(self._pending)
        return self._next - time.monotonic()

    def beat(self, dropped_rows: int) -> None:
        """Sends a report, if one is due and none is on its way."""
        if self.due_in() > 0:
            return
        self._next = time.monotonic() + self._pause_s
        if self._pending is not None:
            return
        request = pb.ReportWriterRequest(
            name=self._run, writer_id=self._writer_id, dropped_rows=dropped_rows, alive=True
        )
        try:
            stub = self._transport.stubs.runs
            self._pending = stub.ReportWriter.future(
                request, timeout=_TIMEOUT_S, metadata=self._transport.call_metadata()
            )
            self._pending.add_done_callback(lambda _: self._wake())
        except (RundError, ValueError):  # the channel was closed, by us or while another one was opened
            self._pending = None

    def _hear(self, pending: Any) -> None:
        self._pending = None
        error = pending.exception()
        if error is None:
            pause_s = pending.result().silence_seconds / PATIENCE_SHARE
            self._pause_s = min(MOST_PAUSE_S, max(LEAST_PAUSE_S, pause_s))
            self._next = min(self._next, time.monotonic() + self._pause_s)
        elif isinstance(error, grpc.RpcError):
            self._recover(code_of(error))

    def _recover(self, code: str) -> None:
        if code == "UNAVAILABLE":
            self._transport.reconnect()
        elif code == "NOT_FOUND" and self._find_run is not None:
            try:
                self._run = self._find_run()
            except RundError:
                return
        self._next = min(self._next, time.monotonic() + 1.0)

    def _release_after_fork(self) -> object:
        abandoned, self._pending = self._pending, None
        return abandoned
