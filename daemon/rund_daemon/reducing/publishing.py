"""Puts new tables in the place of those that they were made of, in one transaction with the reducers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.lookup import run_by_uid, with_mark
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import ConflictError, Reason
from rund_daemon.model import (
    ColumnSchema,
    EventType,
    KeptReducer,
    MetricsTable,
    Micros,
    Run,
    TableMark,
    Uid,
)
from rund_daemon.names import MAX_NAME_BYTES, with_number
from rund_daemon.runs.revisions import record_change
from rund_daemon.runs.trash import Retention
from rund_daemon.runs.trashed_tables import discard_table
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.spare_numbers import NUMBERS_A_SEGMENT

from .orders import MadeTable
from .planning import Source


@dataclass(frozen=True, slots=True)
class Replacement:
    """A table that was made, and the folder that it lies in."""

    source: Source
    uid: Uid
    head: bytes
    columns: tuple[ColumnSchema, ...]
    made: MadeTable
    folder: Path


@dataclass(frozen=True, slots=True)
class NewReducer:
    """A reducer that was fitted, and the folder that it lies in. It gets its name when it is put in place."""

    reducer: KeptReducer
    folder: Path


@dataclass(frozen=True, slots=True)
class Published:
    """URLs of the tables by those of their sources, with their runs, and the names of new reducers."""

    tables: Mapping[tuple[str, str], str]
    reducers: tuple[str, ...]


class Publisher:
    """Publishes what reductions have made."""

    def __init__(self, layout: Layout, retention: Retention) -> None:
        self._layout = layout
        self._retention = retention

    def publish(
        self,
        change: Change,
        replacements: Sequence[Replacement],
        reducers: Sequence[NewReducer],
        suffix: str,
        now: Micros,
        *,
        delete_sources: bool,
    ) -> Published:
        """Replaces the tables.

        Args:
            change: the transaction.
            replacements: the tables.
            reducers: the reducers.
            suffix: ends the names of the new tables.
            now: the time.
            delete_sources: whether the sources go to trash. Else they stay where they are, and are listed no more.

        Raises:
            NotFoundError: a run was removed meanwhile.
            ConflictError: a table was changed meanwhile.
        """
        names = tuple(self._put_reducer(change, new, now) for new in reducers)
        tables: dict[tuple[str, str], str] = {}
        for replacement in replacements:
            source = replacement.source.state.table
            run = run_by_uid(change, source.run_uid)
            self._check_unchanged(change, run, replacement.source)
            # In this order: the place of the old one is the new one's.
            if delete_sources:
                discard_table(change, run, source, now, self._layout, self._retention)
            else:
                run = _hide(change, run, source)
            table = self._put(change, run, replacement, suffix, now)
            record_change(change, run, EventType.UPDATED, now)
            tables[run.resource_name, source.url] = table.url
        return Published(tables, names)

    def _check_unchanged(self, change: Change, run: Run, source: Source) -> None:
        before = source.state
        current = change.get(shelves.TABLES, keys.numbered(run.uid, before.table.number))
        # Sealing gives segments other places, and changes neither the record nor the number of rows.
        if (
            run.delete_time
            or current is None
            or replace(current, sealed=True) != replace(before.table, sealed=True)
            or with_mark(change, current).mark.rows != before.mark.rows
        ):
            raise ConflictError(
                Reason.WRONG_STATE,
                f"{before.table.url} of run {run.name!r} was changed while it was reduced, and stays so; try again",
            )

    def _put(self, change: Change, run: Run, replacement: Replacement, suffix: str, now: Micros) -> MetricsTable:
        source, made = replacement.source.state.table, replacement.made
        table = replace(
            source,
            uid=replacement.uid,
            name=_free_table_name(change, run, source.name, suffix),
            create_time=now,
            columns=replacement.columns,
            arrow_schema=replacement.head,
            sealed=True,
        )
        key = keys.numbered(run.uid, table.number)
        change.put(shelves.TABLES, key, table)
        change.put(shelves.TABLE_UIDS, table.uid, key)
        change.put(shelves.TABLE_NAMES, keys.named(run.uid, table.name), table.number)
        mark = TableMark(
            rows=sum(segment.rows for segment in made.segments),
            batches=len(made.refs),
            bytes=sum(segment.length for segment in made.segments),
            commit_time=now,
            next_segment=made.segments[-1].number + NUMBERS_A_SEGMENT,
        )
        change.put(shelves.MARKS, table.uid, mark)
        for segment in made.segments:
            change.put(shelves.SEGMENTS, keys.numbered(table.uid, segment.number), segment)
        for ref in made.refs:
            if ref.rows:
                change.put(shelves.BATCHES, keys.batch(table.uid, ref.first_row), ref)
        home = self._layout.run(run.project, run.name)
        self._move(change, replacement.folder, self._layout.metrics_table(home, table.name))
        return table

    def _put_reducer(self, change: Change, new: NewReducer, now: Micros) -> str:
        reducer = replace(new.reducer, create_time=now, name=_free_reducer_name(change, new.reducer))
        change.put(shelves.REDUCERS, reducer.uid, reducer)
        change.put(shelves.REDUCER_NAMES, keys.names(reducer.project, reducer.name), reducer.uid)
        self._move(change, new.folder, self._layout.reducer(reducer.project, reducer.name))
        return reducer.resource_name

    def _move(self, change: Change, source: Path, destination: Path) -> None:
        add_move(change, self._layout.relative(source), self._layout.relative(destination))


def reducer_document(reducer: KeptReducer) -> bytes:
    """What a reducer's folder says of it. Its name is the folder's, and is not known yet."""
    document = {
        "format": 1,
        "uid": reducer.uid.hex(),
        "parameters": json.loads(reducer.parameters),
        "source_column": reducer.source_column,
        "target_column": reducer.target_column,
        "fit_table_url": reducer.fit_table_url,
        "fit_row_count": reducer.fit_row_count,
        "input_width": reducer.input_width,
        "fingerprint": reducer.fingerprint.hex(),
        "library_versions": dict(reducer.library_versions),
        "quality": dict(reducer.quality),
        "warnings": list(reducer.warnings),
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def _hide(change: Change, run: Run, table: MetricsTable) -> Run:
    """Gives a table a place behind all others, where it is listed no more."""
    hidden = replace(table, number=run.next_table, sealed=True, replaced=True)
    key = keys.numbered(run.uid, hidden.number)
    change.put(shelves.TABLES, key, hidden)
    change.put(shelves.TABLE_UIDS, table.uid, key)
    change.put(shelves.TABLE_NAMES, keys.named(run.uid, table.name), hidden.number)
    return replace(run, next_table=run.next_table + 1)


def _free_table_name(change: Change, run: Run, name: str, suffix: str) -> str:
    wanted, number = _ended(name, suffix), 1
    found = wanted
    while change.has(shelves.TABLE_NAMES, keys.named(run.uid, found)):
        number += 1
        found = with_number(wanted, number)
    return found


def _free_reducer_name(change: Change, reducer: KeptReducer) -> str:
    found, number = reducer.name, 1
    while change.has(shelves.REDUCER_NAMES, keys.names(reducer.project, found)):
        number += 1
        found = with_number(reducer.name, number)
    return found


def _ended(name: str, suffix: str) -> str:
    ending = f"_{suffix}"
    return name.encode()[: MAX_NAME_BYTES - len(ending.encode())].decode(errors="ignore") + ending
