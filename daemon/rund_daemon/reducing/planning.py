"""Chooses the tables of a reduction: which take part, which is fitted on, and what becomes of their columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from rund_daemon.catalog import Snapshot, shelves
from rund_daemon.catalog.lookup import TableState, find_run, find_table, tables_of
from rund_daemon.errors import InvalidError, NotFoundError, Reason, StateError
from rund_daemon.model import BatchRef, ColumnRole, ColumnSchema, KeptReducer, Run, Segment
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.reducers.vectors import is_vector
from rund_daemon.segments.heads import describe_columns, read_head, segment_head
from rund_daemon.segments.layout import Layout

from .request import ReductionRequest

_TARGET, _SOURCE, _FIT_TABLE = "spec.target_embedding_column", "spec.source_embedding_column", "spec.fit_table_url"
_MAP_ROLES = {2: ColumnRole.XY, 3: ColumnRole.XYZ}


@dataclass(frozen=True, slots=True)
class Source:
    """A table that takes part, as it is committed. Its segments and batches are looked up by `with_files`."""

    run: Run
    state: TableState
    folder: Path
    segments: tuple[Segment, ...] = ()
    refs: tuple[BatchRef, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return read_head(self.state.table.arrow_schema)


@dataclass(frozen=True, slots=True)
class ColumnFit:
    """One model: the column it is for, the tables by their numbers, and the one that is fitted on."""

    column: str
    target: str
    members: tuple[int, ...]
    fitted_on: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done."""

    sources: tuple[Source, ...]
    fits: tuple[ColumnFit, ...]


def plan_reduction(snapshot: Snapshot, layout: Layout, name: RunName, request: ReductionRequest) -> Plan:
    """Plans the reduction of a run.

    Raises:
        NotFoundError: RUN_NOT_FOUND; METRICS_TABLE_NOT_FOUND: no table takes part.
        InvalidError: a column or the table to fit on does not fit the run.
        StateError: the only tables that could take part are still written to.
    """
    run = find_run(snapshot, name)
    found = [state for state in tables_of(snapshot, run.uid) if _columns_of(state, request.source_column)]
    settled = [state for state in found if state.table.sealed or run.status.ended]
    groups = _groups(settled, request)
    fits: list[tuple[str, list[TableState], TableState]] = []
    for group, members in groups:
        fit = _fit_table(run, layout, group, request)
        fits += [
            (column, [state for state in members if column in _columns_of(state, request.source_column)], fit)
            for column in _columns_of(fit, request.source_column)
        ]
    open_ = tuple(state.table.url for state in found if not (state.table.sealed or run.status.ended))
    if not fits:
        raise _nothing(run, request, open_)
    if request.fit_table_url and not any(_is_meant(run, layout, fit, request.fit_table_url) for _, _, fit in fits):
        raise InvalidError(
            _FIT_TABLE, f"{request.fit_table_url[:200]!r} is no table that takes part; name one, or leave it out"
        )
    uids = {state.table.uid for _, members, _ in fits for state in members}
    taking = [state for state in settled if state.table.uid in uids]
    numbers = {state.table.uid: number for number, state in enumerate(taking)}
    plan = Plan(
        tuple(_source(layout, run, state) for state in taking),
        tuple(
            ColumnFit(
                column,
                request.target(column),
                tuple(numbers[state.table.uid] for state in members),
                numbers[fit.table.uid],
            )
            for column, members, fit in fits
        ),
    )
    for number, source in enumerate(plan.sources):
        new_schema(source, maps_of(plan, number), request.retain_source, request.parameters)
    return plan


def plan_transformation(
    snapshot: Snapshot, layout: Layout, reducer: KeptReducer, names: Sequence[MetricsTableName]
) -> Plan:
    """Plans the use of a kept reducer on tables of any runs.

    Raises:
        NotFoundError: RUN_NOT_FOUND, METRICS_TABLE_NOT_FOUND.
        InvalidError: a table has no such column of vectors.
        StateError: a table is still written to.
    """
    sources = []
    for number, name in enumerate(dict.fromkeys(names)):
        run, state = find_run(snapshot, RunName(name.project, name.run)), find_table(snapshot, name)
        if reducer.source_column not in _columns_of(state, reducer.source_column):
            raise InvalidError(
                f"metrics_tables[{number}]",
                f"{state.table.url} of run {run.name!r} has no column {reducer.source_column!r} of vectors",
                reason=Reason.INVALID_COLUMN,
            )
        if not (state.table.sealed or run.status.ended):
            raise _still_written(run, state.table.url)
        sources.append(_source(layout, run, state))
    if not sources:
        raise InvalidError("metrics_tables", "none is named; give the resource names of the tables to transform")
    fit = ColumnFit(reducer.source_column, reducer.target_column, tuple(range(len(sources))), None)
    plan = Plan(tuple(sources), (fit,))
    for number, source in enumerate(plan.sources):
        new_schema(source, maps_of(plan, number), False, Parameters.from_json(reducer.parameters))
    return plan


def with_files(snapshot: Snapshot, plan: Plan) -> Plan:
    """Adds the segments and batches of each source, of which there may be many."""
    sources = []
    for source in plan.sources:
        uid = source.state.table.uid
        segments = tuple(segment for _, segment in snapshot.scan(shelves.SEGMENTS, uid))
        refs = tuple(ref for _, ref in snapshot.scan(shelves.BATCHES, uid))
        sources.append(replace(source, segments=segments, refs=refs))
    return replace(plan, sources=tuple(sources))


def maps_of(plan: Plan, number: int) -> dict[str, str]:
    """The new columns of a table, by those that they are made of."""
    return {fit.column: fit.target for fit in plan.fits if number in fit.members}


def new_schema(source: Source, maps: dict[str, str], retain_source: bool, parameters: Parameters) -> pa.Schema:
    """The columns of the table that takes a source's place: each map lies where its vectors did, or behind them.

    Raises:
        InvalidError: INVALID_COLUMN: two columns would have one name.
    """
    kind = pa.list_(pa.float32(), parameters.n_components)
    fields: list[pa.Field[Any]] = []
    for field in source.schema:
        target = maps.get(field.name)
        if target is None or retain_source:
            fields.append(field)
        if target is not None:
            fields.append(pa.field(target, kind))
    names = [field.name for field in fields]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidError(
            _TARGET,
            f"{source.state.table.url} would have two columns {twice[0]!r}; choose another name for the map, and if "
            "you name it, reduce one column at a time",
            reason=Reason.INVALID_COLUMN,
        )
    return pa.schema(fields)


def new_columns(
    source: Source, maps: dict[str, str], retain_source: bool, parameters: Parameters
) -> tuple[ColumnSchema, ...]:
    """What is said of the columns of the new table."""
    role = _MAP_ROLES.get(parameters.n_components, ColumnRole.UNSPECIFIED)
    made = tuple(
        ColumnSchema(target, role, description=f"{parameters.method} of {column}") for column, target in maps.items()
    )
    names = {column.name for column in made} | (set() if retain_source else maps.keys())
    return (*(column for column in source.state.table.columns if column.name not in names), *made)


def new_head(source: Source, schema: pa.Schema, columns: tuple[ColumnSchema, ...]) -> bytes:
    """The schema message of the new table's segments."""
    table = source.state.table
    kept = columns or table.columns
    tables = {table.input_table_id: table.foreign_table_url} if table.foreign_table_url else {}
    return segment_head(schema, kept, tables)


def _groups(
    settled: Sequence[TableState], request: ReductionRequest
) -> Iterator[tuple[list[TableState], Sequence[TableState]]]:
    """Tables of one input table, each with those that are mapped by the fit on one of them."""
    urls = dict.fromkeys(state.table.foreign_table_url for state in settled if state.table.foreign_table_url)
    for url in urls:
        group = [state for state in settled if state.table.foreign_table_url == url]
        if request.foreign_table_url is None:
            yield group, group
        elif url == request.foreign_table_url:
            yield group, settled


def _fit_table(run: Run, layout: Layout, group: Sequence[TableState], request: ReductionRequest) -> TableState:
    for state in group:
        if request.fit_table_url and _is_meant(run, layout, state, request.fit_table_url):
            return state
    return next((state for state in reversed(group) if state.mark.rows), group[-1])


def _is_meant(run: Run, layout: Layout, state: TableState, url: str) -> bool:
    own = state.table.url
    return url in (own, f"{layout.run(run.project, run.name)}/{own}", f"{run.resource_name}/{own}")


def _columns_of(state: TableState, source_column: str) -> list[str]:
    """The columns of a table that are reduced; none if it takes no part."""
    table = state.table
    if table.reference_url or table.replaced:
        return []
    schema = read_head(table.arrow_schema)
    described = describe_columns(schema, table.columns)
    vectors = [column for column, field in zip(described, schema, strict=True) if is_vector(field.type)]
    if source_column:
        return [column.name for column in vectors if column.name == source_column]
    return [column.name for column in vectors if column.role is ColumnRole.EMBEDDING]


def _source(layout: Layout, run: Run, state: TableState) -> Source:
    return Source(run, state, layout.metrics_table(layout.run(run.project, run.name), state.table.name))


def _nothing(run: Run, request: ReductionRequest, open_: tuple[str, ...]) -> Exception:
    if open_:
        return _still_written(run, ", ".join(open_))
    what = f"a column {request.source_column!r} of vectors" if request.source_column else "a column of role EMBEDDING"
    of = "an input table" if request.foreign_table_url is None else f"the input table {request.foreign_table_url}"
    return NotFoundError(
        Reason.METRICS_TABLE_NOT_FOUND,
        f"run {run.name!r} has no metrics table of {of} with {what}; write one with add_metrics and foreign_table_url",
        field=_SOURCE if request.source_column else "",
    )


def _still_written(run: Run, tables: str) -> StateError:
    return StateError(
        Reason.WRONG_STATE,
        f"{tables} of run {run.name!r} can still be written to, and what came later would be lost; end the run first, "
        "or write without a name for the table, which takes no more rows then once its writer is closed",
    )
