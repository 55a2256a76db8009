"""Messages of ``rund.v1`` to and from the client's plain data: pure functions, nothing is asked or kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rund_pb.v1 import metrics_pb2, operation_pb2, reducer_pb2, run_pb2, server_service_pb2, table_pb2

from rund import _types as types
from rund._errors import InvalidFieldError
from rund._job_types import OperationInfo, ReducerInfo

from .status import error_from_status
from .values import map_from_pb, map_to_pb


def run_from_pb(message: run_pb2.Run) -> types.RunInfo:
    """A run."""
    return types.RunInfo(
        resource_name=message.name,
        uid=message.uid,
        url=message.url,
        project_name=message.project_name,
        name=message.run_name,
        description=message.description,
        status=status_from_pb(message.status),
        cause=cause_from_pb(message.cause) if message.HasField("cause") else None,
        created=_time(message, "create_time"),
        last_modified=_time(message, "update_time"),
        labels=dict(message.labels),
        parameters=map_from_pb(message.parameters),
        init_parameters=map_from_pb(message.init_parameters),
        input_table_urls=tuple(message.input_table_urls),
        inputs=tuple(map_from_pb(value) for value in message.inputs),
        outputs=tuple(map_from_pb(value) for value in message.outputs),
        metrics=tuple(metrics_table_from_pb(table) for table in message.metrics),
        bulk_data_url=message.bulk_data_url,
        etag=message.etag,
        deleted=_time(message, "delete_time"),
        expires=_time(message, "expire_time"),
        writers=tuple(_writer_from_pb(writer) for writer in message.writers),
        ends=tuple(_end_from_pb(end) for end in message.ends),
        ended=_time(message, "end_time"),
    )


def metrics_table_from_pb(message: metrics_pb2.MetricsTable) -> types.MetricTableInfo:
    """A metrics table."""
    return types.MetricTableInfo(
        url=message.url,
        file_size=message.file_size,
        stream_name=message.stream_name,
        row_count=message.row_count,
        name=message.name.rpartition("/")[2],
        created=_time(message, "create_time"),
        foreign_table_url=message.foreign_table_url,
        columns=tuple(_column_once(column.SerializeToString()) for column in message.columns),
        sealed=message.sealed,
        resource_name=message.name,
        uid=message.uid,
        foreign_table_display_name=message.foreign_table_display_name,
        input_table_id=message.input_table_id,
        constants=map_from_pb(message.constants),
        last_commit=_time(message, "last_commit_time"),
        arrow_schema=message.arrow_schema,
    )


def table_from_pb(message: table_pb2.Table) -> types.TableInfo:
    """An input table."""
    return types.TableInfo(
        url=message.url,
        name=message.table_name,
        resource_name=message.name,
        uid=message.uid,
        project_name=message.project_name,
        dataset_name=message.dataset_name,
        description=message.description,
        row_count=message.row_count,
        file_size=message.file_size,
        columns=tuple(column_from_pb(column) for column in message.columns),
        arrow_schema=message.arrow_schema,
        format=_FORMATS.get(message.format, types.TableFormat.UNSPECIFIED),
        input_table_id=message.input_table_id,
        registered=message.registered,
        created=_time(message, "create_time"),
    )


def column_from_pb(message: metrics_pb2.ColumnSchema) -> types.ColumnSchema:
    """What a column means."""
    return types.ColumnSchema(
        name=message.name,
        role=_ROLES.get(message.role, types.ColumnRole.UNSPECIFIED),
        display_name=message.display_name,
        description=message.description,
        unit=message.unit,
        value_map=dict(message.value_map),
        writable=message.writable,
        arrow_type=message.arrow_type,
    )


@lru_cache(maxsize=1024)
def _column_once(message: bytes) -> types.ColumnSchema:
    """The tables of a run are much alike, and a run may have thousands: their columns are the same objects."""
    return column_from_pb(metrics_pb2.ColumnSchema.FromString(message))


def columns_to_pb(columns: Iterable[types.ColumnSchema]) -> list[metrics_pb2.ColumnSchema]:
    """What columns mean; their Arrow types are the daemon's to say."""
    return [
        metrics_pb2.ColumnSchema(
            name=column.name,
            role=_ROLES_TO_PB[column.role],
            display_name=column.display_name,
            description=column.description,
            unit=column.unit,
            value_map=dict(column.value_map),
            writable=column.writable,
        )
        for column in columns
    ]


def metrics_table_to_pb(
    info: types.MetricTableInfo, constants: Mapping[str, object] | None = None
) -> metrics_pb2.MetricsTable:
    """What CreateMetricsTable takes of a metrics table."""
    return metrics_pb2.MetricsTable(
        stream_name=info.stream_name,
        foreign_table_url=info.foreign_table_url,
        foreign_table_display_name=info.foreign_table_display_name,
        columns=columns_to_pb(info.columns),
        constants=map_to_pb(constants, "constants") if constants else None,
        arrow_schema=info.arrow_schema,
    )


def cause_from_pb(message: run_pb2.Cause) -> types.Cause:
    """Why a run ended."""
    return types.Cause(
        kind=_KINDS.get(message.kind, types.CauseKind.UNSPECIFIED),
        message=message.message,
        exit_code=message.exit_code,
        signal=message.signal,
        last_heartbeat=_time(message, "last_heartbeat"),
    )


def cause_to_pb(cause: types.Cause | None) -> run_pb2.Cause | None:
    """Why a run ended."""
    if cause is None:
        return None
    message = run_pb2.Cause(
        kind=_KINDS_TO_PB[cause.kind], message=cause.message, exit_code=cause.exit_code, signal=cause.signal
    )
    if cause.last_heartbeat is not None:
        message.last_heartbeat.FromDatetime(cause.last_heartbeat)
    return message


def writer_to_pb(writer: types.WriterInfo) -> run_pb2.Writer:
    """The process that asks."""
    return run_pb2.Writer(
        writer_id=writer.writer_id,
        host=writer.host,
        boot_id=writer.boot_id,
        pid=writer.pid,
        start_ticks=writer.start_ticks,
        rank=writer.rank,
        pid_namespace=writer.pid_namespace,
    )


def status_from_pb(status: run_pb2.RunStatus.ValueType) -> types.RunStatus:
    """A status; one of a newer schema is UNSPECIFIED."""
    return types.RunStatus(status) if status in _STATUSES else types.RunStatus.UNSPECIFIED


def status_to_pb(status: types.RunStatus) -> run_pb2.RunStatus.ValueType:
    """A status."""
    return run_pb2.RunStatus.Value(f"RUN_STATUS_{types.RunStatus(status).name}")


def labels_to_pb(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Labels.

    Raises:
        InvalidFieldError: A key or value is no text.
    """
    return {
        text_to_pb(key, "a label's key"): text_to_pb(value, f"the label {key!r}")
        for key, value in (labels or {}).items()
    }


def text_to_pb(text: str | None, argument: str) -> str:
    """A text that may be left out.

    Raises:
        InvalidFieldError: It is no text.
    """
    if text is None:
        return ""
    if not isinstance(text, str):
        raise InvalidFieldError(f"{argument} is {text!r}, which is no text; use str(...)")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidFieldError(f"{argument} holds a lone surrogate, which is not text") from None
    return text


def if_exists_to_pb(if_exists: str) -> run_pb2.IfExists.ValueType:
    """What to do when a name is taken.

    Raises:
        InvalidFieldError: The text is not one of those that are known.
    """
    if if_exists not in ("rename", "reuse", "overwrite", "raise"):
        raise InvalidFieldError(f"if_exists is {if_exists!r}; use 'rename', 'reuse', 'overwrite' or 'raise'")
    return run_pb2.IfExists.Value(f"IF_EXISTS_{if_exists.upper()}")


def event_from_pb(type_name: str, run: run_pb2.Run | None, revision: int) -> types.RunEvent:
    """A change of a run; ``type_name`` is the enum's name."""
    kind = types.RunEventType(type_name.removeprefix("TYPE_").lower())
    return types.RunEvent(type=kind, run=None if run is None else run_from_pb(run), revision=revision)


def operation_from_pb(message: operation_pb2.Operation) -> OperationInfo:
    """A long-running job."""
    metadata = message.metadata
    return OperationInfo(
        name=message.name,
        method=metadata.method,
        target=metadata.target,
        done=message.done,
        progress=metadata.progress,
        message=metadata.message,
        created=_time(metadata, "create_time"),
        ended=_time(metadata, "end_time"),
        cancel_requested=metadata.cancel_requested,
        error=error_from_status(message.error) if message.HasField("error") else None,
        run=run_from_pb(message.run) if message.HasField("run") else None,
        bundle_url=message.bundle_url,
        tables=dict(sorted(message.reduction.tables.items())),
        reducers=tuple(message.reduction.reducers),
    )


def reducer_from_pb(message: reducer_pb2.Reducer) -> ReducerInfo:
    """A kept reducer."""
    spec = message.spec
    project, _, name = message.name.removeprefix("projects/").partition("/reducers/")
    return ReducerInfo(
        resource_name=message.name,
        uid=message.uid,
        name=name,
        project_name=project,
        method=spec.method,
        n_components=spec.n_components,
        n_neighbors=spec.n_neighbors,
        metric=spec.metric,
        min_dist=spec.min_dist,
        source_embedding_column=spec.source_embedding_column,
        target_embedding_column=spec.target_embedding_column,
        standard_scaler_normalize=spec.standard_scaler_normalize,
        random_state=spec.random_state,
        method_options=map_from_pb(spec.method_options),
        fit_table_url=message.fit_table_url,
        fit_row_count=message.fit_row_count,
        input_width=message.input_width,
        library_versions=dict(message.library_versions),
        quality=dict(message.quality),
        created=_time(message, "create_time"),
        warnings=tuple(message.warnings),
    )


def server_info_from_pb(message: server_service_pb2.ServerInfo) -> types.ServerInfo:
    """Facts about a daemon."""
    limits = message.limits
    return types.ServerInfo(
        version=message.version,
        instance_id=message.instance_id,
        root_url=message.root_url,
        pid=message.pid,
        host=message.host,
        start_time=_time(message, "start_time"),
        capabilities=tuple(message.capabilities),
        limits=types.ServerLimits(
            max_message_bytes=limits.max_message_bytes,
            max_batch_bytes=limits.max_batch_bytes,
            max_batch_rows=limits.max_batch_rows,
            max_inflight_bytes=limits.max_inflight_bytes,
            max_columns=limits.max_columns,
            max_value_bytes=limits.max_value_bytes,
            max_page_size=limits.max_page_size,
        ),
        run_count=message.run_count,
        revision=message.revision,
    )


def _writer_from_pb(message: run_pb2.Writer) -> types.WriterInfo:
    finish_time = _time(message, "finish_time")
    return types.WriterInfo(
        writer_id=message.writer_id,
        host=message.host,
        boot_id=message.boot_id,
        pid=message.pid,
        start_ticks=message.start_ticks,
        rank=message.rank,
        finish_time=finish_time,
        status=None if finish_time is None else status_from_pb(message.status),
        cause=cause_from_pb(message.cause) if message.HasField("cause") else None,
        dropped_rows=message.dropped_rows,
        pid_namespace=message.pid_namespace,
    )


def _end_from_pb(message: run_pb2.RunEnd) -> types.RunEnd:
    return types.RunEnd(
        status=status_from_pb(message.status),
        cause=cause_from_pb(message.cause) if message.HasField("cause") else None,
        end_time=_time(message, "end_time"),
    )


def _time(message: Message, field: str) -> datetime | None:
    if not message.HasField(field):
        return None
    timestamp: Timestamp = getattr(message, field)
    # As ToDatetime does, in a fifth of its time: a run may have thousands of tables.
    return _EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STATUSES = frozenset(int(status) for status in types.RunStatus)
_ROLES_TO_PB = {role: metrics_pb2.ColumnRole.Value(f"COLUMN_ROLE_{role.name}") for role in types.ColumnRole}
_ROLES = {number: role for role, number in _ROLES_TO_PB.items()}
_KINDS_TO_PB = {kind: run_pb2.Cause.Kind.Value(f"KIND_{kind.name}") for kind in types.CauseKind}
_KINDS = {number: kind for kind, number in _KINDS_TO_PB.items()}
_FORMATS = {table_pb2.TableFormat.Value(f"TABLE_FORMAT_{form.name}"): form for form in types.TableFormat}
