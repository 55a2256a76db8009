"""Makes the records of one run again: from its `run.json`, and where that is behind or gone, from its tables' own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rund_daemon.catalog import shelves
from rund_daemon.documents import DocumentError, run_of, table_of, uid_of, values_of
from rund_daemon.identity import UidSource
from rund_daemon.model import (
    Cause,
    MetricsTable,
    Micros,
    Run,
    RunStatus,
    StreamMark,
    TableMark,
    Uid,
    Values,
)
from rund_daemon.segments.commit_log import Account, read_account
from rund_daemon.segments.layout import RUN_SNAPSHOT, Layout

from .metrics_tables import RebuiltTable, TableFolder, rebuild_table
from .notes import Note

_TRASH_MICROS = 30 * 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A folder that is a run's by its place. Without a name it lies in trash."""

    path: Path
    project: str = ""
    name: str = ""


@dataclass(slots=True)
class RebuiltRun:
    """The records of a run."""

    run: Run
    inputs: tuple[Values, ...] = ()
    outputs: tuple[Values, ...] = ()
    tables: list[RebuiltTable] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Document:
    """What `run.json` says. Tables by name, references apart."""

    run: Run
    inputs: tuple[Values, ...]
    outputs: tuple[Values, ...]
    tables: Mapping[str, tuple[MetricsTable, Mapping[str, StreamMark]]]
    references: tuple[MetricsTable, ...]


class RunRebuilder:
    """Rebuilds runs one after another: each uid once, whatever was copied by hand."""

    def __init__(self, layout: Layout, boot: str, now: Micros, new_uid: UidSource) -> None:
        self._layout = layout
        self._boot = boot
        self._now = now
        self._new_uid = new_uid
        self._uids: set[Uid] = set()

    def rebuild(self, folder: RunFolder) -> RebuiltRun | None:
        """Makes a run's records; None if the folder holds nothing of a run."""
        notes: list[Note] = []
        document = _read(folder.path / RUN_SNAPSHOT, notes)
        tables = dict(_tables_of(self._layout, folder.path))
        accounts = {name: read_account(self._layout.commit_log(folder.path, name)) for name in tables}
        if document is None and not tables and not (folder.path / RUN_SNAPSHOT).exists():
            return None
        run = document.run if document else self._lost_run(folder, accounts, notes)
        if run is None:
            return None
        built = RebuiltRun(self._placed(run, folder, notes), notes=notes)
        if document:
            built.inputs, built.outputs = document.inputs, document.outputs
        self._add_tables(built, document, tables, accounts)
        numbers = [table.table.number + 1 for table in built.tables]
        values = len(built.inputs) + len(built.outputs)
        run = built.run
        built.run = replace(run, next_value=max(run.next_value, values), next_table=max([run.next_table, *numbers]))
        return built

    def _lost_run(self, folder: RunFolder, accounts: Mapping[str, Account | None], notes: list[Note]) -> Run | None:
        """A run whose `run.json` is gone: its uid is in its tables' logs, its name is its folder's."""
        uid = uid_of(folder.path.name) if not folder.name else None
        for account in accounts.values():
            uid = uid or (uid_of(str(account.table.get("run_uid"))) if account else None)
        if not folder.name:
            notes.append(Note(str(folder.path), "left alone: its run.json is gone, and with it the name", loses=True))
            return None
        uid = uid or self._new_uid()
        message = "its run.json can't be read: description, parameters, labels and the like are gone"
        notes.append(Note(str(folder.path), message, loses=True))
        created = Micros(int.from_bytes(uid[:6], "big") * 1_000)
        cause = Cause(message="the record of the run was lost; it was made again from its files")
        return Run(uid, folder.project, folder.name, created, self._now, status=RunStatus.FAILED, cause=cause)

    def _placed(self, run: Run, folder: RunFolder, notes: list[Note]) -> Run:
        """Where the folder lies decides: `run.json` is written after a move."""
        if folder.name:
            run = replace(run, project=folder.project, name=folder.name, delete_time=Micros(0), expire_time=Micros(0))
        elif not run.delete_time:
            run = replace(run, delete_time=self._now, expire_time=Micros(self._now + _TRASH_MICROS))
        if run.uid in self._uids or (not folder.name and run.uid != uid_of(folder.path.name)):
            notes.append(Note(str(folder.path), "it has a new uid: another run has the one in its run.json"))
            run = replace(run, uid=self._new_uid(), writers=())
        self._uids.add(run.uid)
        return run

    def _add_tables(
        self,
        built: RebuiltRun,
        document: _Document | None,
        folders: Mapping[str, Path],
        accounts: Mapping[str, Account | None],
    ) -> None:
        said = document.tables if document else {}
        free = max([built.run.next_table, *(table.number + 1 for table, _ in said.values())])
        for name in sorted({*folders, *said}):
            account = accounts.get(name)
            table, streams = said.get(name) or (_table_of_log(account, name), {})
            if table is None:
                table = MetricsTable(self._new_uid(), built.run.uid, free, name, built.run.create_time)
                free += 1
                built.notes.append(Note(str(folders[name]), "its record is gone: stream name and columns are as found"))
            folder = folders.get(name) or self._layout.metrics_table(self._home(built.run), name)
            self._add_table(built, rebuild_table(table, TableFolder.of(folder), account, streams, self._boot))
        for reference in document.references if document else ():
            self._add_table(built, RebuiltTable(reference, TableMark()))
        built.tables.sort(key=lambda rebuilt: rebuilt.table.number)
        self._number_anew(built)

    def _add_table(self, built: RebuiltRun, table: RebuiltTable) -> None:
        record = replace(table.table, run_uid=built.run.uid)
        if record.uid in self._uids:
            record = replace(record, uid=self._new_uid())
        self._uids.add(record.uid)
        table.table = record
        built.tables.append(table)
        built.notes.extend(table.notes)

    def _home(self, run: Run) -> Path:
        return self._layout.trashed(run.uid) if run.delete_time else self._layout.run(run.project, run.name)

    @staticmethod
    def _number_anew(built: RebuiltRun) -> None:
        """Two tables never share a number, whatever a log and a `run.json` say."""
        seen: set[int] = set()
        for table in built.tables:
            number = table.table.number
            if number in seen:
                number = max(seen) + 1
                table.table = replace(table.table, number=number)
            seen.add(number)


def _read(path: Path, notes: list[Note]) -> _Document | None:
    try:
        content: Any = json.loads(path.read_bytes())
        run, inputs, outputs = run_of(content["run"]), values_of(content["inputs"]), values_of(content["outputs"])
        metrics = [(table_of(item), _streams_of(item)) for item in content["metrics"]]
        # What has the right form may still be more than a record can hold.
        shelves.RUNS.encode(run)
        for value in (*inputs, *outputs):
            shelves.VALUES.encode(value)
        for table, _ in metrics:
            shelves.TABLES.encode(table)
        return _Document(
            run,
            inputs,
            outputs,
            {table.name: (table, streams) for table, streams in metrics if table.name},
            tuple(table for table, _ in metrics if not table.name),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DocumentError) as error:
        notes.append(Note(str(path), f"it can't be read: {type(error).__name__}: {str(error)[:200]}", loses=True))
        return None


def _streams_of(item: Mapping[str, Any]) -> Mapping[str, StreamMark]:
    streams = item.get("streams", {})
    return {str(name): StreamMark(int(mark[0]), position=int(mark[1])) for name, mark in streams.items()}


def _tables_of(layout: Layout, run: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted((run / "metrics").glob("*")):
        if path.is_dir() and not path.name.startswith("."):
            yield path.name, path
    for log in sorted((run / "commits").glob("*.jsonl")):
        yield log.stem, layout.metrics_table(run, log.stem)


def _table_of_log(account: Account | None, name: str) -> MetricsTable | None:
    if account is None:
        return None
    try:
        table = table_of(account.table)
        shelves.TABLES.encode(table)
    except (TypeError, ValueError):
        return None
    return table if table.name == name else None
