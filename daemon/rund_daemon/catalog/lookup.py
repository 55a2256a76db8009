"""Finds runs and their tables in a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rund_daemon.errors import NotFoundError, Reason
from rund_daemon.model import MetricsTable, Run, TableMark, Uid, Values
from rund_daemon.names import MetricsTableName, RunName

from . import keys, records, shelves
from .transaction import Snapshot

INPUT = b"i"
OUTPUT = b"o"

# The same records, of which nothing else is looked at: a run may have thousands.
_WHICH_TABLES: shelves.Shelf[Uid] = shelves.Shelf(shelves.TABLES.name, bytes, records.table_uid_from_bytes)


@dataclass(frozen=True, slots=True)
class TableState:
    """A metrics table and how far it is committed."""

    table: MetricsTable
    mark: TableMark


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with everything that is kept apart from it."""

    run: Run
    inputs: tuple[Values, ...]
    outputs: tuple[Values, ...]
    tables: tuple[TableState, ...]

    @property
    def listed(self) -> tuple[TableState, ...]:
        """Its tables without those that others have replaced."""
        return tuple(state for state in self.tables if not state.table.replaced)


def find_run(snapshot: Snapshot, name: RunName, *, show_deleted: bool = False) -> Run:
    """Gives the run of a name; with `show_deleted`, if none bears it now, the one in trash that was deleted last.

    Raises:
        NotFoundError: RUN_NOT_FOUND.
    """
    uid = snapshot.get(shelves.RUN_NAMES, keys.names(*name))
    run = snapshot.get(shelves.RUNS, uid) if uid else None
    if run is None and show_deleted:
        run = find_trashed(snapshot, name)
    if run is None:
        raise NotFoundError(
            Reason.RUN_NOT_FOUND,
            f"there is no run {name.run!r} in project {name.project!r}",
            resource=f"projects/{name.project}/runs/{name.run}",
        )
    return run


def find_trashed(snapshot: Snapshot, name: RunName) -> Run | None:
    """Gives the run in trash that had a name and was deleted last."""
    found = [uid for _, uid in snapshot.scan(shelves.TRASH_NAMES, keys.names_prefix(*name))]
    runs = (snapshot.get(shelves.RUNS, uid) for uid in found)
    return max((run for run in runs if run), key=lambda run: run.delete_time, default=None)


def run_by_uid(snapshot: Snapshot, uid: Uid) -> Run:
    """Gives the run of a uid, in trash or not."""
    run = snapshot.get(shelves.RUNS, uid)
    if run is None:
        raise NotFoundError(Reason.RUN_NOT_FOUND, f"there is no run with uid {uid.hex()}")
    return run


def find_table(snapshot: Snapshot, name: MetricsTableName) -> TableState:
    """Gives a run's own metrics table.

    Raises:
        NotFoundError: RUN_NOT_FOUND or METRICS_TABLE_NOT_FOUND.
    """
    run = find_run(snapshot, RunName(name.project, name.run))
    number = snapshot.get(shelves.TABLE_NAMES, keys.named(run.uid, name.table))
    table = None if number is None else snapshot.get(shelves.TABLES, keys.numbered(run.uid, number))
    if table is None:
        raise NotFoundError(
            Reason.METRICS_TABLE_NOT_FOUND,
            f"run {name.run!r} has no metrics table {name.table!r}",
            resource=f"projects/{name.project}/runs/{name.run}/metrics/{name.table}",
        )
    return with_mark(snapshot, table)


def table_by_uid(snapshot: Snapshot, uid: Uid) -> MetricsTable | None:
    """Gives the metrics table of a uid."""
    key = snapshot.get(shelves.TABLE_UIDS, uid)
    return snapshot.get(shelves.TABLES, key) if key else None


def tables_of(snapshot: Snapshot, run: Uid, begin: int = 0) -> Iterator[TableState]:
    """Gives a run's tables in order of writing, from a number on."""
    for _, table in snapshot.scan(shelves.TABLES, run, start=keys.numbered(run, begin)):
        yield with_mark(snapshot, table)


def with_mark(snapshot: Snapshot, table: MetricsTable) -> TableState:
    """Adds how far a table is committed."""
    return TableState(table, snapshot.get(shelves.MARKS, table.uid) or TableMark())


def summary_of(snapshot: Snapshot, run: Run) -> RunDetails:
    """Gives a run without its values and tables; its last change counts that of its rows."""
    marks = (snapshot.get(shelves.MARKS, uid) for _, uid in snapshot.scan(_WHICH_TABLES, run.uid))
    last = max((mark.commit_time for mark in marks if mark), default=run.update_time)
    return RunDetails(replace(run, update_time=max(run.update_time, last)), (), (), ())


def bytes_of_rows(snapshot: Snapshot, run: Uid) -> int:
    """Bytes of what is committed of a run's own tables, those in trash not counted."""
    marks = (snapshot.get(shelves.MARKS, uid) for _, uid in snapshot.scan(_WHICH_TABLES, run))
    return sum(mark.bytes for mark in marks if mark)


def details_of(snapshot: Snapshot, run: Run) -> RunDetails:
    """Gives a run with its values and tables."""
    return RunDetails(
        run,
        tuple(value for _, value in snapshot.scan(shelves.VALUES, run.uid + INPUT)),
        tuple(value for _, value in snapshot.scan(shelves.VALUES, run.uid + OUTPUT)),
        tuple(tables_of(snapshot, run.uid)),
    )
