"""Tables of the wire to and from tables of the domain. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from rund_pb.v1 import metrics_pb2, table_pb2

from rund_daemon.catalog.lookup import TableState
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.identity import uid_text
from rund_daemon.ingest.plain_columns import PlainColumn
from rund_daemon.model import ColumnRole, ColumnSchema, InputTable, Run
from rund_daemon.segments.heads import describe_columns, read_head
from rund_daemon.values import fill_map

from .convert_times import time_to_pb

_PLAIN_TYPES: Mapping[str, pa.DataType] = {
    "doubles": pa.float64(),
    "ints": pa.int64(),
    "bools": pa.bool_(),
    "strings": pa.string(),
    "vectors": pa.float32(),
    "floats": pa.float32(),
    "blobs": pa.binary(),
    "times": pa.timestamp("us", tz="UTC"),
}


def column_to_pb(column: ColumnSchema, arrow_type: str) -> metrics_pb2.ColumnSchema:
    """What a column means, with its type."""
    return metrics_pb2.ColumnSchema(
        name=column.name,
        role=metrics_pb2.ColumnRole.Value(f"COLUMN_ROLE_{column.role}"),
        display_name=column.display_name,
        description=column.description,
        unit=column.unit,
        value_map=dict(column.value_map),
        writable=column.writable,
        arrow_type=arrow_type,
    )


def columns_from_pb(messages: Iterable[metrics_pb2.ColumnSchema], field: str) -> tuple[ColumnSchema, ...]:
    """What the caller says of columns. Raises InvalidError for a role that is none."""
    return tuple(_column_from_pb(message, field) for message in messages)


def metrics_table_to_pb(
    state: TableState, run: Run, make: Callable[..., metrics_pb2.MetricsTable] = metrics_pb2.MetricsTable
) -> metrics_pb2.MetricsTable:
    """A metrics table; `make` makes the message, such as the `add` of a repeated field."""
    table, mark = state.table, state.mark
    outside = bool(table.reference_url)
    message = make(
        name="" if outside else f"{run.resource_name}/metrics/{table.name}",
        uid=uid_text(table.uid),
        url=table.url,
        stream_name=table.stream_name,
        foreign_table_url=table.foreign_table_url,
        foreign_table_display_name=table.foreign_table_display_name,
        input_table_id=table.input_table_id,
        row_count=table.reference_row_count if outside else mark.rows,
        file_size=table.reference_file_size if outside else mark.bytes,
        create_time=time_to_pb(table.create_time),
        last_commit_time=time_to_pb(mark.commit_time),
        sealed=table.sealed,
    )
    message.MergeFromString(_part_about_columns(table.arrow_schema, table.columns))
    fill_map(message.constants, table.constants)
    return message


def input_table_to_pb(table: InputTable, url: str) -> table_pb2.Table:
    """An input table."""
    return table_pb2.Table(
        name=table.resource_name,
        uid=uid_text(table.uid),
        url=url,
        project_name=table.project,
        dataset_name=table.dataset,
        table_name=table.name,
        description=table.description,
        row_count=table.row_count,
        file_size=table.file_size,
        columns=_described(table.arrow_schema, table.columns),
        arrow_schema=table.arrow_schema,
        format=table_pb2.TableFormat.Value(f"TABLE_FORMAT_{table.format}"),
        input_table_id=table.input_table_id,
        registered=bool(table.registered_url),
        create_time=time_to_pb(table.create_time),
    )


def plain_column_from_pb(message: metrics_pb2.ColumnBatch.Column, field: str) -> PlainColumn:
    """A plain column. Raises InvalidError if it has no values or its vectors no width."""
    kind = message.WhichOneof("values")
    if kind is None:
        raise InvalidError(
            field,
            f"column {message.name[:60]!r} has no values; set one of its kinds",
            reason=Reason.INVALID_COLUMN,
        )
    values = getattr(message, kind)
    width = message.vectors.width if kind == "vectors" else 0
    if kind == "vectors" and not width:
        raise InvalidError(field, f"column {message.name[:60]!r} has vectors of width 0", reason=Reason.INVALID_COLUMN)
    rows = _vector_values(message) if width else values.values
    return PlainColumn(message.name, _PLAIN_TYPES[kind], rows, width, message.null_rows)


def _vector_values(message: metrics_pb2.ColumnBatch.Column) -> Sequence[float]:
    packed = message.vectors.little_endian_values
    if not packed:
        return message.vectors.values
    if len(packed) % 4 or message.vectors.values:
        raise InvalidError(
            "batch.columns",
            f"column {message.name[:60]!r}: little_endian_values are 4 bytes each, and `values` is empty then",
            reason=Reason.INVALID_COLUMN,
        )
    floats: list[float] = np.frombuffer(packed, "<f4").tolist()
    return floats


@lru_cache(maxsize=256)
def _described(arrow_schema: bytes, columns: tuple[ColumnSchema, ...]) -> Sequence[metrics_pb2.ColumnSchema]:
    """The columns that have rows, then those that were only announced."""
    schema = read_head(arrow_schema)
    present = [
        column_to_pb(column, str(field.type))
        for column, field in zip(describe_columns(schema, columns), schema, strict=True)
    ]
    return present + [column_to_pb(column, "") for column in columns if column.name not in schema.names]


@lru_cache(maxsize=256)
def _part_about_columns(arrow_schema: bytes, columns: tuple[ColumnSchema, ...]) -> bytes:
    """The tables of a run are much alike, and a run may have thousands: this of them is made once."""
    part = metrics_pb2.MetricsTable(columns=_described(arrow_schema, columns), arrow_schema=arrow_schema)
    return part.SerializeToString()


def _column_from_pb(message: metrics_pb2.ColumnSchema, field: str) -> ColumnSchema:
    try:
        role = ColumnRole(metrics_pb2.ColumnRole.Name(message.role).removeprefix("COLUMN_ROLE_"))
    except ValueError:
        raise InvalidError(f"{field}.role", f"{message.role} is no ColumnRole", reason=Reason.INVALID_COLUMN) from None
    return ColumnSchema(
        message.name,
        role,
        message.display_name,
        message.description,
        message.unit,
        dict(message.value_map),
        message.writable,
    )
