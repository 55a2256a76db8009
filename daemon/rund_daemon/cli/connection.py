"""Connects to the daemon that is meant. Unlike `rund.init`, no command but `serve` starts one.

The client finds the daemon of a root; what is added here is why there is none.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import click
from rund._errors import DaemonUnavailableError, InvalidUrlError
from rund._locate import Daemon, find_daemon, read_daemon_file, same_path
from rund._transport import Transport, daemon_calls

from rund_daemon.root import LOCK_FILE

from .exit_codes import Failure
from .options import Target

ANSWER_TIMEOUT_S = 5.0
"""How long a daemon at an address may take to say who it is."""


def connect(target: Target) -> Daemon:
    """Connects to the daemon that is meant.

    Raises:
        DaemonUnavailableError: none answers; the message says what to do.
        Failure: the daemon at the address owns another root than the one named.
    """
    if target.address:
        return _connect_to_address(target)
    assert target.root is not None
    daemon = find_daemon_of(target)
    if daemon is None:
        raise DaemonUnavailableError(_why_none(target.root))
    return daemon


def find_daemon_of(target: Target) -> Daemon | None:
    """Gives the daemon of a root if it answers."""
    assert target.root is not None
    if target.token:
        # The client takes the token from this variable; the flag comes before it.
        os.environ["RUND_TOKEN"] = target.token
    return find_daemon(target.root)


def root_is_locked(root: Path) -> bool:
    """Whether a daemon holds the root, or is about to.

    The lock is shared and given back at once: a daemon that starts in this very instant would be turned away, and
    clients that start one try again then.
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


def _connect_to_address(target: Target) -> Daemon:
    try:
        transport = Transport(target.address, token=target.token)
    except InvalidUrlError as error:
        raise click.BadParameter(str(error), param_hint="--address") from None
    # Once: a person who names an address wants to know at once that nobody is there.
    info = daemon_calls.get_server_info(transport, timeout_s=ANSWER_TIMEOUT_S, unavailable_timeout_s=0)
    if target.root is not None and not same_path(info.root_url, target.root):
        transport.close()
        raise Failure(
            f"the daemon at {target.address} owns the root {info.root_url}, not {target.root}; "
            "leave --root out, or name the address of the other daemon"
        )
    return Daemon(transport, info)


def _why_none(root: Path) -> str:
    if not root_is_locked(root):
        return f"no daemon runs for the root {root}; start one with `rund serve --root {root}`"
    note = read_daemon_file(root)
    if note is None or not note.process_is_alive:
        return f"the daemon of the root {root} is starting or stopping; try again in a moment"
    return (
        f"the daemon of the root {root} (pid {note.pid}) does not answer; look at its log, or end it with "
        f"`rund stop --kill --root {root}`"
    )
