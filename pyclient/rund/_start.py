"""Connects to a daemon, and starts one where there is none: exactly one, however many processes ask at once.

Callers take turns by a lock on ``<root>/daemon.start.lock`` and look again before each try, so whoever comes
late finds what the first one started. The daemon runs in a session of its own, with no file descriptor of
ours: it outlives the trainer. Another process may start a daemon by hand at the same moment; then ours ends
with exit code 3, and the other one is waited for.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from ._errors import DaemonUnavailableError, InvalidFieldError
from ._locate import Daemon, chosen_root, daemon_at, find_daemon
from ._root import PathLike
from ._transport import pauses

START_TIMEOUT_S = 60.0
"""How long a daemon may take to be ready. It is ready in under a second; a machine under load is not."""

ROOT_IS_LOCKED = 3
"""The daemon's exit code when another one owns the root."""

_RESPAWN_PAUSE_S = 1.0

# One wheel holds the client and the daemon; what only the daemon needs comes with the extra.
_DAEMON_MODULES = ("rund_daemon", "lmdb", "xxhash", "click")


def connect(root_url: PathLike | None = None, address: str | None = None, *, start: bool = True) -> Daemon:
    """The daemon to talk to: at the address, at ``RUND_ADDRESS``, or that of the root.

    Args:
        root_url: The root; with an address it must be that daemon's.
        address: Where a daemon listens; it is never started.
        start: Whether the root's daemon is started when there is none.

    Raises:
        DaemonUnavailableError: None answers, or none can be started.
        InvalidFieldError: The daemon at the address owns another root.
    """
    if address is not None:
        return daemon_at(address, root_url)
    if named := os.environ.get("RUND_ADDRESS"):
        try:
            return daemon_at(named, root_url)
        except InvalidFieldError:
            # A root that the caller names comes before the environment, if that means another one.
            pass
    root = chosen_root(root_url)
    daemon = find_daemon(root)
    if daemon is None and start:
        daemon = start_daemon(root)
    if daemon is None:
        raise DaemonUnavailableError(f"no daemon serves the root {root}; start one with `rund serve --root {root}`")
    return daemon


def start_daemon(root: Path, timeout_s: float = START_TIMEOUT_S) -> Daemon:
    """Gives the root's daemon, started here or by whoever was faster.

    Raises:
        DaemonUnavailableError: It can't be started, or does not answer in time.
    """
    _require_daemon_package()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (root / "daemon.start.lock").open("ab")
    except OSError as error:
        raise DaemonUnavailableError(f"the root {root} can't be used: {error}") from error
    with lock:
        return _Start(root, lock, time.monotonic() + timeout_s).run()


class _Start:
    """One caller's try: looks, takes the lock when it is free, spawns, and looks until the deadline."""

    def __init__(self, root: Path, lock: IO[bytes], deadline: float) -> None:
        self._root = root
        self._lock = lock
        self._deadline = deadline
        self._locked = False
        self._child: subprocess.Popen[bytes] | None = None
        self._next_spawn = 0.0
        self._dead: set[str] = set()

    def run(self) -> Daemon:
        for pause in pauses(0.02, 0.2):
            self._locked = self._locked or _try_lock(self._lock)
            # After the lock, not before: whoever held it until now has left a daemon behind.
            daemon = find_daemon(self._root, self._dead)
            if daemon is not None:
                return daemon
            self._check_child()
            if self._locked and self._child is None and time.monotonic() >= self._next_spawn:
                self._child = _spawn(self._root)
            if time.monotonic() > self._deadline:
                raise DaemonUnavailableError(self._too_late())
            time.sleep(pause)
        raise AssertionError("pauses() is endless")

    def _check_child(self) -> None:
        code = None if self._child is None else self._child.poll()
        if code is None:
            return
        self._child = None
        if code != ROOT_IS_LOCKED:
            raise DaemonUnavailableError(f"the daemon could not be started (exit code {code}): {_reason(self._root)}")
        self._next_spawn = time.monotonic() + _RESPAWN_PAUSE_S

    def _too_late(self) -> str:
        return (
            f"no daemon was ready in {self._root} in time; see {self._root / 'daemon.log'}, "
            f"or start one with `rund serve --root {self._root}`"
        )


def _spawn(root: Path) -> subprocess.Popen[bytes]:
    with (root / "daemon.log").open("ab") as log:
        child = subprocess.Popen(  # noqa: S603 - this interpreter and the caller's own root
            # -P: a folder of the user's that is called like a module of ours must not be imported.
            [sys.executable, "-P", "-m", "rund_daemon", "serve", "--root", os.fspath(root)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
            start_new_session=True,
            close_fds=True,
        )
    # The thread reaps the daemon if it ends while this process lives, and holds the Popen, which would else
    # complain of being dropped.
    threading.Thread(target=child.wait, name="rund-daemon-reaper", daemon=True).start()
    return child


def _try_lock(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _require_daemon_package() -> None:
    missing = [name for name in _DAEMON_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise DaemonUnavailableError(
            f"no daemon runs, and none can be started here: {', '.join(missing)} is not installed; "
            "pip install 'rund[daemon]', or name a daemon with RUND_ADDRESS"
        )


def _reason(root: Path) -> str:
    for name in ("daemon.error", "daemon.log"):
        try:
            lines = (root / name).read_text(errors="replace").strip().splitlines()
        except OSError:
            continue
        if lines:
            return lines[-1] if name == "daemon.log" else " ".join(lines)
    return f"see {root / 'daemon.log'}"
