"""What becomes of gRPC across fork: nothing of it is used in the child, and nothing of it is closed there.

An inherited channel fails at random or hangs, and a fresh one in the child of a process with open streams crashes now and
then, so no way of using gRPC after a fork is safe. The hook below is registered once, when the first transport is made. It
is the only state of this module, and it belongs to the process because ``os.register_at_fork`` does.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable

_lock = threading.Lock()
_guards: weakref.WeakSet[ForkGuard] = weakref.WeakSet()
_limbo: list[object] = []
_registered = False
_forked_from_grpc = False


class ForkGuard:
    """Notices that the process it was made in has forked, and abandons gRPC objects in the child.

    Args:
        release: Called in the child, where only the forking thread is alive; gives the gRPC objects to abandon.
    """

    def __init__(self, release: Callable[[], object]) -> None:
        """Must be kept by its owner: the guard is held weakly."""
        self._release = release
        _watch(self)

    def abandon(self) -> None:
        """Keeps the owner's gRPC objects for ever, so that no destructor of theirs runs in the child."""
        _limbo.append(self._release())


def in_forked_child() -> bool:
    """Whether this process was forked from one that used gRPC, and so must not use it."""
    return _forked_from_grpc


def _watch(guard: ForkGuard) -> None:
    global _registered
    with _lock:
        _guards.add(guard)
        if not _registered:
            os.register_at_fork(after_in_child=_after_fork)
            _registered = True


def _after_fork() -> None:
    global _lock, _forked_from_grpc
    _lock = threading.Lock()  # another thread of the parent may have held it
    _forked_from_grpc = True
    for guard in tuple(_guards):
        guard.abandon()
