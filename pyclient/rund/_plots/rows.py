"""Reads the rows of a map: the columns that a picture needs, those of the input table too, and no others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rund import _frames
from rund._columns import EXAMPLE_ID
from rund._errors import InvalidColumnError
from rund._plain_arrow import AnyChunked
from rund._table import Table
from rund._types import ColumnRole, ColumnSchema

from .columns import is_cheap, shortened
from .maps import MAP_ROLES, EmbeddingMap, MapTable

_SUFFIX = "_input"  # as Table.join has it

Places: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a column comes from: the metrics tables, or the input table that they refer to."""

    schema: ColumnSchema
    name: str
    is_input: bool = False


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of all tables, one table after the other.

    Attributes:
        places: Where each row lies on the map; NaN where it has no place. float32, of shape (rows, 2 or 3).
        columns: The values of the other columns.
        sources: What these mean.
    """

    places: Places
    columns: Mapping[str, AnyChunked]
    sources: Mapping[str, Source]


@dataclass(frozen=True, slots=True)
class MapReader:
    """Knows the columns of a map and reads them.

    Attributes:
        map: The map.
        input_table: The input table that its rows refer to; None if there is none, or it can't be reached.
        problem: Why there is none.
    """

    map: EmbeddingMap
    input_table: Table | None
    problem: str = ""
    sources: Mapping[str, Source] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", dict(self._sources()))

    def _sources(self) -> Iterator[tuple[str, Source]]:
        """The columns that can be shown, by the name that they have in a picture, in order."""
        own: dict[str, Source] = {}
        for table in self.map.tables:
            for name in table.column_names:
                schema = table.schema(name)
                cheap = is_cheap(table.types[name]) if name in table.types else True
                if cheap and schema.role not in (ColumnRole.INPUT_TABLE_ID, *MAP_ROLES):
                    own[name] = Source(schema, name)
        yield from own.items()
        if self.input_table is None or EXAMPLE_ID not in own:
            return
        meanings = {schema.name: schema for schema in self.input_table.columns}
        for column in self.input_table.schema:
            if is_cheap(column.type):
                name = f"{column.name}{_SUFFIX}" if column.name in own else column.name
                schema = meanings.get(column.name, ColumnSchema(name=column.name))
                yield name, Source(replace(schema, name=name), column.name, is_input=True)

    def checked(self, argument: str, name: str) -> str:
        """The name of a column that can be shown.

        Raises:
            InvalidColumnError: There is none.
        """
        if name in self.sources:
            return name
        there = [table.types for table in self.map.tables]
        bulk = name in (self.input_table.schema.names if self.input_table else ()) or any(name in own for own in there)
        fault = "holds no single values" if bulk else "is not there"
        why = f" ({self.problem})" if self.problem and not bulk else ""
        raise InvalidColumnError(f"{argument}: the column {name!r} {fault}{why}; give one of {', '.join(self.sources)}")

    def label(self) -> str | None:
        """The column that says what the rows are: one with the role LABEL, rather of the input table."""
        labels = [name for name, source in self.sources.items() if source.schema.role is ColumnRole.LABEL]
        return next((name for name in labels if self.sources[name].is_input), labels[0] if labels else None)

    def read(self, names: Sequence[str]) -> Rows:
        """Reads some columns, and the map."""
        sources = {name: self.sources[name] for name in names}
        own = [source.name for source in sources.values() if not source.is_input]
        wanted = {name: source.name for name, source in sources.items() if source.is_input}
        foreign = self._read_input(list(wanted.values())) if wanted else None
        places: list[Places] = []
        pieces: list[pa.Table] = []
        for table in self.map.tables:
            rows = self._read_own(table, [*own, *([EXAMPLE_ID] if foreign is not None else [])])
            places.append(_places(rows.column(self.map.column), self.map.width))
            given: dict[str, Any] = {name: rows.column(name) for name in own if name in rows.column_names}
            if foreign is not None:
                matched = _matched(foreign, rows)
                given |= {name: matched.column(column) for name, column in wanted.items()}
            pieces.append(pa.table(given) if given else _without_columns(rows.num_rows))
        counts = [len(part) for part in places]
        columns = {name: _whole(name, pieces, counts) for name in names}
        return Rows(np.concatenate(places), columns, sources)

    def _read_own(self, table: MapTable, names: Sequence[str]) -> pa.Table:
        there = [name for name in dict.fromkeys(names) if name in table.column_names]
        columns = [self.map.column, *there]
        batches = table.table.scan(columns, row_limit=table.info.row_count)
        rows = _frames.table_of(shortened(batch) for batch in batches)
        return rows if rows.num_columns else table.table.head(0).select(columns)

    def _read_input(self, names: Sequence[str]) -> pa.Table:
        assert self.input_table is not None
        rows = _frames.table_of(shortened(batch) for batch in self.input_table.scan(names))
        return rows if rows.num_columns else self.input_table.schema.empty_table().select(list(names))


def _matched(foreign: pa.Table, rows: pa.Table) -> pa.Table:
    if EXAMPLE_ID in rows.column_names:
        return foreign.take(rows.column(EXAMPLE_ID))
    return pa.table({field.name: pa.nulls(rows.num_rows, field.type) for field in foreign.schema})


def _without_columns(row_count: int) -> pa.Table:
    return pa.table({"none": pa.nulls(row_count)})


def _places(column: AnyChunked, width: int) -> Places:
    """The map as an array. A null, or a vector with a null in it, becomes NaN."""
    parts = [np.empty((0, width), dtype=np.float32)]
    for chunk in column.chunks:
        vectors: Any = chunk
        # flatten() leaves out what lies behind a null, so the nulls are taken out first.
        flat = vectors.drop_null().flatten().cast(pa.float32())
        values = np.asarray(flat.fill_null(np.nan), dtype=np.float32).reshape(-1, width)
        part = np.full((len(vectors), width), np.nan, dtype=np.float32)
        part[np.asarray(vectors.is_valid())] = values
        parts.append(part)
    return np.concatenate(parts)


def _whole(name: str, pieces: Sequence[pa.Table], counts: Sequence[int]) -> AnyChunked:
    """One column of all tables: null in those that lack it, text where their types have nothing in common."""
    parts = [piece.column(name) for piece in pieces if name in piece.column_names]
    try:
        kind = pa.unify_schemas([pa.schema([(name, part.type)]) for part in parts], promote_options="permissive")
        common = kind.field(name).type
    except pa.ArrowException:
        common = pa.string()
    chunks: list[Any] = []
    for piece, count in zip(pieces, counts, strict=True):
        if name in piece.column_names:
            chunks.extend(piece.column(name).cast(common, safe=False).chunks)
        else:
            chunks.append(pa.nulls(count, common))
    return pa.chunked_array(chunks, type=common)
