"""`rund stop`: ends the daemon of a root.

The pid in `daemon.json` is a hint: a process is taken for the daemon only if it started when the file says, the root is
locked, and the daemon at the address says the same of itself.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rund._locate import DaemonFile, read_daemon_file

from .connection import find_daemon_of, root_is_locked
from .exit_codes import ExitCode, Failure
from .options import Target, takes_report, takes_root
from .report import Report

_LOCK_POLL_S = 0.02
_START_TIMEOUT_S = 5.0


@click.command()
@click.option(
    "--timeout",
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long to wait.",
)
@click.option(
    "--kill",
    is_flag=True,
    help="End a daemon that does not answer, or not in time, with SIGKILL. Nothing acked is lost.",
)
@takes_root
@takes_report
def stop(*, timeout: float, kill: bool, root: Path, report: Report) -> None:
    """Stop the daemon of a root.

    It commits what was sent, seals and ends; the command returns when the root is free. If no daemon runs, that is
    said, and all is well.
    """
    deadline = time.monotonic() + timeout
    note = _settled_note(root, deadline)
    if note is None:
        _finish(report, root, None, f"no daemon runs for the root {root}")
        return
    with _process_of(note, root) as process, report.waiting(f"stopping the daemon of {root}"):
        _end(process, note, root, deadline, kill=kill)
        _wait_for_lock(root, note, deadline + 1.0)
    _finish(report, root, note, f"stopped the daemon of the root {root} (pid {note.pid})")


def _settled_note(root: Path, deadline: float) -> DaemonFile | None:
    """Gives the note of the daemon that holds the root, waiting while one starts or stops. None: the root is free."""
    patience = min(deadline, time.monotonic() + _START_TIMEOUT_S)
    while root_is_locked(root):
        note = read_daemon_file(root)
        if note is not None and note.process_is_alive:
            return note
        # Without a file a daemon stops or starts; a file of a process that is gone is overwritten by one that starts.
        if time.monotonic() > (deadline if note is None else patience):
            raise Failure(_unsettled(root) if note is None else _elsewhere(note, root), ExitCode.TIMED_OUT)
        time.sleep(_LOCK_POLL_S)
    return None


@contextmanager
def _process_of(note: DaemonFile, root: Path) -> Iterator[int]:
    """Gives a pidfd of the process that wrote `daemon.json`: unlike a pid it never becomes another process's."""
    try:
        process = os.pidfd_open(note.pid)
    except OSError as error:
        raise Failure(_elsewhere(note, root)) from error
    try:
        # Looked at after the pidfd was taken: if it is the right process now, the pidfd is its.
        if not note.process_is_alive:
            raise Failure(_elsewhere(note, root))
        yield process
    finally:
        os.close(process)


def _unsettled(root: Path) -> str:
    return f"a daemon of the root {root} has been starting or stopping for too long; look at its log"


def _elsewhere(note: DaemonFile, root: Path) -> str:
    return (
        f"the root {root} is in use, but its daemon (pid {note.pid}) is no process that can be seen from here; stop it "
        "on its own host or in its own container"
    )


def _end(process: int, note: DaemonFile, root: Path, deadline: float, *, kill: bool) -> None:
    """Sends SIGTERM and waits for the process to end; with `kill`, what does not help is followed by SIGKILL."""
    daemon = find_daemon_of(Target(root))
    if daemon is not None:
        daemon.transport.close()
        if (daemon.info.pid, daemon.info.instance_id) != (note.pid, note.instance_id):
            raise Failure(f"the root {root} has another daemon than a moment ago; look at `rund status`")
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if _ended(process, deadline):
            return
    if not kill:
        what = "does not answer" if daemon is None else "was told to stop, and has not ended in time"
        raise Failure(
            f"the daemon of the root {root} (pid {note.pid}) {what}; wait longer with --timeout, or end it "
            "with --kill: nothing acked is lost",
            ExitCode.UNAVAILABLE if daemon is None else ExitCode.TIMED_OUT,
        )
    signal.pidfd_send_signal(process, signal.SIGKILL)
    if not _ended(process, time.monotonic() + 5.0):
        raise Failure(f"the daemon (pid {note.pid}) did not end on SIGKILL; the kernel holds it", ExitCode.TIMED_OUT)


def _ended(process: int, deadline: float) -> bool:
    """Waits until a process has ended; False at the deadline."""
    poll = select.poll()
    poll.register(process, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))


def _wait_for_lock(root: Path, note: DaemonFile, deadline: float) -> None:
    """Waits until nobody of that daemon holds the root: a child of its own may outlive it for a moment."""
    while root_is_locked(root):
        present = read_daemon_file(root)
        if present is not None and present.instance_id != note.instance_id:
            return  # another daemon has taken the root meanwhile: this one has ended
        if time.monotonic() > deadline:
            raise Failure(
                f"the daemon (pid {note.pid}) has ended, but the root {root} is still locked, by a process that it "
                "began or by the next daemon",
                ExitCode.TIMED_OUT,
            )
        time.sleep(_LOCK_POLL_S)


def _finish(report: Report, root: Path, note: DaemonFile | None, text: str) -> None:
    if report.as_json:
        report.document({"root": root, "stopped": note is not None, "pid": None if note is None else note.pid})
    report.say(text)
