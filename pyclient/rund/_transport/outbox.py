"""What a write stream was given and the daemon has not acknowledged yet.

The state that a stream's threads share: those that write and wait, gRPC's own that asks for the next message,
the reader of the answers, and the supervisor that opens calls. One lock guards it, and no I/O happens under it.
Each waits on a condition of its own, because whoever is woken for nothing costs the trainer time: gRPC on
``_sendable``, those that write on ``_progress``, the supervisor on ``_events``.

This module knows no gRPC: a call is any object, and one that is not the present one is not heard.
"""

from __future__ import annotations

import copy
import threading
import time

import pyarrow as pa

from rund._errors import (
    CorruptDataError,
    DaemonUnavailableError,
    RundError,
    StateError,
    WaitTimeoutError,
    WrongStateError,
)

from .filing import Filing
from .parcels import FILES_BYTES, Bundle, Closing, Files, Parcel, StreamLimits

_LOOK_S = 1.0
"""How often the supervisor looks whether an answer is overdue."""


class Outbox:
    """Batches by sequence, and how far they are acknowledged.

    Attributes:
        committed: The last sequence that is durable.
        limits: What the daemon takes; None until it has said so.
        error: Why the stream has failed for good, or None.
        finished: Whether the stream is over, well or badly.
    """

    def __init__(self) -> None:
        self.committed = 0
        self.limits: StreamLimits | None = None
        self.error: RundError | None = None
        self.finished = False
        self._lock = threading.Lock()
        self._sendable = threading.Condition(self._lock)
        self._progress = threading.Condition(self._lock)
        self._events = threading.Condition(self._lock)
        self._parcels: dict[int, Parcel] = {}
        self._bytes = 0
        self._last = 0
        self._closing: Closing | None = None
        self._closed_table: object = None
        self._opening = False
        self._call: object = None
        self._call_error: RundError | None = None
        self._sent: int | None = None  # by the present call; None until the daemon has opened it
        self._filing = Filing()
        self._awaited = 0  # the last sequence that somebody waits for
        self._close_sent = False
        self._waiting_since: float | None = None
        self._stalled_since = time.monotonic()

    # For those who write.

    def put(self, schema: bytes, data: pa.Buffer, position: int = 0) -> int:
        """Queues a batch and gives its sequence. Waits while too much is on its way.

        Raises:
            RundError: The stream has failed or was closed.
        """
        with self._lock:
            self._progress.wait_for(lambda: self._over() or self._has_room(data.size))
            self._refuse_if_over()
            self._begin_waiting()
            self._last += 1
            parcel = self._parcels[self._last] = Parcel(self._last, schema, data, position)
            self._bytes += data.size
            if self._filing.add(parcel):
                self._sendable.notify_all()
            self._wake_supervisor()
            return self._last

    def ask_open(self, *, wait: bool) -> StreamLimits | None:
        """Asks for a connection, and waits for the daemon's limits if told to.

        Raises:
            RundError: The stream has failed or was closed.
        """
        with self._lock:
            if self._call is None and not self._opening:
                self._begin_waiting()
                self._opening = True
                self._wake_supervisor()
            if wait:
                self._progress.wait_for(lambda: self._over() or self.limits is not None)
            self._refuse_if_over()
            return self.limits

    def has_room(self, size: int) -> bool:
        """Whether a batch of this size would be queued at once."""
        with self._lock:
            return not self._over() and self._has_room(size)

    def wait(self, sequence: int | None, timeout: float | None) -> None:
        """Waits until a batch, or all of them, are durable.

        Raises:
            WaitTimeoutError: They were not in that time.
            RundError: The stream has failed.
        """
        with self._lock:
            wanted = self._last if sequence is None else sequence
            if wanted > self._awaited:
                self._awaited = wanted
                self._sendable.notify_all()
            self._progress.wait_for(lambda: self.finished or self.committed >= wanted, timeout)
            if self.committed >= wanted:
                return
            self._raise_error()
            raise WaitTimeoutError(f"batch {wanted} was not acknowledged in time; {self.committed} were")

    def close(self, closing: Closing, timeout: float | None) -> object:
        """Asks for the end after all that was queued, and gives what the daemon answers.

        Raises:
            WaitTimeoutError: It did not answer in that time.
            RundError: The stream has failed.
        """
        with self._lock:
            self._raise_error()
            if self._closing is None:
                self._begin_waiting()
                self._closing = closing
                self._sendable.notify_all()
                self._progress.notify_all()
                self._wake_supervisor()
            self._progress.wait_for(lambda: self.finished, timeout)
            self._raise_error()
            if not self.finished:
                raise WaitTimeoutError("the daemon did not close the stream in time")
            return self._closed_table

    # For the one that opens calls.

    def wait_until_wanted(self) -> bool:
        """Waits until there is a reason for a call; False when the stream is over."""
        with self._lock:
            self._events.wait_for(lambda: self.finished or self._wanted())
            return not self.finished

    def begin_call(self, call: object) -> bytes:
        """Makes a call the present one; gives the schema of the batch that it begins with, or nothing."""
        with self._lock:
            self._call, self._call_error = call, None
            self._sent, self._close_sent = None, False
            self._filing.stop()
            self._waiting_since = time.monotonic()
            return next(iter(self._parcels.values())).schema if self._parcels else b""

    def supervise(self, answer_timeout: float) -> RundError | None:
        """Waits for the end of the present call; gives its error, or None if the stream is over.

        A daemon that owes an answer for longer than the timeout ends the call, too.
        """
        with self._lock:
            while not self.finished and self._call_error is None:
                since = self._waiting_since
                if since is not None and time.monotonic() - since > answer_timeout:
                    message = f"the daemon has not answered for {answer_timeout:.0f} s"
                    self._end_call(DaemonUnavailableError(message, code="DEADLINE_EXCEEDED"))
                else:
                    self._events.wait(_LOOK_S)  # cheaper than to be woken for every batch
            return None if self.finished else self._call_error

    def stalled_for(self) -> float:
        """Seconds since the last batch became durable, or since the first one waits."""
        with self._lock:
            return time.monotonic() - self._stalled_since

    def pause(self, seconds: float) -> None:
        """Waits, but not beyond the end of the stream."""
        with self._lock:
            self._events.wait_for(lambda: self.finished, seconds)

    def fail(self, error: RundError) -> None:
        """Ends the stream for good."""
        with self._lock:
            if not self.finished:
                self.error = error
                self._finish()

    def abort(self) -> None:
        """Ends the stream; what was not acknowledged is forgotten."""
        self.fail(WrongStateError("the stream was aborted"))

    # For a call.

    def next_message(self, call: object) -> Parcel | Bundle | Closing | None:
        """Waits for what the call has to send next; None when it has ended."""
        with self._lock:
            while call is self._call and (pause := self._pause()) != 0:
                self._sendable.wait(pause)
            if call is not self._call:
                return None
            message = self._take()
            if self._waiting_since is None:
                self._waiting_since = time.monotonic()
            return message

    def stop_files(self, call: object) -> None:
        """Files can't be written any more: what follows is sent as it is."""
        with self._lock:
            if call is self._call:
                self._filing.stop()

    def opened(self, call: object, committed: int, limits: StreamLimits, files: Files | None = None) -> None:
        """The daemon has opened the stream and holds it up to a sequence; perhaps it takes files, too."""
        with self._lock:
            if call is not self._call:
                return
            problem = self._check_committed(committed)
            if problem is not None:
                self.error = problem
                self._finish()
                return
            self.limits, self._opening = limits, False
            self._last = max(self._last, committed)
            self._sent = committed
            self._commit(committed)
            self._filing.begin(files, self._bytes)
            self._sendable.notify_all()

    def acked(self, call: object, committed: int) -> None:
        """All batches up to a sequence are durable."""
        with self._lock:
            if call is self._call:
                self._commit(committed)

    def closed(self, call: object, table: object) -> None:
        """The daemon has answered the wish to close."""
        with self._lock:
            if call is self._call:
                self._closed_table = table
                self._commit(self._last)
                self._finish()

    def ended(self, call: object, error: RundError) -> None:
        """The call is over. Its error says how far the daemon holds the stream: an ack may have been lost with it."""
        with self._lock:
            if call is self._call:
                self._commit(int(error.details.get("committed_sequence", 0)))
                self._end_call(error)

    # Under the condition.

    def _pause(self) -> float | None:
        """Seconds until there is something to send: none if there is, None if nobody knows."""
        if self._sent is None or self._close_sent:
            return None
        if self._sent == self._last:
            return None if self._closing is None else 0.0
        if self._closing is not None or self._awaited > self._sent:
            return 0.0
        return self._filing.pause(self._parcels[self._sent + 1])

    def _take(self) -> Parcel | Bundle | Closing:
        """What goes next: a batch, a file of them, or the wish to close."""
        assert self._sent is not None
        if self._sent == self._last:
            assert self._closing is not None
            self._close_sent = True
            return self._closing
        taken = self._filing.take(self._parcels[self._sent + 1], self._parcels)
        self._sent = taken.parcels[-1].sequence if isinstance(taken, Bundle) else taken.sequence
        return taken

    def _begin_waiting(self) -> None:
        if not self._wanted():
            self._stalled_since = time.monotonic()

    def _wanted(self) -> bool:
        return bool(self._parcels) or self._opening or self._closing is not None

    def _over(self) -> bool:
        return self.finished or self._closing is not None

    def _has_room(self, size: int) -> bool:
        if self.limits is None:
            return False
        room = max(FILES_BYTES, self.limits.inflight_bytes) if self._filing.hands_over else self.limits.inflight_bytes
        return not self._parcels or self._bytes + size <= room

    def _commit(self, committed: int) -> None:
        now = time.monotonic()
        for sequence in range(self.committed + 1, committed + 1):
            parcel = self._parcels.pop(sequence, None)
            self._bytes -= parcel.data.size if parcel is not None else 0
            self._stalled_since = now
        self.committed = max(self.committed, committed)
        if self._filing.acked(committed):
            self._sendable.notify_all()
        owes = self._close_sent or (self._sent or 0) > self.committed
        self._waiting_since = now if owes else None
        self._progress.notify_all()

    def _check_committed(self, committed: int) -> RundError | None:
        if committed < self.committed:
            return CorruptDataError(
                f"the daemon acknowledged batch {self.committed} and now holds this stream up to {committed}"
            )
        if self._last and committed > self._last:
            return StateError(f"another writer uses this stream: the daemon holds batch {committed} of it")
        return None

    def _end_call(self, error: RundError) -> None:
        self._call, self._call_error, self._waiting_since = None, error, None
        self._sendable.notify_all()
        self._events.notify_all()

    def _finish(self) -> None:
        self.finished = True
        self._call, self._waiting_since = None, None
        for condition in (self._sendable, self._progress, self._events):
            condition.notify_all()

    def _wake_supervisor(self) -> None:
        if self._call is None:
            self._events.notify_all()

    def _refuse_if_over(self) -> None:
        self._raise_error()
        if self._over():
            raise WrongStateError("the stream was closed")

    def _raise_error(self) -> None:
        if self.error is not None:
            # A copy: several threads may raise it, and each adds its own traceback.
            raise copy.copy(self.error) from None
