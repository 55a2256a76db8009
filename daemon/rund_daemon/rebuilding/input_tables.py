"""Makes the records of input tables again: from their `table.json`, else from their rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from rund_daemon.catalog import shelves
from rund_daemon.documents import DocumentError, input_table_of
from rund_daemon.errors import RundError
from rund_daemon.identity import UidSource
from rund_daemon.model import InputTable, Micros, TableFormat, Uid
from rund_daemon.names import TableName
from rund_daemon.segments.heads import segment_head
from rund_daemon.segments.layout import TABLE_DATA, TABLE_SNAPSHOT
from rund_daemon.segments.registered import probe
from rund_daemon.segments.table_data import content_hash_of

from .notes import Note


class InputTableRebuilder:
    """Rebuilds input tables one after another.

    `known_ids` maps the URLs of tables to the numbers that the metrics of some run have for them.
    """

    def __init__(self, known_ids: Mapping[str, int], new_uid: UidSource) -> None:
        self._known_ids = known_ids
        self._new_uid = new_uid
        self._uids: set[Uid] = set()
        self._ids: set[int] = set()
        self.notes: list[Note] = []

    @property
    def next_id(self) -> int:
        """The first number that no table has."""
        return max([0, *self._ids, *self._known_ids.values()]) + 1

    def rebuild(self, folder: Path, name: TableName) -> InputTable | None:
        """Makes a table's record; None if the folder holds nothing of one."""
        table = self._by_document(folder, name) or self._by_rows(folder, name)
        if table is None:
            return None
        if table.uid in self._uids:
            self.notes.append(Note(str(folder), "it has a new uid: another table has the one in its table.json"))
            table = replace(table, uid=self._new_uid())
        if table.input_table_id in self._ids:
            message = "it has a new number: rows that refer to it by its old one refer to another table"
            self.notes.append(Note(str(folder), message, loses=True))
            table = replace(table, input_table_id=self.next_id)
        self._uids.add(table.uid)
        self._ids.add(table.input_table_id)
        return table

    def _by_document(self, folder: Path, name: TableName) -> InputTable | None:
        path = folder / TABLE_SNAPSHOT
        try:
            table = input_table_of(json.loads(path.read_bytes())["table"])
            shelves.INPUT_TABLES.encode(table)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, DocumentError) as error:
            self.notes.append(Note(str(path), f"it can't be read: {type(error).__name__}: {str(error)[:200]}"))
            return None
        return replace(table, project=name.project, dataset=name.dataset, name=name.table)

    def _by_rows(self, folder: Path, name: TableName) -> InputTable | None:
        path = folder / TABLE_DATA
        if not path.exists():
            return None
        try:
            found = probe(path)
            content_hash = content_hash_of(path)
        except (RundError, OSError, ValueError) as error:
            self.notes.append(Note(str(path), f"left alone, it can't be read: {str(error)[:200]}", loses=True))
            return None
        self.notes.append(Note(str(folder), "its table.json is gone: made again from its rows"))
        return InputTable(
            uid=self._new_uid(),
            project=name.project,
            dataset=name.dataset,
            name=name.table,
            create_time=Micros(path.stat().st_mtime_ns // 1_000),
            row_count=found.row_count,
            file_size=found.file_size,
            format=TableFormat.ARROW,
            input_table_id=self._known_ids.get(str(folder)) or self.next_id,
            arrow_schema=segment_head(found.schema, (), {}),
            content_hash=content_hash,
        )
