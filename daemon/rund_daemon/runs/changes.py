"""What may be changed of a run. Each function checks and writes in the transaction that it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.lookup import INPUT, OUTPUT, find_run
from rund_daemon.catalog.moves import add_move
from rund_daemon.catalog.run_values import put_value
from rund_daemon.errors import ConflictError, ExistsError, Reason
from rund_daemon.limits import Limits
from rund_daemon.model import Cause, CauseKind, EventType, Micros, Run, RunEnd, RunStatus, Values
from rund_daemon.names import RunName
from rund_daemon.segments.layout import Layout

from .creation import check_description, merge_labels, merge_parameters
from .revisions import record_change


@dataclass(frozen=True, slots=True)
class RunUpdate:
    """New values of a run's fields; None leaves one as it is."""

    description: str | None = None
    status: RunStatus | None = None
    cause: Cause | None = None
    labels: Mapping[str, str] | None = None
    parameters: Values | None = None
    name: str | None = None


def check_etag(run: Run, etag: str) -> None:
    """Checks that a run is still what the caller saw.

    Raises:
        ConflictError: ETAG_MISMATCH.
    """
    if etag and etag != run.etag:
        raise ConflictError(
            Reason.ETAG_MISMATCH,
            f"run.etag: {etag[:40]!r} is no longer the run's; read the run again and repeat the change",
            field="run.etag",
            etag=run.etag,
        )


def update_run(
    change: Change, name: RunName, update: RunUpdate, etag: str, *, now: Micros, layout: Layout, limits: Limits
) -> Run:
    """Changes the fields given."""
    run = find_run(change, name)
    check_etag(run, etag)
    if update.name is not None and update.name != run.name:
        run = _rename(change, run, update.name, layout)
    if update.status is not None:
        run = set_status(run, update.status, update.cause)
    elif update.cause is not None:
        run = replace(run, cause=update.cause)
    if update.description is not None:
        run = replace(run, description=check_description(update.description, limits))
    if update.labels is not None:
        run = replace(run, labels=merge_labels({}, dict(update.labels), limits))
    if update.parameters is not None:
        run = replace(run, parameters=update.parameters)
    return record_change(change, run, EventType.UPDATED, now)


def set_status(run: Run, status: RunStatus, cause: Cause | None) -> Run:
    """Gives the run another status. The end of one that goes on is kept among its earlier ends."""
    ends = run.ends
    if run.status.ended and not status.ended:
        ends = (*ends, RunEnd(run.status, run.cause, run.update_time))
    if status is not RunStatus.FAILED:
        cause = None
    elif cause is None:
        cause = Cause(CauseKind.REQUEST)
    return replace(run, status=status, cause=cause, ends=ends)


def set_parameters(change: Change, name: RunName, parameters: Values, now: Micros, limits: Limits) -> Run:
    """Merges parameters by top-level key."""
    run = find_run(change, name)
    merged = merge_parameters(run.parameters, parameters, limits)
    return record_change(change, replace(run, parameters=merged), EventType.UPDATED, now)


def add_value(change: Change, name: RunName, kind: bytes, value: Values, now: Micros) -> Run:
    """Appends an input or an output."""
    assert kind in (INPUT, OUTPUT)
    run = find_run(change, name)
    put_value(change, run.uid, kind, run.next_value, value)
    return record_change(change, replace(run, next_value=run.next_value + 1), EventType.UPDATED, now)


def add_input_table(change: Change, name: RunName, url: str, now: Micros) -> Run:
    """Adds an input table's URL, once."""
    run = find_run(change, name)
    if url in run.input_table_urls:
        return run
    return record_change(change, replace(run, input_table_urls=(*run.input_table_urls, url)), EventType.UPDATED, now)


def _rename(change: Change, run: Run, name: str, layout: Layout) -> Run:
    if change.has(shelves.RUN_NAMES, keys.names(run.project, name)):
        raise ExistsError(
            Reason.RUN_EXISTS,
            f"run.run_name: project {run.project!r} has a run {name!r}; choose another name",
            field="run.run_name",
        )
    change.delete(shelves.RUN_NAMES, keys.names(run.project, run.name))
    change.put(shelves.RUN_NAMES, keys.names(run.project, name), run.uid)
    old, new = layout.run(run.project, run.name), layout.run(run.project, name)
    add_move(change, layout.relative(old), layout.relative(new))
    return replace(run, name=name)
