"""What becomes of a run's writers, and of the run with them.

It ends with the last one, and goes on with one that is back. Each function checks and writes in the transaction that it
is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from rund_daemon.catalog import Change, shelves
from rund_daemon.catalog.lookup import find_run
from rund_daemon.errors import InvalidError
from rund_daemon.model import Cause, CauseKind, EventType, Micros, Run, RunStatus, Uid, Writer
from rund_daemon.names import RunName

from .changes import set_status
from .revisions import record_change

_INFERRED = (CauseKind.SILENCE, CauseKind.HOST_RESTART)
"""Ends that were concluded and not seen, so that the writer may come back after all."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends, or one writer's part in it."""

    status: RunStatus
    cause: Cause | None = None
    writer_id: str = ""
    dropped_rows: int = 0


def writer_of(run: Run, writer_id: str) -> Writer | None:
    """Gives the writer of this id."""
    return next((writer for writer in run.writers if writer.writer_id == writer_id), None)


def is_taken_for_dead(writer: Writer) -> bool:
    """Whether the writer's end was concluded, and a sign of its life would say otherwise."""
    return bool(writer.finish_time) and writer.cause is not None and writer.cause.kind in _INFERRED


def finish_run(change: Change, name: RunName, ending: Ending, now: Micros) -> Run:
    """Ends the run, or one writer's part in it; the run ends with its last writer.

    Raises:
        InvalidError: the status is none that a run can end with.
    """
    status, cause = ending.status, ending.cause
    if not status.ended:
        raise InvalidError("status", f"{status} is no end; use COMPLETED, CANCELLED or FAILED")
    run = find_run(change, name)
    if ending.writer_id:
        run = _finish_writer(_with_writer_back(run, ending.writer_id), ending, now)
        if any(not writer.finish_time for writer in run.writers):
            if status is RunStatus.FAILED and cause and run.cause is None:
                run = replace(run, cause=cause)
            return record_change(change, run, EventType.UPDATED, now)
        if _has_failed(run):
            status, cause = RunStatus.FAILED, run.cause or cause
    return record_change(change, set_status(run, status, cause), EventType.UPDATED, now)


def bury_writer(change: Change, uid: Uid, ending: Ending, now: Micros, is_dead: Callable[[], bool]) -> Run | None:
    """Ends the part of a writer that has vanished; the run ends with its last one.

    Args:
        change: the transaction.
        uid: of the run.
        ending: what is known of the writer's end.
        now: when it is noticed.
        is_dead: asked last of all: the writer may have been heard of since its end was concluded.

    Returns:
        The run; None if there was nothing to do.
    """
    run = change.get(shelves.RUNS, uid)
    writer = writer_of(run, ending.writer_id) if run else None
    if run is None or writer is None or writer.finish_time or run.status.ended or not is_dead():
        return None
    run = _finish_writer(run, ending, now)
    if ending.status is RunStatus.FAILED and run.cause is None:
        run = replace(run, cause=ending.cause)
    if not any(not writer.finish_time for writer in run.writers):
        run = set_status(run, RunStatus.FAILED if _has_failed(run) else ending.status, run.cause)
    return record_change(change, run, EventType.UPDATED, now)


def report_writer(change: Change, uid: Uid, writer_id: str, dropped_rows: int, alive: bool, now: Micros) -> Run | None:
    """Notes what was said of a writer; None if it is nothing new."""
    before = change.get(shelves.RUNS, uid)
    if before is None:
        return None
    run = _with_writer_back(before, writer_id) if alive else before
    known = writer_of(run, writer_id)
    if dropped_rows > (known.dropped_rows if known else 0):
        run = _with_writer(run, replace(known or Writer(writer_id, finish_time=now), dropped_rows=dropped_rows))
    return None if run is before else record_change(change, run, EventType.UPDATED, now)


def _with_writer_back(run: Run, writer_id: str) -> Run:
    writer = writer_of(run, writer_id)
    if writer is None or not is_taken_for_dead(writer) or run.delete_time:
        return run
    failed = run.status is RunStatus.FAILED
    if run.status.ended and not failed:
        return run
    run = _with_writer(run, replace(writer, finish_time=Micros(0), status=None, cause=None))
    if failed:
        return set_status(run, RunStatus.RUNNING, None)
    return replace(run, cause=next((other.cause for other in run.writers if other.cause), None))


def _has_failed(run: Run) -> bool:
    """Whether one of its writers has failed since the run was last resumed."""
    resumed = run.ends[-1].end_time if run.ends else 0
    return any(writer.status is RunStatus.FAILED and writer.finish_time > resumed for writer in run.writers)


def _finish_writer(run: Run, ending: Ending, now: Micros) -> Run:
    writer = writer_of(run, ending.writer_id) or Writer(ending.writer_id)
    dropped_rows = max(writer.dropped_rows, ending.dropped_rows)
    cause = ending.cause if ending.status is RunStatus.FAILED else None
    return _with_writer(
        run, replace(writer, finish_time=now, status=ending.status, cause=cause, dropped_rows=dropped_rows)
    )


def _with_writer(run: Run, writer: Writer) -> Run:
    if writer_of(run, writer.writer_id) is None:
        return replace(run, writers=(*run.writers, writer))
    writers = (writer if other.writer_id == writer.writer_id else other for other in run.writers)
    return replace(run, writers=tuple(writers))
