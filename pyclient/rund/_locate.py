"""Finds the daemon of a root, or has one started, and keeps one connection to each.

An address that was read from a file is trusted only after the daemon there has said that it is the one that
wrote the file and that it owns the root: sockets are reused, process ids too.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from pathlib import Path

from ._errors import DaemonUnavailableError, InvalidFieldError, RundError, WaitTimeoutError
from ._identity import start_ticks
from ._root import PathLike, default_root, local_path
from ._transport import Transport, daemon_calls
from ._types import ServerInfo

LIVE_PROBE_TIMEOUT_S = 5.0
DEAD_PROBE_TIMEOUT_S = 0.5


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that has answered.

    Attributes:
        transport: The connection to it.
        info: What it said of itself when the connection was made.
    """

    transport: Transport
    info: ServerInfo

    @property
    def root(self) -> Path:
        """Its root, as a path on its own host."""
        return Path(self.info.root_url)


@dataclass(frozen=True, slots=True)
class DaemonFile:
    """What ``daemon.json`` says. It may be of a daemon that is gone."""

    address: str
    instance_id: str
    pid: int
    start_ticks: int

    @property
    def process_is_alive(self) -> bool:
        """Whether the process still runs, as far as this host can see."""
        return self.pid > 0 and start_ticks(self.pid) == self.start_ticks


class _Connections:
    """The daemons that this process talks to, one channel to each address. The only state here: channels are costly."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._daemons: list[Daemon] = []

    def find(self, address: str) -> Daemon | None:
        with self._lock:
            return self._find(address, _token())

    def keep(self, daemon: Daemon) -> Daemon:
        """Gives the daemon to use: an older connection to the address is kept, with what was heard last."""
        transport = daemon.transport
        with self._lock:
            older = self._find(transport.address, transport.token)
            if older is not None:
                transport.close()
                daemon = Daemon(older.transport, daemon.info)
            self._daemons = [known for known in self._daemons if known is not older and not known.transport.closed]
            self._daemons.append(daemon)
        return daemon

    def _find(self, address: str, token: str) -> Daemon | None:
        for daemon in self._daemons:
            transport = daemon.transport
            # By where it is now: a transport follows its daemon to another address.
            if (transport.address, transport.token) == (address, token) and not transport.closed:
                return daemon
        return None


_connections = _Connections()


def chosen_root(root_url: PathLike | None) -> Path:
    """The root that an argument names, or the default."""
    return default_root(os.environ) if root_url is None else local_path(root_url)


def daemon_at(address: str, root_url: PathLike | None = None) -> Daemon:
    """The daemon at an address that the caller named.

    Raises:
        DaemonUnavailableError: None answers.
        InvalidFieldError: It owns another root than ``root_url``.
    """
    daemon = _connections.find(address)
    if daemon is None:
        transport = Transport(address, token=_token())
        daemon = _connections.keep(Daemon(transport, daemon_calls.get_server_info(transport)))
    if root_url is not None and not same_path(daemon.info.root_url, local_path(root_url)):
        raise InvalidFieldError(
            f"the daemon at {address} owns the root {daemon.info.root_url}, not {os.fspath(root_url)}"
        )
    return daemon


def find_daemon(root: Path, known_dead: set[str] | None = None) -> Daemon | None:
    """The daemon of a root, if there is one and it answers.

    Args:
        root: The root.
        known_dead: Instance ids that need not be asked again; those that turn out dead are added.
    """
    note = read_daemon_file(root)
    if note is None or (known_dead is not None and note.instance_id in known_dead):
        return None
    known = _connections.find(note.address)
    if known is not None and known.info.instance_id == note.instance_id:
        return known
    daemon = _probe(note, root)
    if daemon is None and known_dead is not None and not note.process_is_alive:
        known_dead.add(note.instance_id)
    return None if daemon is None else _connections.keep(daemon)


def read_daemon_file(root: Path) -> DaemonFile | None:
    """What ``daemon.json`` of a root says; None when there is none, or none that a daemon has written.

    Raises:
        DaemonUnavailableError: It is there, and may not be read.
    """
    try:
        fields = json.loads((root / "daemon.json").read_bytes())
        return DaemonFile(
            address=str(fields["address"]),
            instance_id=str(fields["instance_id"]),
            pid=int(fields["pid"]),
            start_ticks=int(fields["start_ticks"]),
        )
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return None
    except OSError as error:
        raise DaemonUnavailableError(f"{root / 'daemon.json'} can't be read: {error}") from error


def _probe(note: DaemonFile, root: Path) -> Daemon | None:
    is_alive = note.process_is_alive
    patience = LIVE_PROBE_TIMEOUT_S if is_alive else DEAD_PROBE_TIMEOUT_S
    # One whose process is there is asked again: on a busy host its first answer may take its time.
    again = patience if is_alive else 0.0
    transport = Transport(note.address, token=_token(), relocate=lambda: _present_address(root))
    try:
        info = daemon_calls.get_server_info(transport, timeout_s=patience, unavailable_timeout_s=again)
    except (DaemonUnavailableError, WaitTimeoutError):
        transport.close()
        return None
    except RundError:
        transport.close()
        raise
    if info.instance_id == note.instance_id and same_path(info.root_url, root):
        return Daemon(transport, info)
    transport.close()
    return None


def _present_address(root: Path) -> str | None:
    try:
        note = read_daemon_file(root)
    except DaemonUnavailableError:
        return None
    return None if note is None else note.address


def same_path(left: PathLike, right: PathLike) -> bool:
    """Whether two paths name one file, links followed; neither need be there."""
    return os.path.realpath(left) == os.path.realpath(right)


def _token() -> str:
    return os.environ.get("RUND_TOKEN", "")
