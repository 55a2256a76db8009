"""Runs what must not be torn apart by Ctrl-C on a thread of its own.

Python raises KeyboardInterrupt in the main thread between any two steps, also between taking a lock and noting that
it is held: a Condition's ``with`` and gRPC's calls then leave it held for ever, and the next call waits for ever. Other
threads are never interrupted. So the main thread hands such work over and waits in a place that can be left at any
time; what it has left goes on to its end.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

_Task = tuple[Callable[[], Any], "SimpleQueue[tuple[Any, BaseException | None]]"]


class _Workers:
    """Threads that wait for work. They belong to the process, as its main thread does."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._idle: deque[SimpleQueue[_Task]] = deque()

    def take(self) -> SimpleQueue[_Task]:
        """The queue of an idle thread. One whose caller was interrupted is not idle until it is done.

        Raises:
            RuntimeError: The interpreter ends and starts no threads any more.
        """
        if self._pid != os.getpid():
            self._pid, self._idle = os.getpid(), deque()
        try:
            return self._idle.pop()
        except IndexError:
            tasks: SimpleQueue[_Task] = SimpleQueue()
            threading.Thread(target=self._work, args=(tasks, self._idle), name="rund-call", daemon=True).start()
            return tasks

    @staticmethod
    def _work(tasks: SimpleQueue[_Task], idle: deque[SimpleQueue[_Task]]) -> None:
        while True:
            work, answers = tasks.get()
            answer, error = None, None
            try:
                answer = work()
            except BaseException as raised:  # it is raised where it was asked for
                error = raised
            idle.append(tasks)
            answers.put((answer, error))
            del work, answers, answer, error


_workers = _Workers()


def apart(work: Callable[[], T]) -> T:
    """Does the work where no KeyboardInterrupt can come, and gives or raises what it does.

    The work must not take a lock that its caller holds.

    Raises:
        KeyboardInterrupt: The caller was interrupted; the work goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    return begin_apart(work)()


def begin_apart(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work on another thread, and gives what waits for it: that gives or raises what the work does."""
    try:
        tasks = _workers.take()
    except RuntimeError:
        return work
    answers: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
    tasks.put((work, answers))

    def wait() -> T:
        answer, error = answers.get()
        if error is not None:
            try:
                raise error
            finally:
                del error
        value: T = answer
        return value

    return wait
