"""`rund status`: whether a daemon runs for a root, and which."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import click
from rund._errors import DaemonUnavailableError, WaitTimeoutError
from rund._locate import Daemon, read_daemon_file
from rund._transport import daemon_calls
from rund._types import ServerInfo

from rund_daemon.root import ADDRESS_FILE, ERROR_FILE

from .connection import connect, find_daemon_of, root_is_locked
from .exit_codes import ExitCode
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .wording import local_time_text, span_text


@dataclass(frozen=True, slots=True)
class _Status:
    """What was found at a root or an address.

    Attributes:
        state: `running`; `silent`: its process lives, but does not answer; `unsettled`: one is starting or stopping;
            `stopped`; `unreachable`: nobody answers at an address.
        place: the root, or the address when no root is known.
        info: what a daemon that runs says of itself.
        addresses: where it listens, as far as is known; the first one is that which was used.
        pid: of a silent daemon.
        last_failure: why the last start failed, if it did and none has succeeded since.
    """

    state: str
    place: str
    info: ServerInfo | None = None
    addresses: tuple[str, ...] = ()
    pid: int = 0
    last_failure: str = ""


@click.command()
@takes_target
@takes_report
def status(*, target: Target, report: Report) -> None:
    """Show whether a daemon runs, and which.

    It exits with 4 if none does, and says why the last start failed, if it did.
    """
    found = _at_address(target) if target.address else _at_root(target)
    if report.as_json:
        report.document(_plain(found))
    else:
        report.facts(_facts(found))
        if found.info is None:
            report.hint(_remedy(found))
    if found.info is None:
        click.get_current_context().exit(ExitCode.UNAVAILABLE)


def _at_address(target: Target) -> _Status:
    try:
        daemon = connect(target)
    except (DaemonUnavailableError, WaitTimeoutError):
        return _Status("unreachable", target.address)
    return _Status("running", daemon.info.root_url, daemon.info, (target.address,))


def _at_root(target: Target) -> _Status:
    root = target.root
    assert root is not None
    daemon = find_daemon_of(target)
    if daemon is not None:
        return _Status("running", str(root), daemon_calls.get_server_info(daemon.transport), _addresses(root, daemon))
    if not root_is_locked(root):
        return _Status("stopped", str(root), last_failure=_last_failure(root))
    note = read_daemon_file(root)
    if note is None or not note.process_is_alive:
        return _Status("unsettled", str(root))
    return _Status("silent", str(root), pid=note.pid)


def _addresses(root: Path, daemon: Daemon) -> tuple[str, ...]:
    """All addresses of the daemon; its first one is enough for the client."""
    try:
        return tuple(json.loads((root / ADDRESS_FILE).read_bytes())["addresses"])
    except FileNotFoundError:  # it has begun to stop since it answered
        return (daemon.transport.address,)


def _last_failure(root: Path) -> str:
    try:
        return (root / ERROR_FILE).read_text(errors="replace").strip()
    except OSError:
        return ""


def _plain(found: _Status) -> dict[str, object]:
    plain: dict[str, object] = {
        "state": found.state,
        "running": found.info is not None,
        "root": found.place,
        "client_version": metadata.version("rund"),
    }
    if found.info is not None:
        plain |= {"address": found.addresses[0], "addresses": found.addresses, "daemon": found.info}
    if found.pid:
        plain |= {"pid": found.pid}
    if found.last_failure:
        plain |= {"last_failure": found.last_failure}
    return plain


def _facts(found: _Status) -> Iterator[tuple[str, Cell]]:
    yield "root", found.place
    yield "state", found.state
    if found.pid:
        yield "pid", found.pid
    if found.last_failure:
        yield "last failure", found.last_failure
    if found.info is None:
        return
    info = found.info
    yield "version", info.version
    if (own := metadata.version("rund")) != info.version:
        yield "this command", own
    yield "pid", Shown(info.pid, f"{info.pid} on {info.host}")
    if info.start_time is not None:
        age = (datetime.now(UTC) - info.start_time).total_seconds()
        yield "since", Shown(info.start_time, f"{local_time_text(info.start_time)} ({span_text(age)})")
    for address in found.addresses:
        yield "address", address
    yield "runs", Shown(info.run_count, f"{info.run_count:,}")
    yield "revision", Shown(info.revision, f"{info.revision:,}")


def _remedy(found: _Status) -> str:
    match found.state:
        case "stopped":
            return f"no daemon runs; start one with `rund serve --root {found.place}`"
        case "unreachable":
            return f"no daemon answers at {found.place}; `rund status --root DIR` says on its host where it listens"
        case "unsettled":
            return "a daemon is starting or stopping; look again in a moment"
        case _:
            return (
                f"the daemon does not answer; look at its log, or end it with `rund stop --kill --root {found.place}`"
            )
