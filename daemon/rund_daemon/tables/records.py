"""Records of input tables, in a transaction: found, put under a name, numbered."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rund_daemon.catalog import Change, Snapshot, keys, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import ExistsError, NotFoundError, Reason
from rund_daemon.model import ColumnSchema, IfExists, InputTable, Micros, TableFormat, Uid
from rund_daemon.names import TableName, with_number
from rund_daemon.quotas import Allowance
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.table_data import TableData


@dataclass(frozen=True, slots=True)
class NewInputTable:
    """What is asked for."""

    name: TableName
    columns: tuple[ColumnSchema, ...] = ()
    description: str = ""
    if_exists: IfExists = IfExists.RAISE


def has_table(snapshot: Snapshot, name: TableName) -> bool:
    """Whether there is an input table of a name."""
    return snapshot.has(shelves.INPUT_TABLE_NAMES, keys.digest(*name))


def table_by_name(snapshot: Snapshot, name: TableName) -> InputTable:
    """Gives an input table. Raises NotFoundError."""
    uid = snapshot.get(shelves.INPUT_TABLE_NAMES, keys.digest(*name))
    table = snapshot.get(shelves.INPUT_TABLES, uid) if uid else None
    if table is None:
        raise NotFoundError(
            Reason.TABLE_NOT_FOUND,
            f"there is no input table {name.table!r} in data set {name.dataset!r} of project {name.project!r}",
        )
    return table


def table_by_url(snapshot: Snapshot, url: str) -> InputTable | None:
    """Gives the table that was registered with a URL."""
    uid = snapshot.get(shelves.INPUT_TABLE_URLS, keys.digest(url))
    return snapshot.get(shelves.INPUT_TABLES, uid) if uid else None


def insert_written(
    change: Change,
    new: NewInputTable,
    data: TableData,
    arrow_schema: bytes,
    *,
    staging: str,
    uid: Uid,
    now: Micros,
    layout: Layout,
    allowance: Allowance,
) -> InputTable:
    """Puts a written table under its name, or gives the one there if it has the same rows.

    Raises:
        ExistsError: TABLE_EXISTS: the name is taken by a table with other rows.
        ExhaustedError: OVER_QUOTA: it is new, and there is no room for it in its project.
    """
    existing = _existing(change, new.name)
    if existing is not None and existing.content_hash == data.content_hash:
        return existing
    name = new.name
    if existing is not None:
        if new.if_exists is not IfExists.RENAME:
            raise ExistsError(
                Reason.TABLE_EXISTS,
                f"open.table_id: data set {name.dataset!r} has a table {name.table!r} with other rows; "
                "choose another name, or if_exists RENAME for a new revision",
                field="open.table_id",
            )
        name, existing = _revision(change, name, data.content_hash)
        if existing is not None:
            return existing
    allowance.check(data.file_size)
    table = InputTable(
        uid=uid,
        project=name.project,
        dataset=name.dataset,
        name=name.table,
        create_time=now,
        row_count=data.row_count,
        file_size=data.file_size,
        format=TableFormat.ARROW,
        input_table_id=next_table_id(change),
        arrow_schema=arrow_schema,
        description=new.description,
        columns=new.columns,
        content_hash=data.content_hash,
    )
    add_move(change, staging, layout.relative(layout.input_table(*name)))
    put_table(change, table)
    return table


def insert_registered(change: Change, table: InputTable) -> InputTable:
    """Puts a registered table; the same URL keeps its name, uid and number."""
    known = table_by_url(change, table.registered_url)
    if known is not None:
        table = replace(
            table,
            uid=known.uid,
            project=known.project,
            dataset=known.dataset,
            name=known.name,
            create_time=known.create_time,
            input_table_id=known.input_table_id,
            columns=table.columns or known.columns,
            description=table.description or known.description,
        )
    else:
        name = TableName(table.project, table.dataset, table.name)
        if change.has(shelves.INPUT_TABLE_NAMES, keys.digest(*name)):
            raise ExistsError(
                Reason.TABLE_EXISTS,
                f"table_id: data set {name.dataset!r} has a table {name.table!r}; choose another name",
                field="table_id",
            )
        table = replace(table, input_table_id=next_table_id(change))
    put_table(change, table)
    change.put(shelves.INPUT_TABLE_URLS, keys.digest(table.registered_url), table.uid)
    return table


def put_table(change: Change, table: InputTable) -> None:
    """Puts a table's record and name, and has its `table.json` written."""
    if change.get(shelves.INPUT_TABLES, table.uid) != table:
        change.put(shelves.SNAPSHOTS, table.uid, b"")
    change.put(shelves.INPUT_TABLES, table.uid, table)
    name = keys.digest(table.project, table.dataset, table.name)
    change.put(shelves.INPUT_TABLE_NAMES, name, table.uid)


def next_table_id(change: Change) -> int:
    """Takes the next `input_table_id` of the root."""
    kept = change.get(shelves.META, keys.NEXT_INPUT_TABLE_ID)
    number = int.from_bytes(kept, "big") if kept else 1
    change.put(shelves.META, keys.NEXT_INPUT_TABLE_ID, keys.u32(number + 1))
    return number


def _existing(change: Change, name: TableName) -> InputTable | None:
    uid = change.get(shelves.INPUT_TABLE_NAMES, keys.digest(*name))
    return change.get(shelves.INPUT_TABLES, uid) if uid else None


def _revision(change: Change, name: TableName, content: bytes) -> tuple[TableName, InputTable | None]:
    """The first free `{table}_0001`, …, or the revision before it that has the same rows."""
    number = 1
    while existing := _existing(change, candidate := name._replace(table=with_number(name.table, number))):
        if existing.content_hash == content:
            return candidate, existing
        number += 1
    return candidate, None
