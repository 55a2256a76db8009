"""Counts what a project holds: rows by what the catalog has committed, the rest by its files. Blocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import bytes_of_rows
from rund_daemon.model import InputTable, Uid
from rund_daemon.names import RunName
from rund_daemon.segments.layout import BULK_DATA, Layout
from rund_daemon.segments.space import size_of

# A view of the catalog keeps its pages from being used again: it is taken anew after so many runs.
_RUNS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """What a project holds.

    Attributes:
        project: its name.
        run_count: runs, those in trash not counted.
        trashed_run_count: runs in trash.
        held_bytes: bytes of metrics tables, of input tables that were written through the daemon, of `bulk_data` and of
            reducers, in trash or not. What is linked from several runs counts for each of them.
        trashed_bytes: those of them that are in trash.
    """

    project: str
    run_count: int
    trashed_run_count: int
    held_bytes: int
    trashed_bytes: int


def usage_of(catalog: Catalog, layout: Layout, project: str) -> ProjectUsage:
    """Counts what a project holds."""
    prefix = keys.names_prefix(project)
    with catalog.snapshot() as snapshot:
        live = {Uid(uid): key[len(prefix) :].decode() for key, uid in snapshot.scan(shelves.RUN_NAMES, prefix)}
        trashed = [Uid(uid) for _, uid in snapshot.scan(shelves.TRASH_NAMES, prefix)]
        replaced = sum(_bytes_of_replaced(snapshot, {*live, *trashed}))
        inputs = sum(_bytes_of_inputs(snapshot, project))
        reducers = [key[len(prefix) :].decode() for key, _ in snapshot.scan(shelves.REDUCER_NAMES, prefix)]
    kept = inputs + _bytes_of_runs(catalog, list(live))
    kept += _bytes_in(layout.bulk_data(project, name) for name in live.values())
    kept += _bytes_in(layout.reducer(project, name) for name in reducers)
    gone = replaced + _bytes_of_runs(catalog, trashed)
    gone += _bytes_in(layout.trashed(uid) / BULK_DATA for uid in trashed)
    return ProjectUsage(project, len(live), len(trashed), kept + gone, gone)


def size_of_run(catalog: Catalog, layout: Layout, name: RunName) -> int:
    """Bytes of a run's tables and of its `bulk_data`; 0 if there is no such run."""
    with catalog.snapshot() as snapshot:
        uid = snapshot.get(shelves.RUN_NAMES, keys.names(*name))
        rows = bytes_of_rows(snapshot, uid) if uid else 0
    return rows + (size_of(layout.bulk_data(*name)) if uid else 0)


def all_projects(catalog: Catalog) -> list[str]:
    """The projects that have runs or input tables, by name."""
    with catalog.snapshot() as snapshot:
        return sorted({*_projects_with_runs(snapshot), *(table.project for table in _input_tables(snapshot))})


def _projects_with_runs(snapshot: Snapshot) -> Iterator[str]:
    start = b""
    while (entry := next(snapshot.scan(shelves.PROJECT_RUNS, start=start), None)) is not None:
        name = entry[0].partition(keys.NUL)[0]
        yield name.decode()
        # Behind all runs of this project, whose names go on with ␀.
        start = name + b"\1"


def _input_tables(snapshot: Snapshot) -> Iterator[InputTable]:
    for _, table in snapshot.scan(shelves.INPUT_TABLES):
        yield table


def _bytes_of_inputs(snapshot: Snapshot, project: str) -> Iterator[int]:
    for table in _input_tables(snapshot):
        # The rows of a registered one lie elsewhere, and are somebody else's.
        if table.project == project and not table.registered_url:
            yield table.file_size


def _bytes_of_replaced(snapshot: Snapshot, runs: set[Uid]) -> Iterator[int]:
    """Of metrics tables in trash: those that reductions have replaced."""
    for key, table in snapshot.scan(shelves.TRASH_TABLES):
        mark = snapshot.get(shelves.MARKS, table.uid) if key[:16] in runs else None
        yield mark.bytes if mark else 0


def _bytes_of_runs(catalog: Catalog, runs: list[Uid]) -> int:
    total = 0
    for begin in range(0, len(runs), _RUNS_AT_ONCE):
        with catalog.snapshot() as snapshot:
            total += sum(bytes_of_rows(snapshot, uid) for uid in runs[begin : begin + _RUNS_AT_ONCE])
    return total


def _bytes_in(folders: Iterable[Path]) -> int:
    return sum(map(size_of, folders))
