"""Metrics tables into trash and out of it: those that a reduction has replaced. Their folders move after the commit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rund_daemon.catalog import Change, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import TableState, find_run, with_mark
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import ExistsError, NotFoundError, Reason
from rund_daemon.model import EventType, MetricsTable, Micros, Run, Uid
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.segments.layout import TRASHED_COMMIT_LOG, Layout

from .revisions import record_change
from .trash import Retention


def discard_table(
    change: Change, run: Run, table: MetricsTable, now: Micros, layout: Layout, retention: Retention
) -> None:
    """Takes a table's name and place away and has its folder moved. Whoever calls records the change of the run."""
    change.delete(shelves.TABLES, keys.numbered(run.uid, table.number))
    change.delete(shelves.TABLE_NAMES, keys.named(run.uid, table.name))
    change.delete(shelves.TABLE_UIDS, table.uid)
    expire_time = Micros(now + retention.kept(run.project))
    trashed = replace(table, sealed=True, delete_time=now, expire_time=expire_time)
    change.put(shelves.TRASH_TABLES, run.uid + table.uid, trashed)
    for home, trash in _places(run, table, layout):
        add_move(change, home, trash)


def restore_table(change: Change, name: MetricsTableName, uid: Uid | None, now: Micros, layout: Layout) -> TableState:
    """Gives a table in trash its name and folder back, as the last one of its run.

    Raises:
        NotFoundError: RUN_NOT_FOUND; METRICS_TABLE_NOT_FOUND: there is no such table in trash.
        ExistsError: METRICS_TABLE_EXISTS: another table bears the name now.
    """
    run = find_run(change, RunName(name.project, name.run))
    found = [
        table for table in tables_in_trash(change, run.uid) if table.name == name.table and uid in (None, table.uid)
    ]
    if not found:
        raise NotFoundError(
            Reason.METRICS_TABLE_NOT_FOUND, f"there is no metrics table {name.table!r} of run {name.run!r} in trash"
        )
    if change.has(shelves.TABLE_NAMES, keys.named(run.uid, name.table)):
        raise ExistsError(
            Reason.METRICS_TABLE_EXISTS, f"name: another table of the run is called {name.table!r} now", field="name"
        )
    trashed = max(found, key=lambda table: table.delete_time)
    table = replace(trashed, number=run.next_table, delete_time=Micros(0), expire_time=Micros(0))
    key = keys.numbered(run.uid, table.number)
    change.delete(shelves.TRASH_TABLES, run.uid + table.uid)
    change.put(shelves.TABLES, key, table)
    change.put(shelves.TABLE_UIDS, table.uid, key)
    change.put(shelves.TABLE_NAMES, keys.named(run.uid, table.name), table.number)
    for home, trash in reversed(_places(run, table, layout)):
        add_move(change, trash, home)
    record_change(change, replace(run, next_table=run.next_table + 1), EventType.UPDATED, now)
    return with_mark(change, table)


def tables_in_trash(snapshot: Snapshot, run: Uid | None = None) -> Iterator[MetricsTable]:
    """Gives the tables in trash, of one run or of all."""
    for _, table in snapshot.scan(shelves.TRASH_TABLES, run or b""):
        yield table


def _places(run: Run, table: MetricsTable, layout: Layout) -> list[tuple[str, str]]:
    """Where a table's files lie and where in trash, in the order in which they go there."""
    home, trash = layout.run(run.project, run.name), layout.trashed(table.uid)
    pairs = [
        (layout.metrics_table(home, table.name), trash),
        (layout.commit_log(home, table.name), trash / TRASHED_COMMIT_LOG),
    ]
    return [(layout.relative(source), layout.relative(destination)) for source, destination in pairs]
