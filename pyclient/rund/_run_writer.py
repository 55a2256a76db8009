"""This process's part in a run: its rows on their way, and its name among the run's writers."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref

from ._identity import new_writer_id, rank
from ._locate import Daemon
from ._metrics_writer import MetricsWriter
from ._root import default_root
from ._sender import HistoryLog
from ._transport import in_forked_child

READ_FLUSH_TIMEOUT_S = 60.0
"""How long a reader waits for its own rows, and a stream that has nothing to send for its end."""

_logger = logging.getLogger("rund")


class RunWriter:
    """What one process writes to one run.

    Args:
        daemon: Where the run is.
        run_uid: The run's uid.
        writer_id: The name under which the process was made a writer of the run; empty when it was not.
    """

    def __init__(self, daemon: Daemon, run_uid: str, writer_id: str = "") -> None:
        self.history: HistoryLog | None = None
        self.writer_id = writer_id
        self._daemon = daemon
        self._run_uid = run_uid
        self._dropped_before = self._drops_told = 0
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._writers: weakref.WeakSet[MetricsWriter] = weakref.WeakSet()

    def open_history(self, run: str) -> HistoryLog:
        """The log of this process, made when it becomes a writer of the run, or at its first row."""
        if self._pid != os.getpid():
            # A thread that is not in this process may have held the lock when it was forked.
            self._pid, self._lock = os.getpid(), threading.RLock()
        with self._lock:
            if self.history is None:
                history = self._new_history(run)
                if self.history is None:
                    self.history = history
                else:  # a signal handler of this thread has come between, and has logged
                    history.close(0.0)
            return self.history

    def opened(self, writer: MetricsWriter) -> None:
        """Remembers a writer, to flush it before reading."""
        self._writers.add(writer)

    def flush(self, timeout: float | None) -> None:
        """Returns when all rows of this process are acked.

        Raises:
            WaitTimeoutError: It took longer.
        """
        left = _Left(timeout)
        if self.history is not None:
            self.history.flush(left())
        for writer in tuple(self._writers):
            writer.flush(left())

    def flush_for_reading(self) -> None:
        """So that a writer always sees what it wrote."""
        if not in_forked_child():
            self.flush(READ_FLUSH_TIMEOUT_S)

    def close(self, timeout: float | None) -> bool:
        """Sends what waits, and says whether all of it was acked in time."""
        left = _Left(timeout)
        for writer in tuple(self._writers):
            writer.flush(left())
        history = self.history
        if history is None:
            return True
        if timeout is None:
            history.flush(None)
        return history.close(READ_FLUSH_TIMEOUT_S if timeout is None else left() or 0.0)

    def renamed(self, run: str) -> None:
        """What follows goes to the run under its new name."""
        history, self.history = self.history, None
        if history is not None:
            self._dropped_before += history.dropped_rows
            history.close(READ_FLUSH_TIMEOUT_S)
            self.open_history(run)

    @property
    def dropped_rows(self) -> int:
        """Rows of this process that were dropped because its journal was full."""
        return self._dropped_before + (0 if self.history is None else self.history.dropped_rows)

    def warn_of_drops(self, run_url: str) -> None:
        """Says at the end how many rows are missing, once."""
        if self.dropped_rows > self._drops_told:
            self._drops_told = self.dropped_rows
            _logger.warning(
                "%d rows of %s were dropped: the journal was full and no daemon took them", self.dropped_rows, run_url
            )

    def _new_history(self, run: str) -> HistoryLog:
        own_rank = rank(os.environ)
        root = self._daemon.root if self._daemon.root.is_dir() else default_root(os.environ)
        uid = self._run_uid
        if in_forked_child():
            return HistoryLog(None, root, run, new_writer_id(), own_rank, run_uid=uid)
        writer_id = self.writer_id or new_writer_id()
        reports = bool(self.writer_id)
        return HistoryLog(self._daemon.transport, root, run, writer_id, own_rank, run_uid=uid, reports=reports)


class _Left:
    """Seconds that are left of a bound; None for ever."""

    def __init__(self, timeout: float | None) -> None:
        self._deadline = None if timeout is None else time.monotonic() + timeout

    def __call__(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())
