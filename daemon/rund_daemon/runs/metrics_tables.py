"""A run's metrics tables: made, registered and sealed. Their rows are the business of `ingest` and `segments`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.lookup import TableState, find_run, tables_of, with_mark
from rund_daemon.errors import ExistsError, InvalidError, NotFoundError, Reason
from rund_daemon.model import (
    DEFAULT_STREAM_NAME,
    ColumnSchema,
    EventType,
    InputTable,
    MetricsTable,
    Micros,
    Run,
    Uid,
    Values,
)
from rund_daemon.names import RunName, with_number
from rund_daemon.segments.heads import read_head, segment_head

from .revisions import record_change

BASE_NAME = "metrics"


@dataclass(frozen=True, slots=True)
class NewTable:
    """What is asked for. An empty `name` asks for `<base_name>_0001` or the next free one."""

    name: str = ""
    base_name: str = BASE_NAME
    stream_name: str = DEFAULT_STREAM_NAME
    foreign_table: InputTable | None = None
    foreign_table_url: str = ""
    foreign_table_display_name: str = ""
    columns: tuple[ColumnSchema, ...] = ()
    constants: Values = field(default_factory=dict)
    arrow_schema: bytes = b""


@dataclass(frozen=True, slots=True)
class Reference:
    """A metrics table outside the run, as it was found."""

    url: str
    row_count: int
    file_size: int
    arrow_schema: bytes
    foreign_table_url: str = ""
    stream_name: str = DEFAULT_STREAM_NAME


def create_table(change: Change, run_name: RunName, new: NewTable, uid: Uid, now: Micros) -> MetricsTable:
    """Creates an empty table and registers it.

    Raises:
        ExistsError: METRICS_TABLE_EXISTS.
    """
    run = find_run(change, run_name)
    name = new.name or _free_name(change, run, new.base_name)
    if change.has(shelves.TABLE_NAMES, keys.named(run.uid, name)):
        raise ExistsError(
            Reason.METRICS_TABLE_EXISTS,
            f"table_id: run {run.name!r} has a metrics table {name!r}; choose another name or leave it out",
            field="table_id",
        )
    foreign = new.foreign_table
    table = MetricsTable(
        uid=uid,
        run_uid=run.uid,
        number=run.next_table,
        name=name,
        create_time=now,
        stream_name=new.stream_name or DEFAULT_STREAM_NAME,
        foreign_table_url=new.foreign_table_url,
        foreign_table_display_name=new.foreign_table_display_name,
        foreign_row_count=foreign.row_count if foreign else -1,
        input_table_id=foreign.input_table_id if foreign else 0,
        columns=new.columns,
        constants=new.constants,
        arrow_schema=_described(new),
    )
    return _insert(change, run, table, now)


def ensure_table(change: Change, run_name: RunName, name: str, uid: Uid, now: Micros) -> MetricsTable:
    """Gives a run's table of a name, made now if it is not there."""
    run = find_run(change, run_name)
    number = change.get(shelves.TABLE_NAMES, keys.named(run.uid, name))
    table = None if number is None else change.get(shelves.TABLES, keys.numbered(run.uid, number))
    return table or create_table(change, run_name, NewTable(name=name), uid, now)


def seal_table(change: Change, table: MetricsTable, now: Micros) -> MetricsTable:
    """Lets a table take no more rows."""
    key = keys.numbered(table.run_uid, table.number)
    current = change.get(shelves.TABLES, key)
    run = change.get(shelves.RUNS, table.run_uid)
    if current is None or run is None:
        raise NotFoundError(Reason.METRICS_TABLE_NOT_FOUND, f"the metrics table {table.name!r} is gone")
    if not current.sealed:
        current = replace(current, sealed=True)
        change.put(shelves.TABLES, key, current)
        record_change(change, run, EventType.UPDATED, now)
    return current


def register_own(change: Change, run_name: RunName, name: str, stream_name: str, now: Micros) -> Run:
    """Registers a table of the run itself, which is there already; another stream name replaces its own.

    Raises:
        NotFoundError: METRICS_TABLE_NOT_FOUND.
    """
    run = find_run(change, run_name)
    number = change.get(shelves.TABLE_NAMES, keys.named(run.uid, name))
    table = None if number is None else change.get(shelves.TABLES, keys.numbered(run.uid, number))
    if table is None:
        raise NotFoundError(Reason.METRICS_TABLE_NOT_FOUND, f"run {run.name!r} has no metrics table 'metrics/{name}'")
    return _set_stream_name(change, run, table, stream_name, now)


def register_reference(change: Change, run_name: RunName, reference: Reference, uid: Uid, now: Micros) -> Run:
    """Registers a table outside the run; the key is its URL."""
    run = find_run(change, run_name)
    known = next(
        (state.table for state in tables_of(change, run.uid) if state.table.reference_url == reference.url),
        None,
    )
    if known is not None:
        return _set_stream_name(change, run, known, reference.stream_name, now)
    table = MetricsTable(
        uid=uid,
        run_uid=run.uid,
        number=run.next_table,
        name="",
        create_time=now,
        stream_name=reference.stream_name or DEFAULT_STREAM_NAME,
        reference_url=reference.url,
        reference_row_count=reference.row_count,
        reference_file_size=reference.file_size,
        foreign_table_url=reference.foreign_table_url,
        sealed=True,
        arrow_schema=reference.arrow_schema,
    )
    _insert(change, run, table, now)
    return find_run(change, run_name)


def state_of(change: Change, table: MetricsTable) -> TableState:
    """A table as the transaction has it, with its mark."""
    return with_mark(change, table)


def _insert(change: Change, run: Run, table: MetricsTable, now: Micros) -> MetricsTable:
    key = keys.numbered(run.uid, table.number)
    change.put(shelves.TABLES, key, table)
    change.put(shelves.TABLE_UIDS, table.uid, key)
    if table.name:
        change.put(shelves.TABLE_NAMES, keys.named(run.uid, table.name), table.number)
    record_change(change, replace(run, next_table=run.next_table + 1), EventType.UPDATED, now)
    return table


def _set_stream_name(change: Change, run: Run, table: MetricsTable, stream_name: str, now: Micros) -> Run:
    # One that was replaced and is registered again is listed again.
    registered = replace(table, stream_name=stream_name or table.stream_name, replaced=False)
    if registered == table:
        return run
    change.put(shelves.TABLES, keys.numbered(run.uid, table.number), registered)
    return record_change(change, run, EventType.UPDATED, now)


def _free_name(change: Change, run: Run, base: str) -> str:
    number = 1
    while change.has(shelves.TABLE_NAMES, keys.named(run.uid, with_number(base, number))):
        number += 1
    return with_number(base, number)


def _described(new: NewTable) -> bytes:
    if not new.arrow_schema:
        return b""
    tables = {new.foreign_table.input_table_id: new.foreign_table_url} if new.foreign_table else {}
    return segment_head(read_head(new.arrow_schema), new.columns, tables)


def check_columns(columns: tuple[ColumnSchema, ...], field: str) -> None:
    """Checks the names of column schemas.

    Raises:
        InvalidError: INVALID_COLUMN: one is empty, too long or twice there.
    """
    seen: set[str] = set()
    for column in columns:
        if not column.name or len(column.name.encode()) > 255 or column.name in seen:
            raise InvalidError(
                field,
                f"the column name {column.name[:60]!r} is empty, longer than 255 bytes or there twice",
                reason=Reason.INVALID_COLUMN,
            )
        seen.add(column.name)
