"""What the caller records, as one Arrow table of plain columns with their meaning.

Every fault is a ValueError that names the column. Nothing here asks the daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ._column_schemas import ColumnSchemas, kept_schema, schema_from
from ._column_values import arrow_column
from ._errors import (
    ColumnLengthMismatchError,
    ExampleIdOutOfRangeError,
    InvalidColumnError,
    RowCountMismatchError,
)
from ._plain_arrow import AnyChunked, AnyColumn
from ._types import ColumnRole, ColumnSchema

EXAMPLE_ID = "example_id"
INPUT_TABLE_ID = "input_table_id"
MAX_NAME_BYTES = 255

_MAP_WIDTHS = {ColumnRole.XY: 2, ColumnRole.XYZ: 3}
_VECTOR_ROLES = (ColumnRole.EMBEDDING, ColumnRole.XY, ColumnRole.XYZ)
_FIXED_TYPES = {EXAMPLE_ID: pa.int64(), INPUT_TABLE_ID: pa.int32()}
_FIXED_ROLES = {EXAMPLE_ID: ColumnRole.EXAMPLE_ID, INPUT_TABLE_ID: ColumnRole.INPUT_TABLE_ID}


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows and what their columns mean.

    Attributes:
        table: The rows; plain types, all fields nullable.
        schemas: One for each column that means something, in the table's order.
    """

    table: pa.Table
    schemas: tuple[ColumnSchema, ...]


def columns_from(metrics: Any, column_schemas: ColumnSchemas | None = None, *, partial: bool = False) -> Columns:
    """Reads the caller's metrics.

    Args:
        metrics: A mapping of names to columns (lists, NumPy, Arrow, pandas, Polars, torch), an Arrow table or
            batch, or a data frame.
        column_schemas: What columns mean.
        partial: Whether some of the columns described may be absent.

    Raises:
        InvalidColumnError: A column can't be stored; the message names it.
        ColumnLengthMismatchError: Columns differ in length.
    """
    given = dict(_pairs(metrics))
    if not given:
        raise InvalidColumnError("there are no columns; give at least one")
    schemas = {name: schema_from(name, schema) for name, schema in (column_schemas or {}).items()}
    if unknown := [name for name in schemas if name not in given and not partial]:
        raise InvalidColumnError(f"column_schemas names {unknown[0]!r}, but there is no such column")
    arrays: dict[str, AnyColumn] = {}
    meanings: list[ColumnSchema] = []
    for name, values in given.items():
        nothing = ColumnSchema(name=name)
        schema = schemas.get(name) or kept_schema(metrics, name) or nothing
        arrays[name], meaning = _read(_checked_name(name), values, schema)
        if meaning is not nothing and meaning != nothing:
            meanings.append(meaning)
    _check_lengths(arrays)
    fields = [pa.field(name, array.type) for name, array in arrays.items()]
    return Columns(pa.table(list(arrays.values()), schema=pa.schema(fields)), tuple(meanings))


def with_example_ids(columns: Columns, foreign_row_count: int) -> Columns:
    """The columns of a table with a foreign table: ``example_id`` is checked, or added as 0 to n-1.

    Raises:
        RowCountMismatchError: It is absent, and the rows are not as many as the foreign table's.
        ExampleIdOutOfRangeError: An id is null or not a row of the foreign table.
    """
    table = columns.table
    if EXAMPLE_ID in table.column_names:
        check_example_ids(table.column(EXAMPLE_ID), foreign_row_count)
        return columns
    if table.num_rows != foreign_row_count:
        raise RowCountMismatchError(
            f"there are {table.num_rows} rows, but the input table has {foreign_row_count}; give as many, or "
            f"a column {EXAMPLE_ID!r} with the row of the input table that each is about"
        )
    return numbered(columns, 0)


def numbered(columns: Columns, first: int) -> Columns:
    """The columns with an ``example_id`` that counts from ``first``."""
    table = columns.table
    ids = pa.array(np.arange(first, first + table.num_rows, dtype=np.int64))
    schema = ColumnSchema(name=EXAMPLE_ID, role=ColumnRole.EXAMPLE_ID)
    return Columns(table.add_column(0, pa.field(EXAMPLE_ID, pa.int64()), ids), (schema, *columns.schemas))


def check_example_ids(ids: AnyChunked, foreign_row_count: int) -> None:
    """Checks that each id is a row of the foreign table.

    Raises:
        ExampleIdOutOfRangeError: One is not.
    """
    if ids.null_count:
        raise ExampleIdOutOfRangeError(f"{EXAMPLE_ID} has {ids.null_count} nulls; every row needs one")
    bounds: Any = pc.min_max(ids).as_py()
    for bound in (bounds["min"], bounds["max"]):
        if bound is not None and not 0 <= bound < foreign_row_count:
            raise ExampleIdOutOfRangeError(
                f"{EXAMPLE_ID} {bound} is not a row of the input table, which has {foreign_row_count} rows"
            )


def _pairs(metrics: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(metrics, Mapping):
        yield from metrics.items()
        return
    if type(metrics).__module__.partition(".")[0] == "pandas" and hasattr(metrics, "columns"):
        names, columns = list(metrics.columns), [metrics.iloc[:, index] for index in range(metrics.shape[1])]
    elif hasattr(metrics, "__arrow_c_stream__") or isinstance(metrics, pa.RecordBatch):
        table = _arrow_table(metrics)
        names, columns = table.column_names, table.columns
    else:
        raise InvalidColumnError(
            f"metrics is a {type(metrics).__name__}; give a dict of columns, an Arrow table or a data frame"
        )
    if twice := [name for name in names if names.count(name) > 1]:
        raise InvalidColumnError(f"the column {twice[0]!r} is there twice; rename one")
    yield from zip(names, columns, strict=True)


def _arrow_table(metrics: Any) -> pa.Table:
    if isinstance(metrics, pa.RecordBatch):
        return pa.Table.from_batches([metrics])
    return metrics if isinstance(metrics, pa.Table) else pa.table(metrics)


def _checked_name(name: Any) -> str:
    if not isinstance(name, str):
        raise InvalidColumnError(f"the column name {name!r} is a {type(name).__name__}; names are text")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidColumnError(f"the column name {name!a} holds a lone surrogate, which is not text") from None
    if not 1 <= length <= MAX_NAME_BYTES:
        raise InvalidColumnError(f"the column name {name[:40]!r} has {length} bytes; give 1 to {MAX_NAME_BYTES}")
    return name


def _read(name: str, values: Any, schema: ColumnSchema) -> tuple[AnyColumn, ColumnSchema]:
    try:
        array = arrow_column(values)
        if name in _FIXED_TYPES:
            array = array.cast(_FIXED_TYPES[name])
        elif schema.role in _VECTOR_ROLES:
            array = _as_vectors(array, schema.role)
    except (TypeError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InvalidColumnError(f"column {name!r}: {error}") from error
    role = _FIXED_ROLES.get(name, schema.role)
    if role is ColumnRole.UNSPECIFIED and _is_float_vector(array.type):
        role = ColumnRole.EMBEDDING
    if (schema.name, schema.role, schema.arrow_type) == (name, role, ""):
        return array, schema  # a new one for each column would be a tenth of the cost of a small batch
    return array, replace(schema, name=name, role=role, arrow_type="")


def _as_vectors(array: AnyColumn, role: ColumnRole) -> AnyColumn:
    kind: Any = array.type
    if pa.types.is_null(kind):
        return array  # no row has said yet how wide it is
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        widths: Any = pc.min_max(pc.list_value_length(array)).as_py()
        if widths["min"] != widths["max"]:
            raise ValueError(
                f"its role is {role}, but its lists have {widths['min']} to {widths['max']} values; give one width"
            )
        kind = pa.list_(pa.float32(), widths["min"] or _MAP_WIDTHS.get(role, 1))
        array = array.cast(kind)
    if not _is_float_vector(kind):
        raise ValueError(f"its role is {role}, but its type is {kind}; give vectors of floats")
    if kind.list_size != _MAP_WIDTHS.get(role, kind.list_size):
        raise ValueError(f"its role is {role}, but its vectors have {kind.list_size} values")
    return array


def _is_float_vector(kind: Any) -> bool:
    return pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type)


def _check_lengths(arrays: Mapping[str, Sequence[Any] | AnyColumn]) -> None:
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name!r} has {length}" for name, length in list(lengths.items())[:8])
        raise ColumnLengthMismatchError(
            f"columns differ in length: {listed}; give every column the same number of rows"
        )
