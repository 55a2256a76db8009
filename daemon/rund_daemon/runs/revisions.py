"""The order of all changes of a root."""

from __future__ import annotations

from dataclasses import replace

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.model import Event, EventType, Micros, Run

KEPT_EVENTS = 100_000
"""How many events are kept for watchers that come back."""


def record_change(change: Change, run: Run, type_: EventType, now: Micros) -> Run:
    """Puts a changed run, with its new revision and time, and the event of it. Gives the run as it was put."""
    revision = change.next_revision()
    end_time = (run.end_time or now) if run.status.ended else Micros(0)
    run = replace(run, revision=revision, update_time=max(now, run.update_time), end_time=end_time)
    change.put(shelves.RUNS, run.uid, run)
    change.put(shelves.EVENTS, keys.u64(revision), Event(revision, type_, run.uid, run.project))
    change.delete(shelves.EVENTS, keys.u64(max(revision - KEPT_EVENTS, 0)))
    change.put(shelves.SNAPSHOTS, run.uid, b"")
    if run.status.ended or run.delete_time:
        change.delete(shelves.LIVE_RUNS, run.uid)
    else:
        change.put(shelves.LIVE_RUNS, run.uid, b"")
    return run
