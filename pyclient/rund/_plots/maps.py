"""Which column of which metrics tables is the map. No rows are read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rund._errors import InvalidColumnError, MetricsTableNotFoundError
from rund._table import Table
from rund._types import ColumnRole, ColumnSchema, MetricTableInfo

MAP_ROLES = (ColumnRole.XY, ColumnRole.XYZ)

_REMEDY = (
    "make one with run.reduce_embeddings_per_dataset(), or write a column of 2 or 3 floats a row with the role 'xy' or "
    "'xyz' in column_schemas"
)


@dataclass(frozen=True, slots=True)
class MapTable:
    """A metrics table that takes part, as far as it was committed when it was looked at.

    Attributes:
        table: Gives its rows.
        info: Its record then; no row behind ``info.row_count`` is read, so all pictures are of the same rows.
        types: The types of the columns that were written, by name. Constants are not among them.
        maps: How many numbers a row has, by name of a map.
    """

    table: Table
    info: MetricTableInfo
    types: Mapping[str, pa.DataType]
    maps: Mapping[str, int]

    @property
    def column_names(self) -> tuple[str, ...]:
        """All that can be read of it, constants too."""
        return (*self.types, *(name for name in self.info.constants if name not in self.types))

    def schema(self, name: str) -> ColumnSchema:
        """What a column means."""
        found = (schema for schema in self.info.columns if schema.name == name)
        return next(found, ColumnSchema(name=name))


@dataclass(frozen=True, slots=True)
class EmbeddingMap:
    """One map: a column, and the tables whose rows have a place in it.

    Attributes:
        column: Its name.
        width: 2 or 3.
        tables: In order of writing.
    """

    column: str
    width: int
    tables: tuple[MapTable, ...]

    @property
    def foreign_table_url(self) -> str:
        """The input table that all of them refer to, or empty."""
        return self.tables[-1].info.foreign_table_url


def find_map(
    run_name: str, tables: Sequence[Table], names: Sequence[str], column: str | None, *, all_tables: bool
) -> EmbeddingMap:
    """Finds the map that is meant.

    Args:
        run_name: For messages.
        tables: The run's metrics tables in order of writing.
        names: Those to take; none: the newest one with such a column decides.
        column: The map's column; None: the only one.
        all_tables: Whether, without names, older tables in the same space take part too: those that have the column
            and refer to the same input table.

    Raises:
        MetricsTableNotFoundError: The run has no table of that name.
        InvalidColumnError: There is no map, or several of which one must be named.
    """
    known = [read for table in tables if (read := _map_table(table)) is not None]
    chosen = [_named(run_name, known, name) for name in dict.fromkeys(names)] if names else known
    candidates = [table for table in chosen if (column in table.maps if column else table.maps)]
    if not candidates:
        raise InvalidColumnError(_none_there(run_name, chosen, column))
    newest = candidates[-1]
    if column is None and len(newest.maps) > 1:
        listed = ", ".join(map(repr, newest.maps))
        raise InvalidColumnError(f"{newest.info.name} has {len(newest.maps)} maps: {listed}; say which with column")
    found = EmbeddingMap(column or next(iter(newest.maps)), newest.maps[column or next(iter(newest.maps))], (newest,))
    if names:
        return EmbeddingMap(found.column, found.width, tuple(_fitting(run_name, chosen, found)))
    if not all_tables:
        return found
    return EmbeddingMap(found.column, found.width, tuple(table for table in known if _is_in_space(table, found)))


def _map_table(table: Table) -> MapTable | None:
    info = table.info
    if not isinstance(info, MetricTableInfo):
        return None  # an input table that the run keeps as a reference
    head = info.arrow_schema
    fields = pa.ipc.read_schema(pa.py_buffer(head)) if head else pa.schema([])
    types = {field.name: field.type for field in fields}
    roles = {schema.name: schema.role for schema in info.columns}
    maps = {
        name: int(kind.list_size) for name, kind in types.items() if roles.get(name) in MAP_ROLES and _is_place(kind)
    }
    return MapTable(table, info, types, maps)


def _is_place(kind: Any) -> bool:
    return pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type) and kind.list_size in (2, 3)


def _named(run_name: str, tables: Sequence[MapTable], name: str) -> MapTable:
    for table in tables:
        if name in (table.info.name, table.info.url):
            return table
    listed = ", ".join(table.info.name or table.info.url for table in tables[-20:]) or "none"
    raise MetricsTableNotFoundError(f"{run_name} has no metrics table {name!r}; it has: {listed}")


def _fitting(run_name: str, tables: Sequence[MapTable], wanted: EmbeddingMap) -> Iterator[MapTable]:
    for table in tables:
        if table.maps.get(wanted.column) != wanted.width:
            raise InvalidColumnError(_none_there(run_name, [table], wanted.column))
        yield table


def _is_in_space(table: MapTable, wanted: EmbeddingMap) -> bool:
    return table.maps.get(wanted.column) == wanted.width and table.info.foreign_table_url == wanted.foreign_table_url


def _none_there(run_name: str, tables: Sequence[MapTable], column: str | None) -> str:
    maps = list(dict.fromkeys(name for table in tables for name in table.maps))
    if column is not None and maps:
        return f"{run_name} has no map {column!r} there; its maps are {', '.join(map(repr, maps))}"
    place = f"the metrics table {tables[0].info.name!r} of {run_name}" if len(tables) == 1 else run_name
    what = "map" if column is None else f"map {column!r}"
    sources = dict.fromkeys(
        schema.name for table in tables for schema in table.info.columns if schema.role is ColumnRole.EMBEDDING
    )
    held = f" (it has the embeddings {', '.join(map(repr, sources))})" if sources else ""
    return f"{place} has no {what}{held}; {_REMEDY}"
