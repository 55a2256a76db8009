"""What becomes of gRPC across fork: nothing of it is used in the child, and nothing of it is closed there.

An inherited channel fails at random or hangs, and a fresh one in the child of a process with open streams
crashes now and then, so no way of using gRPC after a fork is safe. The state here belongs to the process,
because ``os.register_at_fork`` does; the hook is registered when the first transport is made.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable


class ForkGuard:
    """Notices that the process it was made in has forked, and abandons gRPC objects in the child.

    Args:
        release: Called in the child, where only the forking thread is alive; gives the gRPC objects to
            abandon.
    """

    def __init__(self, release: Callable[[], object]) -> None:
        """Must be kept by its owner: the guard is held weakly."""
        self._release = release
        _process.watch(self)

    def abandon(self) -> object:
        """Takes the gRPC objects away from their owner."""
        return self._release()


class _Process:
    def __init__(self) -> None:
        self.forked_from_grpc = False
        self._lock = threading.Lock()
        self._guards: weakref.WeakSet[ForkGuard] = weakref.WeakSet()
        self._registered = False
        self._abandoned: list[object] = []

    def watch(self, guard: ForkGuard) -> None:
        with self._lock:
            self._guards.add(guard)
            if not self._registered:
                os.register_at_fork(after_in_child=self._after_fork)
                self._registered = True

    def _after_fork(self) -> None:
        self._lock = threading.Lock()  # another thread of the parent may have held it
        self.forked_from_grpc = True
        # They are kept for ever, so that no destructor of gRPC's runs in the child.
        self._abandoned += [guard.abandon() for guard in tuple(self._guards)]


def in_forked_child() -> bool:
    """Whether this process was forked from one that used gRPC, and so must not use it."""
    return _process.forked_from_grpc


_process = _Process()
