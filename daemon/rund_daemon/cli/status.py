"""`rund status`: whether a daemon runs for a root, and which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import click
from rund._errors import DaemonUnavailableError, WaitTimeoutError

from rund_daemon.root import ERROR_FILE

from .connection import Connection, Note, connect, connect_to_note, read_note, root_is_locked
from .exit_codes import ExitCode
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .wording import local_time_text, span_text


@dataclass(frozen=True, slots=True)
class _Status:
    """What was found at a root or an address.

    Attributes:
        state: `running`; `silent`: its process lives, but does not answer; `unsettled`: one is starting or stopping;
            `stopped`.
        place: the root, or the address when no root is known.
        connection: set when it runs.
        note: what `daemon.json` says, if there is one.
        last_failure: why the last start failed, if it did and none has succeeded since.
    """

    state: str
    place: str
    connection: Connection | None = None
    note: Note | None = None
    last_failure: str = ""


@click.command()
@takes_target
@takes_report
def status(*, target: Target, report: Report) -> None:
    """Show whether a daemon runs, and which. Exits with 4 if none does."""
    found = _look(target)
    if report.as_json:
        report.document(_plain(found))
    else:
        report.facts(_facts(found))
        if found.connection is None:
            report.hint(_remedy(found))
    if found.connection is None:
        click.get_current_context().exit(ExitCode.UNAVAILABLE)


def _look(target: Target) -> _Status:
    if target.address:
        try:
            connection = connect(target)
        except (DaemonUnavailableError, WaitTimeoutError):
            return _Status("stopped", target.address)
        return _Status("running", connection.info.root_url, connection)
    root = target.root
    assert root is not None
    note = read_note(root)
    found = None if note is None else connect_to_note(root, note, target.token)
    if found is not None:
        return _Status("running", str(root), found, note)
    if root_is_locked(root):
        silent = note is not None and note.process_lives
        return _Status("silent" if silent else "unsettled", str(root), None, note if silent else None)
    return _Status("stopped", str(root), None, None, _last_failure(root))


def _last_failure(root: Path) -> str:
    try:
        return (root / ERROR_FILE).read_text(errors="replace").strip()
    except OSError:
        return ""


def _plain(found: _Status) -> dict[str, object]:
    plain: dict[str, object] = {
        "state": found.state,
        "running": found.connection is not None,
        "root": found.place,
        "client_version": metadata.version("rund"),
    }
    if found.connection is not None:
        plain |= {
            "address": found.connection.transport.address,
            "addresses": _addresses(found),
            "daemon": found.connection.info,
        }
    elif found.note is not None:
        plain |= {"pid": found.note.pid}
    if found.last_failure:
        plain |= {"last_failure": found.last_failure}
    return plain


def _facts(found: _Status) -> Iterator[tuple[str, Cell]]:
    yield "root", found.place
    yield "state", found.state
    if found.connection is None:
        if found.note is not None:
            yield "pid", found.note.pid
        if found.last_failure:
            yield "last failure", found.last_failure
        return
    info = found.connection.info
    yield "version", info.version
    if (own := metadata.version("rund")) != info.version:
        yield "this command", own
    yield "pid", Shown(info.pid, f"{info.pid} on {info.host}")
    if info.start_time is not None:
        age = (datetime.now(UTC) - info.start_time).total_seconds()
        yield "since", Shown(info.start_time, f"{local_time_text(info.start_time)} ({span_text(age)})")
    for address in _addresses(found):
        yield "address", address
    yield "runs", Shown(info.run_count, f"{info.run_count:,}")
    yield "revision", Shown(info.revision, f"{info.revision:,}")


def _remedy(found: _Status) -> str:
    if found.state == "stopped":
        return f"start one with `rund serve --root {found.place}`"
    if found.state == "unsettled":
        return "it is starting or stopping; look again in a moment"
    return f"look at its log, or end it with `rund stop --kill --root {found.place}`"


def _addresses(found: _Status) -> tuple[str, ...]:
    if found.note is not None:
        return found.note.addresses
    assert found.connection is not None
    return (found.connection.transport.address,)
