"""The table ``history`` of one process: rows go into the journal at once and to the daemon soon after.

``HistoryLog.log`` needs the journal only. A thread turns what has gathered into Arrow batches, writes down which
rows each of them holds, sends them, and gives the journal's files back when they are acknowledged. While no daemon
answers the rows wait, and ``log`` does not notice.
"""

from __future__ import annotations

import contextlib
import copy
import os
import threading
import time
from collections import deque
from pathlib import Path
from queue import Empty, SimpleQueue

from ._apart import apart
from ._errors import InternalError, OverLimitError, RundError, WaitTimeoutError
from ._failpoints import failpoint
from ._history_batch import HistoryBatches
from ._identity import new_writer_id
from ._journal import Journal, JournalOwner
from ._journal_files import journal_directory
from ._journal_format import CUT_SLOTS, NO_CUT, Cut
from ._journal_limits import JournalLimits, limits_from_environment
from ._journal_reader import MAX_BATCH_BYTES, JournalReader, Rows
from ._transport import Heartbeat, Transport, WriteStream, run_calls

LINGER_S = 0.005
"""How long the first row after a rest waits for company."""
LEAST_HOLD_S, MOST_HOLD_S = 0.1, 1.0
"""Bounds of the time from one sending to the next, unless a batch is full before."""
HOLD_COSTS = 1200
"""That time, in multiples of what a sending costs this thread. gRPC's threads cost three times as much again."""
FULL_HOLD_S = 0.02
"""At least so long even when batches are full: more than that is sent in one go."""
_URGENT_POLL_S = 0.002
_LEAST_BATCH_LIMIT = 4 * MAX_BATCH_BYTES
_JOIN_S = 0.5


class HistoryLog:
    """What ``run.log`` writes to. Safe for use by many threads; ``log`` in signal handlers and finalizers, too.

    In a forked child ``log`` goes on, into a journal of the child's own that the daemon drains; ``flush`` and ``close``
    have nothing to wait for there.

    Args:
        transport: The connection to the daemon; None keeps the rows in the journal.
        root: The daemon's root, where it looks for journals.
        run_name: Resource name of the run.
        writer_id: UUID of this process as a writer of the run; no other journal may have it.
        rank: Rank of this process.
        run_uid: The run's uid, by which it is found after a rename.
        limits: How large the journal may grow; by default as ``RUND_JOURNAL_*`` say.
        reports: Whether the daemon knows this writer, and is told now and then that it lives.

    Attributes:
        log: Keeps one row; see ``Journal.append``.
    """

    def __init__(
        self,
        transport: Transport | None,
        root: Path,
        run_name: str,
        writer_id: str,
        rank: int,
        *,
        run_uid: str = "",
        limits: JournalLimits | None = None,
        reports: bool = False,
    ) -> None:
        owner = JournalOwner(
            writer_id=writer_id,
            stream_id=new_writer_id(),
            run=run_name,
            root=str(root),
            rank=rank,
            sends=transport is not None,
            run_uid=run_uid,
        )
        # Its put may be called from a signal handler that interrupted another put; that of an Event may not.
        wakes: SimpleQueue[None] = SimpleQueue()
        self._journal = Journal(
            journal_directory(root, os.environ),
            owner,
            limits or limits_from_environment(os.environ),
            lambda: wakes.put(None),
        )
        self.log = self._journal.append  # without a frame of its own, which would be a tenth of the call
        self._sender = None if transport is None else _Sender(self._journal, transport, wakes, writer_id, reports)

    @property
    def dropped_rows(self) -> int:
        """Rows that were dropped because the journal was full; see ``JournalLimits.when_full``."""
        return self._journal.dropped_rows

    @property
    def error(self) -> RundError | None:
        """Why nothing more can be sent from this process, or None. The rows stay in the journal."""
        return self._sender.error if self._sender is not None and self._sends() else None

    def flush(self, timeout: float | None = None) -> None:
        """Returns when all that was logged is acknowledged. Without a sender, as in a forked child, it does nothing.

        Raises:
            WaitTimeoutError: It was not in that many seconds.
            RundError: Nothing more can be sent; the subclass says why.
        """
        sender = self._sender
        if sender is not None and self._sends():
            apart(lambda: sender.flush(timeout))

    def close(self, timeout: float) -> bool:
        """Takes no more rows, sends what is left, and ends after so many seconds at the latest.

        Returns:
            Whether all rows are acknowledged. If not they stay in the journal, for the daemon to take from there.
        """
        self._journal.close()
        sender = self._sender
        if sender is None or not self._sends():
            self._journal.release()
            return self._journal.position() == 0
        return apart(lambda: sender.close(timeout))

    def _sends(self) -> bool:
        return self._journal.owner.sends


class _Sender:
    """The thread that empties a journal.

    Attributes:
        error: Why it has given up, or None.
    """

    def __init__(
        self, journal: Journal, transport: Transport, wakes: SimpleQueue[None], writer_id: str, reports: bool
    ) -> None:
        self.error: RundError | None = None
        self._journal = journal
        self._transport = transport
        self._wakes = wakes
        self._writer_id = writer_id
        find_run = self._find_run if journal.owner.run_uid else None
        self._heartbeat = (
            Heartbeat(transport, journal.owner.run, writer_id, find_run, lambda: wakes.put(None)) if reports else None
        )
        self._stream: WriteStream | None = None
        self._reader = JournalReader(journal.files)
        self._batches = HistoryBatches(journal.owner.rank)
        self._outstanding: deque[Cut] = deque()
        self._last = NO_CUT
        self._moved = threading.Condition(threading.Lock())
        self._sent_position = 0
        self._urgent_until = 0
        self._sent_at = time.monotonic()
        self._cost_s = LEAST_HOLD_S / HOLD_COSTS
        self._hold_s = LEAST_HOLD_S
        self._stopped = False
        self._closing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="rund-sender", daemon=True)
        self._thread.start()

    def flush(self, timeout: float | None) -> None:
        """See HistoryLog."""
        deadline = None if timeout is None else time.monotonic() + timeout
        position = self._journal.position()
        self._urgent_until = max(self._urgent_until, position)
        self._wakes.put(None)
        with self._moved:
            self._moved.wait_for(lambda: self.error or self._sent_position >= position, timeout)
            sequence = self._last.sequence
        if self.error is not None:
            raise copy.copy(self.error)  # each that raises it adds its own traceback
        if self._sent_position < position:
            raise WaitTimeoutError("no daemon has taken the rows in time; they wait in the journal")
        if self._stream is not None:
            self._stream.wait(sequence, None if deadline is None else max(0.0, deadline - time.monotonic()))

    def close(self, timeout: float) -> bool:
        """See HistoryLog. One that was interrupted may still be at it when the next one comes."""
        with self._closing:
            return self._close(timeout)

    def _close(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        try:
            self.flush(timeout)
            kept = True
        except RundError:
            kept = False
        self._stopped = True
        self._wakes.put(None)
        if self._stream is not None:
            self._end_stream(self._stream, kept, max(0.0, deadline - time.monotonic()))
        self._thread.join(_JOIN_S)
        if kept:
            self._journal.remove()
        else:
            self._journal.release()
        return kept

    def _end_stream(self, stream: WriteStream, kept: bool, timeout: float) -> None:
        # All rows are safe by now; what is asked for is only a tidy end.
        with contextlib.suppress(RundError):
            if kept:
                stream.close(timeout=timeout)
        stream.abort()

    def _run(self) -> None:
        try:
            while not self._stopped:
                self._report()
                self._absorb_acks()
                self._send()
                self._rest()
        except RundError as error:
            self._give_up(error)
        except Exception as error:
            # Whatever it is, who flushes must hear of it; the rows are safe in the journal.
            self._give_up(InternalError(f"the sender failed: {error!r}"))
        while not self._stopped and self._heartbeat is not None:
            self._report()
            self._sleep(self._until_report() or 0.0)

    def _report(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.beat(self._journal.dropped_rows)

    def _until_report(self) -> float | None:
        return None if self._heartbeat is None else max(0.01, self._heartbeat.due_in())

    def _send(self) -> None:
        began, position = time.thread_time(), self._reader.position
        # Rows that come meanwhile wait for the next time, or this would go on with one row after the other.
        until = self._journal.position()
        while self._reader.position < until and self._may_send():
            rows = self._reader.take()
            if rows is not None:
                self._send_rows(rows)
            with self._moved:
                self._sent_position = self._reader.position
                self._moved.notify_all()
        if self._reader.position > position:
            self._set_pace(self._reader.position - position, time.thread_time() - began)

    def _set_pace(self, sent_bytes: int, cost_s: float) -> None:
        """Says how long to rest: as the cost asks, or until a batch should be full if rows go on coming as fast."""
        now = time.monotonic()
        full = MAX_BATCH_BYTES * (now - self._sent_at) / sent_bytes
        self._cost_s += (cost_s - self._cost_s) / 4
        hold = min(MOST_HOLD_S, max(LEAST_HOLD_S, HOLD_COSTS * self._cost_s))
        self._sent_at, self._hold_s = now, max(FULL_HOLD_S, min(full, hold))

    def _send_rows(self, rows: Rows) -> None:
        head, stream = self._journal.head, self._stream
        assert head is not None
        assert stream is not None
        cut = Cut(self._last.sequence + 1, rows.begin, rows.end, self._last.rows + rows.count)
        # The cut comes first: whoever sends these rows again must put the same ones under the same sequence.
        head.write_cut(cut)
        failpoint("sender.cut_written")
        self._outstanding.append(cut)
        # The position is kept with the rows: if power takes the cut, whoever goes on asks the daemon where that is.
        sequence = stream.write(self._batches.batch(rows), cut.end)
        failpoint("sender.sent")
        if sequence != cut.sequence:
            raise InternalError(f"the stream is at batch {sequence} and the journal at {cut.sequence}")
        self._last = cut

    def _may_send(self) -> bool:
        if self._stopped:
            return False
        if self._stream is None:
            self._stream = self._open_stream()
        limits = self._stream.open()
        if limits is None:
            return False
        if min(limits.batch_bytes, limits.inflight_bytes // 2) < _LEAST_BATCH_LIMIT:
            raise OverLimitError(f"the daemon takes batches of {limits.batch_bytes} bytes only")
        return len(self._outstanding) < CUT_SLOTS - 1 and self._stream.has_room(MAX_BATCH_BYTES)

    def _open_stream(self) -> WriteStream:
        owner = self._journal.owner
        return WriteStream(
            self._transport,
            _table_name(owner.run),
            stream_id=owner.stream_id,
            create_missing=True,
            writer_id=self._writer_id,
            find_table=(lambda: _table_name(self._find_run())) if owner.run_uid else None,
            patience_s=None,
        )

    def _find_run(self) -> str:
        return run_calls.get_run(self._transport, uid=self._journal.owner.run_uid).resource_name

    def _pending(self) -> int:
        return self._journal.position() - self._reader.position

    def _absorb_acks(self) -> None:
        stream, head = self._stream, self._journal.head
        if stream is None or head is None:
            return
        if stream.error is not None:
            raise stream.error
        acked = None
        while self._outstanding and self._outstanding[0].sequence <= stream.committed:
            acked = self._outstanding.popleft()
        if acked is not None:
            failpoint("sender.acked")
            head.write_cursor(acked)
            failpoint("sender.cursor_written")
            self._journal.free(acked.end if self._outstanding else self._reader.position)

    def _rest(self) -> None:
        """Sleeps until there is something to do."""
        if self._urgent_until > self._reader.position:
            self._sleep(_URGENT_POLL_S)
            return
        if not (self._pending() or self._outstanding):
            self._journal.ask_to_be_woken()
            if not self._pending():
                with contextlib.suppress(Empty):
                    self._wakes.get(timeout=self._until_report())
            self._sleep(LINGER_S)
            return
        self._sleep(self._hold_s)

    def _sleep(self, seconds: float) -> None:
        """Sleeps, but not when somebody calls, and forgets the calls of before."""
        with contextlib.suppress(Empty):
            self._wakes.get(timeout=seconds)
            while True:
                self._wakes.get_nowait()

    def _give_up(self, error: RundError) -> None:
        with self._moved:
            self.error = error
            self._moved.notify_all()


def _table_name(run: str) -> str:
    return f"{run}/metrics/history"
