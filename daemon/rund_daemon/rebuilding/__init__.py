"""`rund fsck --rebuild`: makes a lost catalog again from what the files say.

The old catalog is not looked at, and it is kept aside. The new one is built beside it and takes its place with one
rename, so whoever dies half-way leaves the old state or the new. What is not in files is gone: the requests that were
carried out, the changes for watchers, and the long-running operations.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.catalog import build_catalog
from rund_daemon.errors import RundError
from rund_daemon.identity import UidSource
from rund_daemon.model import Micros, Revision
from rund_daemon.names import ReducerName, TableName, check_name, check_project
from rund_daemon.segments.layout import Layout

from .input_tables import InputTableRebuilder
from .notes import Note
from .records import put_counters, put_input_table, put_reducer, put_run
from .reducers import rebuild_reducer
from .runs import RebuiltRun, RunFolder, RunRebuilder

__all__ = ["Note", "Rebuilt", "RebuiltRunSummary", "holds_runs", "rebuild"]

_TRASHED = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class RebuiltRunSummary:
    """What became of one run."""

    name: str
    tables: int
    rows: int
    notes: tuple[Note, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild made, and what it could not make.

    `kept_aside` is the folder with the old catalog; None if there was none.
    """

    runs: tuple[RebuiltRunSummary, ...]
    input_tables: int
    notes: tuple[Note, ...]
    kept_aside: Path | None

    @property
    def loses(self) -> bool:
        """Whether something that was recorded could not be kept."""
        return any(note.loses for note in (*self.notes, *(note for run in self.runs for note in run.notes)))


def rebuild(layout: Layout, map_size: int, boot: str, now: Micros, new_uid: UidSource) -> Rebuilt:
    """Makes the catalog of a root again. Nobody else may have the root.

    Args:
        layout: the root.
        map_size: bytes of address space for the catalog.
        boot: this boot of the host.
        now: the time.
        new_uid: makes uids for what has lost its own.

    Raises:
        OSError: it could not be written; the old catalog is as it was.
    """
    summaries: list[RebuiltRunSummary] = []
    notes: list[Note] = []
    ids: dict[str, int] = {}
    revision = Revision(0)
    runs = RunRebuilder(layout, boot, now, new_uid)
    with build_catalog(layout.catalog, map_size, now) as build:
        for folder in _run_folders(layout, notes):
            built = runs.rebuild(folder)
            if built is None:
                notes.append(_left_alone(layout, folder.path))
                continue
            build.change(lambda change, built=built: put_run(change, built))  # type: ignore[misc]  # the default binds the loop's value
            revision = Revision(max(revision, built.run.revision))
            ids |= _input_table_ids(built)
            summaries.append(_summary(built))
        tables = InputTableRebuilder(ids, new_uid)
        count = 0
        for path, name in _table_folders(layout, notes):
            table = tables.rebuild(path, name)
            if table is not None:
                build.change(lambda change, table=table: put_input_table(change, table))  # type: ignore[misc]  # likewise
                count += 1
        for path, reducer_name in _reducer_folders(layout, notes):
            reducer = rebuild_reducer(path, reducer_name)
            if isinstance(reducer, Note):
                notes.append(reducer)
            else:
                build.change(lambda change, reducer=reducer: put_reducer(change, reducer))  # type: ignore[misc]  # likewise
        build.change(lambda change: put_counters(change, revision, tables.next_id))
        kept_aside = build.publish()
    return Rebuilt(tuple(summaries), count, (*notes, *tables.notes), kept_aside)


def holds_runs(layout: Layout) -> bool:
    """Whether there are runs or tables in a root, whatever its catalog says."""
    return any((path / "runs").is_dir() or (path / "datasets").is_dir() for path in _folders(layout.root))


def _run_folders(layout: Layout, notes: list[Note]) -> Iterator[RunFolder]:
    for project in _folders(layout.root):
        for path in _folders(project / "runs"):
            try:
                names = check_project(project.name, "project"), check_name(path.name, "run")
                if names == (project.name, path.name):
                    yield RunFolder(path, *names)
            except RundError as error:
                notes.append(Note(str(path), f"left alone: {error.message}"))
    for path in _folders(layout.trash):
        if _TRASHED.fullmatch(path.name):
            yield RunFolder(path)


def _table_folders(layout: Layout, notes: list[Note]) -> Iterator[tuple[Path, TableName]]:
    for path in sorted(layout.root.glob("*/datasets/*/tables/*")):
        project, dataset, table = path.parts[-5], path.parts[-3], path.parts[-1]
        try:
            names = TableName(check_project(project, "project"), check_name(dataset, "data set"), check_name(table, ""))
        except RundError as error:
            notes.append(Note(str(path), f"left alone: {error.message}"))
            continue
        yield path, names


def _reducer_folders(layout: Layout, notes: list[Note]) -> Iterator[tuple[Path, ReducerName]]:
    for path in sorted(layout.root.glob("*/reducers/*")):
        try:
            yield path, ReducerName(check_project(path.parts[-3], "project"), check_name(path.name, "reducer"))
        except RundError as error:
            notes.append(Note(str(path), f"left alone: {error.message}"))


def _left_alone(layout: Layout, path: Path) -> Note:
    if path.parent != layout.trash:
        return Note(str(path), "left alone: there is nothing of a run in it")
    stray = path.with_name(f"stray-{path.name}")
    path.rename(stray)
    return Note(str(stray), "there is nothing of a run in it: it goes when what is nobody's has expired")


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _input_table_ids(built: RebuiltRun) -> dict[str, int]:
    tables = (table.table for table in built.tables)
    return {table.foreign_table_url: table.input_table_id for table in tables if table.input_table_id}


def _summary(built: RebuiltRun) -> RebuiltRunSummary:
    run = built.run
    where = " (in trash)" if run.delete_time else ""
    rows = sum(table.mark.rows for table in built.tables)
    return RebuiltRunSummary(run.resource_name + where, len(built.tables), rows, tuple(built.notes))
