"""The relations that SQL sees: runs and what belongs to them, and the rows of their metrics tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from ._columns import EXAMPLE_ID
from ._errors import InvalidNameError, QueryError, RunNotFoundError, TableNotFoundError
from ._frames import table_of
from ._locate import Daemon
from ._rows import InputRows, no_flush, source_of
from ._sql_engine import Budget
from ._sql_statement import Statement
from ._table import Table
from ._transport import metrics_calls, run_calls, table_calls
from ._types import RunInfo, TableInfo, Value

METRICS = "metrics"
# PROJECT/DATASET/TABLE is an input table. No name of rund's has a slash in it.
_INPUT_SLASHES = 2

_Fields: TypeAlias = "list[tuple[str, pa.DataType]]"

_RUN: _Fields = [("project_name", pa.string()), ("run_name", pa.string())]
_VALUE: _Fields = [("key", pa.string()), ("number", pa.float64()), ("text", pa.string())]
_TIME = pa.timestamp("us", "UTC")
_INPUT_TABLE: _Fields = [
    ("project_name", pa.string()),
    ("dataset_name", pa.string()),
    ("table_name", pa.string()),
    ("row_count", pa.int64()),
    ("file_size", pa.int64()),
    ("registered", pa.bool_()),
    ("created", _TIME),
    ("url", pa.string()),
]
_SCHEMAS: Mapping[str, pa.Schema] = {
    "runs": pa.schema(
        [
            *_RUN,
            ("uid", pa.string()),
            ("status", pa.string()),
            ("cause", pa.string()),
            ("description", pa.string()),
            ("created", _TIME),
            ("last_modified", _TIME),
            ("ended", _TIME),
            ("url", pa.string()),
        ]
    ),
    "parameters": pa.schema([*_RUN, *_VALUE]),
    "labels": pa.schema([*_RUN, ("key", pa.string()), ("text", pa.string())]),
    "inputs": pa.schema([*_RUN, ("position", pa.int64()), *_VALUE]),
    "outputs": pa.schema([*_RUN, ("position", pa.int64()), *_VALUE]),
    "tables": pa.schema(
        [
            *_RUN,
            ("name", pa.string()),
            ("stream_name", pa.string()),
            ("row_count", pa.int64()),
            ("file_size", pa.int64()),
            ("sealed", pa.bool_()),
            ("created", _TIME),
            ("foreign_table_url", pa.string()),
        ]
    ),
    "input_tables": pa.schema(_INPUT_TABLE),
}
RELATIONS = tuple(_SCHEMAS)
"""What there is beside the metrics tables."""


@dataclass(slots=True)
class Relations:
    """Gives relations over some runs, each read once it is named.

    Attributes:
        daemon: Where the runs are; None for a bundle, of which there is nothing but what is given.
        list_runs: Gives the runs.
        one_run: Whether it is one run, so that rows of metrics need not say whose they are.
        flush: Called before metrics are read.
        tables: The metrics tables of a bundle's run.
    """

    daemon: Daemon | None
    list_runs: Callable[[], Iterable[RunInfo]]
    one_run: bool = False
    flush: Callable[[], None] = no_flush
    tables: Sequence[Table] = ()
    _runs: list[RunInfo] | None = field(default=None, init=False)
    _tables: dict[str, list[Table]] = field(default_factory=dict, init=False)

    def __call__(self, statement: Statement, schema: str, name: str, budget: Budget) -> pa.Table | None:
        """The rows of a relation; None if its schema is none of ours.

        Raises:
            QueryError: No run has such a table.
            OverLimitError: The rows take too much memory.
        """
        if schema in ("", "main") and name.lower() in _SCHEMAS:
            return self._facts(name.lower(), budget)
        if "/" in schema:
            run = self._run_of(schema)
            found = [(run, table) for table in self._tables_of(run) if table.name == name]
            if not found:
                raise self._missing(name, f"run {schema}")
            return self._rows(statement, found, budget, own=True)
        if schema not in ("", METRICS):
            return None
        if not schema and name.count("/") == _INPUT_SLASHES and all(name.split("/")):
            return self._input_rows(statement, name, budget)
        found = [(run, table) for run in self.runs for table in self._tables_of(run) if table.name == name]
        if not found:
            raise self._missing(name, "run")
        return self._rows(statement, found, budget, own=self.one_run)

    @property
    def runs(self) -> list[RunInfo]:
        """The runs."""
        if self._runs is None:
            self._runs = list(self.list_runs())
        return self._runs

    def _input_rows(self, statement: Statement, name: str, budget: Budget) -> pa.Table:
        """The rows of an input table, with their numbers: metrics refer to them by that."""
        if self.daemon is None:
            raise QueryError(f"{name!r} is no table of this bundle; name its metrics tables")
        project, dataset, table_name = name.split("/")
        resource = f"projects/{project}/datasets/{dataset}/tables/{table_name}"
        try:
            info = table_calls.get_table(self.daemon.transport, name=resource)
        except (TableNotFoundError, InvalidNameError) as error:
            raise QueryError(
                f"{name!r} names no input table: {error}; input_tables lists those that are there"
            ) from None
        table = Table(InputRows(self.daemon, info))
        names = table.schema.names
        if EXAMPLE_ID in names:
            return _read(table, statement.columns_of(names), budget)
        wanted = statement.columns_of([EXAMPLE_ID, *names])
        if EXAMPLE_ID not in wanted:
            return _read(table, wanted, budget)
        budget.take(8 * info.row_count)
        numbers = pa.table({EXAMPLE_ID: pa.array(np.arange(info.row_count))})
        rows = _read(table, wanted[1:], budget) if wanted[1:] else numbers.select([])
        return pa.table([*numbers.columns, *rows.columns], schema=pa.schema([*numbers.schema, *rows.schema]))

    def _run_of(self, schema: str) -> RunInfo:
        project, _, run = schema.partition("/")
        if self.daemon is None:
            raise QueryError(f"{schema!r} is no run of this bundle; name its tables without it")
        try:
            return run_calls.get_run(self.daemon.transport, name=f"projects/{project}/runs/{run}")
        except RunNotFoundError as error:
            raise QueryError(f"{schema!r} names no run: {error}") from None

    def _tables_of(self, run: RunInfo) -> list[Table]:
        if run.uid not in self._tables:
            self.flush()
            if self.daemon is None:
                return list(self.tables)
            listed = metrics_calls.list_metrics_tables(self.daemon.transport, run.resource_name)
            self._tables[run.uid] = [
                Table(source_of(self.daemon, table, run.url, self.flush)) for table in listed if table.resource_name
            ]
        return self._tables[run.uid]

    def _rows(
        self, statement: Statement, found: Sequence[tuple[RunInfo, Table]], budget: Budget, *, own: bool
    ) -> pa.Table:
        pieces = []
        for run, table in found:
            rows = _read(table, statement.columns_of(table.schema.names), budget)
            if not own:
                for place, text in enumerate((run.project_name, run.name)):
                    names = pa.repeat(pa.scalar(text), rows.num_rows)
                    rows = rows.add_column(place, _RUN[place][0], names)
            pieces.append(rows)
        try:
            return pa.concat_tables(pieces, promote_options="permissive")
        except pa.ArrowException as error:
            raise QueryError(f"the tables of these runs can't be put together: {error}; name fewer runs") from None

    def _missing(self, name: str, where: str) -> QueryError:
        known = sorted({table.name for tables in self._tables.values() for table in tables})
        there = f"there are {', '.join(known[:20])}" if known else "there are none"
        return QueryError(f"no metrics table {name!r} of the {where}: {there}, and {', '.join(RELATIONS)}")

    def _facts(self, name: str, budget: Budget) -> pa.Table:
        if name in ("inputs", "outputs"):
            rows = (row for run in self.runs for row in _output_rows(self._full(run), name))
        elif name == "input_tables":
            rows = (_input_table_row(info) for info in self._input_tables())
        elif name == "tables":
            rows = (_table_row(run, table) for run in self.runs for table in self._tables_of(run))
        else:
            rows = (row for run in self.runs for row in _ROWS[name](run))
        facts = pa.Table.from_pylist(list(rows), _SCHEMAS[name])
        budget.take(facts.nbytes)
        return facts

    def _input_tables(self) -> Iterable[TableInfo]:
        return table_calls.list_tables(self.daemon.transport) if self.daemon is not None else ()

    def _full(self, run: RunInfo) -> RunInfo:
        return run if self.daemon is None else run_calls.get_run(self.daemon.transport, uid=run.uid)


def _read(table: Table, names: Sequence[str], budget: Budget) -> pa.Table:
    batches = []
    for batch in table.scan(names):
        budget.take(batch.nbytes)
        batches.append(batch)
    return table_of(batches) if batches else pa.schema([table.schema.field(name) for name in names]).empty_table()


def _run_row(run: RunInfo) -> dict[str, Any]:
    return {"project_name": run.project_name, "run_name": run.name}


def _input_table_row(info: TableInfo) -> dict[str, Any]:
    names = [name for name in _SCHEMAS["input_tables"].names if name != "table_name"]
    return {"table_name": info.name, **{name: getattr(info, name) for name in names}}


def _runs_rows(run: RunInfo) -> Iterator[dict[str, Any]]:
    cause = run.cause.message or run.cause.kind.value if run.cause else None
    facts = {name: getattr(run, name) for name in ("uid", "description", "created", "last_modified", "ended", "url")}
    yield {**_run_row(run), **facts, "status": run.status.name, "cause": cause}


def _parameter_rows(run: RunInfo) -> Iterator[dict[str, Any]]:
    for key, value in _leaves("", run.parameters):
        yield {**_run_row(run), "key": key, "number": _number(value), "text": _text(value)}


def _label_rows(run: RunInfo) -> Iterator[dict[str, Any]]:
    for key, text in run.labels.items():
        yield {**_run_row(run), "key": key, "text": text}


def _output_rows(run: RunInfo, name: str) -> Iterator[dict[str, Any]]:
    for position, values in enumerate(getattr(run, name)):
        for key, value in _leaves("", values):
            found = {"position": position, "key": key, "number": _number(value), "text": _text(value)}
            yield {**_run_row(run), **found}


def _table_row(run: RunInfo, table: Table) -> dict[str, Any]:
    info = table.info
    names = [name for name in _SCHEMAS["tables"].names if name not in ("project_name", "run_name")]
    return {**_run_row(run), **{name: getattr(info, name) for name in names}}


_ROWS: Mapping[str, Callable[[RunInfo], Iterator[dict[str, Any]]]] = {
    "runs": _runs_rows,
    "parameters": _parameter_rows,
    "labels": _label_rows,
}


def _leaves(prefix: str, values: Mapping[str, Value]) -> Iterator[tuple[str, Value]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(f"{path}.", value)
        else:
            yield path, value


def _number(value: Value) -> float | None:
    try:
        return float(value) if isinstance(value, (bool, int, float)) else None
    except OverflowError:
        return None


def _text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=bytes.hex)
