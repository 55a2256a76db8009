"""Finds the daemon that is meant, and connects to it. Unlike `rund.init`, no command but `serve` starts one.

An address that was read from `daemon.json` is trusted only after the daemon there has said that it wrote the file:
sockets are reused, process ids too.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

import click
from rund._errors import DaemonUnavailableError, InvalidUrlError, RundError, WaitTimeoutError
from rund._transport import Transport, daemon_calls
from rund._types import ServerInfo

from rund_daemon.processes import start_ticks
from rund_daemon.root import ADDRESS_FILE, LOCK_FILE

from .exit_codes import Failure
from .options import Target

ANSWER_TIMEOUT_S = 5.0
"""How long a daemon may take to say who it is."""


@dataclass(frozen=True, slots=True)
class Note:
    """What `daemon.json` says of the daemon that wrote it, which may be gone."""

    address: str
    addresses: tuple[str, ...]
    pid: int
    start_ticks: int
    instance_id: str

    @property
    def process_lives(self) -> bool:
        """Whether that process runs on this host, as far as can be seen."""
        return self.pid > 0 and start_ticks(self.pid) == self.start_ticks


@dataclass(frozen=True, slots=True)
class Connection:
    """A daemon that has answered."""

    transport: Transport
    info: ServerInfo


def connect(target: Target) -> Connection:
    """Connects to the daemon that is meant.

    Raises:
        DaemonUnavailableError: none answers; the message says what to do.
        Failure: the daemon at the address owns another root than the one named.
    """
    if target.address:
        return _connect_to_address(target)
    assert target.root is not None
    note = read_note(target.root)
    found = None if note is None else connect_to_note(target.root, note, target.token)
    if found is None:
        raise DaemonUnavailableError(_why_none(target.root, note))
    return found


def connect_to_note(root: Path, note: Note, token: str) -> Connection | None:
    """Connects to the daemon that wrote `daemon.json`; None if it does not answer or another one does."""
    transport = _transport(note.address, token, root)
    try:
        info = daemon_calls.get_server_info(transport, timeout_s=ANSWER_TIMEOUT_S, unavailable_timeout_s=0)
    except (DaemonUnavailableError, WaitTimeoutError):
        transport.close()
        return None
    except RundError:
        transport.close()
        raise
    if info.instance_id == note.instance_id and same_folder(info.root_url, root):
        return Connection(transport, info)
    transport.close()
    return None


def read_note(root: Path) -> Note | None:
    """Reads `daemon.json` of a root; None when there is none.

    Raises:
        Failure: it can't be read.
    """
    path = root / ADDRESS_FILE
    try:
        fields = json.loads(path.read_bytes())
        return Note(
            address=str(fields["address"]),
            addresses=tuple(map(str, fields["addresses"])),
            pid=int(fields["pid"]),
            start_ticks=int(fields["start_ticks"]),
            instance_id=str(fields["instance_id"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} can't be read ({error}); remove it, and start the daemon anew with `rund serve`"
        raise Failure(message) from error


def root_is_locked(root: Path) -> bool:
    """Whether a daemon holds the root, or is about to.

    The lock is shared and given back at once, so that a daemon that starts in this instant is the only one that could
    be turned away, and clients try again then.
    """
    try:
        descriptor = os.open(root / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def same_folder(left: str | Path, right: str | Path) -> bool:
    """Whether two paths lead to one folder."""
    return os.path.realpath(left) == os.path.realpath(right)


def _connect_to_address(target: Target) -> Connection:
    transport = _transport(target.address, target.token, None)
    info = daemon_calls.get_server_info(transport, timeout_s=ANSWER_TIMEOUT_S, unavailable_timeout_s=0)
    if target.root is not None and not same_folder(info.root_url, target.root):
        transport.close()
        raise Failure(
            f"the daemon at {target.address} owns the root {info.root_url}, not {target.root}; "
            "leave --root out, or name the address of the other daemon"
        )
    return Connection(transport, info)


def _transport(address: str, token: str, root: Path | None) -> Transport:
    try:
        return Transport(address, token=token, relocate=None if root is None else lambda: _present_address(root))
    except InvalidUrlError as error:
        raise click.BadParameter(str(error), param_hint="--address") from None


def _present_address(root: Path) -> str | None:
    # A daemon that was started anew may listen elsewhere; while it starts there is no file.
    try:
        note = read_note(root)
    except Failure:
        return None
    return None if note is None else note.address


def _why_none(root: Path, note: Note | None) -> str:
    if not root_is_locked(root):
        return f"no daemon runs for the root {root}; start one with `rund serve --root {root}`"
    if note is None:
        return f"the daemon of the root {root} is starting or stopping; try again in a moment"
    return (
        f"the daemon of the root {root} (pid {note.pid}) does not answer; look at its log, or end it with "
        f"`rund stop --kill --root {root}`"
    )
