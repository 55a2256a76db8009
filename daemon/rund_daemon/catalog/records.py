"""Records of the catalog to and from the words of the domain. Mechanical: one pair of functions a record."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from rund_pb.store.v1 import records_pb2 as pb

from rund_daemon.model import (
    ColumnRole,
    ColumnSchema,
    Event,
    EventType,
    FolderMove,
    InputTable,
    KeptReducer,
    KeptRequest,
    MetricsTable,
    Micros,
    Operation,
    Revision,
    TableFormat,
    Uid,
    Values,
)
from rund_daemon.values import fill_map, read_map


def values_to_bytes(values: Values) -> bytes:
    """Record of an input or output value."""
    record = pb.MapValue()
    fill_map(record, values)
    return record.SerializeToString()


def values_from_bytes(data: bytes) -> Values:
    """An input or output value of its record."""
    return read_map(pb.MapValue.FromString(data), "value")


def _column_to_pb(column: ColumnSchema) -> pb.ColumnSchema:
    return pb.ColumnSchema(
        name=column.name,
        role=column.role,
        display_name=column.display_name,
        description=column.description,
        unit=column.unit,
        value_map=dict(column.value_map),
        writable=column.writable,
    )


def _columns_from_pb(records: Iterable[pb.ColumnSchema]) -> tuple[ColumnSchema, ...]:
    return tuple([_column_from_bytes(record.SerializeToString()) for record in records])


@lru_cache(maxsize=1024)
def _column_from_bytes(data: bytes) -> ColumnSchema:
    """The tables of a run are much alike, and a run may have thousands: their columns are the same objects."""
    record = pb.ColumnSchema.FromString(data)
    return ColumnSchema(
        record.name,
        ColumnRole(record.role or ColumnRole.UNSPECIFIED),
        record.display_name,
        record.description,
        record.unit,
        dict(record.value_map),
        record.writable,
    )


def table_to_bytes(table: MetricsTable) -> bytes:
    """Record of a metrics table."""
    record = pb.MetricsTable(
        uid=table.uid,
        run_uid=table.run_uid,
        number=table.number,
        name=table.name,
        reference_url=table.reference_url,
        stream_name=table.stream_name,
        foreign_table_url=table.foreign_table_url,
        foreign_table_display_name=table.foreign_table_display_name,
        input_table_id=table.input_table_id,
        foreign_row_count=table.foreign_row_count,
        columns=map(_column_to_pb, table.columns),
        create_time=table.create_time,
        sealed=table.sealed,
        arrow_schema=table.arrow_schema,
        reference_row_count=table.reference_row_count,
        reference_file_size=table.reference_file_size,
        replaced=table.replaced,
        delete_time=table.delete_time,
        expire_time=table.expire_time,
    )
    fill_map(record.constants, table.constants)
    return record.SerializeToString()


def table_uid_from_bytes(data: bytes) -> Uid:
    """Which metrics table a record is of."""
    return Uid(pb.MetricsTable.FromString(data).uid)


def table_from_bytes(data: bytes) -> MetricsTable:
    """A metrics table of its record."""
    record = pb.MetricsTable.FromString(data)
    return MetricsTable(
        uid=Uid(record.uid),
        run_uid=Uid(record.run_uid),
        number=record.number,
        name=record.name,
        create_time=Micros(record.create_time),
        stream_name=record.stream_name,
        reference_url=record.reference_url,
        reference_row_count=record.reference_row_count,
        reference_file_size=record.reference_file_size,
        foreign_table_url=record.foreign_table_url,
        foreign_table_display_name=record.foreign_table_display_name,
        foreign_row_count=record.foreign_row_count,
        input_table_id=record.input_table_id,
        columns=_columns_from_pb(record.columns),
        constants=read_map(record.constants, "constants"),
        sealed=record.sealed,
        arrow_schema=record.arrow_schema,
        replaced=record.replaced,
        delete_time=Micros(record.delete_time),
        expire_time=Micros(record.expire_time),
    )


def input_table_to_bytes(table: InputTable) -> bytes:
    """Record of an input table."""
    return pb.InputTable(
        uid=table.uid,
        project=table.project,
        dataset=table.dataset,
        name=table.name,
        description=table.description,
        registered_url=table.registered_url,
        row_count=table.row_count,
        file_size=table.file_size,
        columns=map(_column_to_pb, table.columns),
        arrow_schema=table.arrow_schema,
        format=table.format,
        input_table_id=table.input_table_id,
        create_time=table.create_time,
        content_hash=table.content_hash,
    ).SerializeToString()


def input_table_from_bytes(data: bytes) -> InputTable:
    """An input table of its record."""
    record = pb.InputTable.FromString(data)
    return InputTable(
        uid=Uid(record.uid),
        project=record.project,
        dataset=record.dataset,
        name=record.name,
        create_time=Micros(record.create_time),
        row_count=record.row_count,
        file_size=record.file_size,
        format=TableFormat(record.format),
        input_table_id=record.input_table_id,
        arrow_schema=record.arrow_schema,
        description=record.description,
        registered_url=record.registered_url,
        columns=_columns_from_pb(record.columns),
        content_hash=record.content_hash,
    )


def operation_to_bytes(operation: Operation) -> bytes:
    """Record of an operation."""
    return pb.Operation(
        uid=operation.uid,
        method=operation.method,
        target=operation.target,
        create_time=operation.create_time,
        end_time=operation.end_time,
        progress=operation.progress,
        message=operation.message,
        cancel_requested=operation.cancel_requested,
        error_reason=operation.error_reason,
        error_message=operation.error_message,
        result_run_uid=operation.result_run_uid,
        destination_url=operation.destination_url,
        result_tables=dict(operation.result_tables),
        result_reducers=operation.result_reducers,
    ).SerializeToString()


def operation_from_bytes(data: bytes) -> Operation:
    """An operation of its record."""
    record = pb.Operation.FromString(data)
    return Operation(
        uid=Uid(record.uid),
        method=record.method,
        target=record.target,
        create_time=Micros(record.create_time),
        end_time=Micros(record.end_time),
        progress=record.progress,
        message=record.message,
        cancel_requested=record.cancel_requested,
        error_reason=record.error_reason,
        error_message=record.error_message,
        result_run_uid=Uid(record.result_run_uid),
        destination_url=record.destination_url,
        result_tables=dict(record.result_tables),
        result_reducers=tuple(record.result_reducers),
    )


def reducer_to_bytes(reducer: KeptReducer) -> bytes:
    """Record of a reducer."""
    return pb.Reducer(
        uid=reducer.uid,
        project=reducer.project,
        name=reducer.name,
        create_time=reducer.create_time,
        parameters=reducer.parameters,
        source_column=reducer.source_column,
        target_column=reducer.target_column,
        fit_table_url=reducer.fit_table_url,
        fit_row_count=reducer.fit_row_count,
        input_width=reducer.input_width,
        fingerprint=reducer.fingerprint,
        library_versions=dict(reducer.library_versions),
        quality=dict(reducer.quality),
        warnings=reducer.warnings,
    ).SerializeToString()


def reducer_from_bytes(data: bytes) -> KeptReducer:
    """A reducer of its record."""
    record = pb.Reducer.FromString(data)
    return KeptReducer(
        uid=Uid(record.uid),
        project=record.project,
        name=record.name,
        create_time=Micros(record.create_time),
        parameters=record.parameters,
        source_column=record.source_column,
        target_column=record.target_column,
        fit_table_url=record.fit_table_url,
        fit_row_count=record.fit_row_count,
        input_width=record.input_width,
        fingerprint=record.fingerprint,
        library_versions=dict(record.library_versions),
        quality=dict(record.quality),
        warnings=tuple(record.warnings),
    )


def event_to_bytes(event: Event) -> bytes:
    """Record of an event."""
    return pb.Event(
        revision=event.revision, type=event.type, run_uid=event.run_uid, project=event.project
    ).SerializeToString()


def event_from_bytes(data: bytes) -> Event:
    """An event of its record."""
    record = pb.Event.FromString(data)
    return Event(Revision(record.revision), EventType(record.type), Uid(record.run_uid), record.project)


def request_to_bytes(request: KeptRequest) -> bytes:
    """Record of a request that was carried out."""
    return pb.Request(
        method=request.method,
        fingerprint=request.fingerprint,
        result_uid=request.result_uid,
        time=request.time,
        created=request.created,
    ).SerializeToString()


def request_from_bytes(data: bytes) -> KeptRequest:
    """A request of its record."""
    record = pb.Request.FromString(data)
    return KeptRequest(record.method, record.fingerprint, Uid(record.result_uid), Micros(record.time), record.created)


def move_to_bytes(move: FolderMove) -> bytes:
    """Record of a move."""
    return pb.FolderMove(source=move.source, destination=move.destination).SerializeToString()


def move_from_bytes(data: bytes) -> FolderMove:
    """A move of its record."""
    record = pb.FolderMove.FromString(data)
    return FolderMove(record.source, record.destination)
