"""Runs of the wire to and from runs of the domain. Pure."""

from __future__ import annotations

from typing import Any

from rund_pb.v1 import run_pb2, value_pb2

from rund_daemon.catalog.lookup import RunDetails
from rund_daemon.errors import ExhaustedError, InvalidError, Reason
from rund_daemon.identity import parse_uid, uid_text
from rund_daemon.limits import Limits
from rund_daemon.model import Cause, CauseKind, IfExists, Micros, Run, RunEnd, RunStatus, Values, Writer
from rund_daemon.segments.layout import Layout
from rund_daemon.values import fill_map, fill_maps, read_map

from .convert_tables import metrics_table_to_pb
from .convert_times import time_from_pb, time_to_pb


def status_to_pb(status: RunStatus | None) -> run_pb2.RunStatus.ValueType:
    """A status; UNSPECIFIED for None."""
    return run_pb2.RunStatus.Value(f"RUN_STATUS_{status or 'UNSPECIFIED'}")


def status_from_pb(number: int, field: str) -> RunStatus | None:
    """A status; None if it is not given. Raises InvalidError for a number that is none."""
    status: RunStatus | None = _enum_from_pb(run_pb2.RunStatus, number, "RUN_STATUS_", RunStatus, field)
    return status


def if_exists_from_pb(number: int, default: IfExists) -> IfExists:
    """What to do with a name that is taken."""
    word: IfExists | None = _enum_from_pb(run_pb2.IfExists, number, "IF_EXISTS_", IfExists, "if_exists")
    return word or default


def cause_to_pb(cause: Cause | None) -> run_pb2.Cause | None:
    """A cause."""
    if cause is None:
        return None
    return run_pb2.Cause(
        kind=run_pb2.Cause.Kind.Value(f"KIND_{cause.kind}"),
        message=cause.message,
        exit_code=cause.exit_code,
        signal=cause.signal,
        last_heartbeat=time_to_pb(cause.last_heartbeat),
    )


def cause_from_pb(message: run_pb2.Cause, field: str) -> Cause:
    """A cause."""
    kind: CauseKind | None = _enum_from_pb(run_pb2.Cause.Kind, message.kind, "KIND_", CauseKind, f"{field}.kind")
    return Cause(
        kind or CauseKind.UNSPECIFIED,
        message.message[:10_000],
        message.exit_code,
        message.signal,
        time_from_pb(message.last_heartbeat, f"{field}.last_heartbeat"),
    )


def writer_from_pb(message: run_pb2.Writer) -> Writer:
    """A writer that takes part from now on. Raises InvalidError if its id is no UUID."""
    return Writer(
        uid_text(parse_uid(message.writer_id, "writer.writer_id")),
        message.host[:255],
        message.boot_id[:64],
        message.pid,
        message.start_ticks,
        message.rank,
        pid_namespace=message.pid_namespace,
    )


def writer_to_pb(writer: Writer) -> run_pb2.Writer:
    """A writer."""
    return run_pb2.Writer(
        writer_id=writer.writer_id,
        host=writer.host,
        boot_id=writer.boot_id,
        pid=writer.pid,
        start_ticks=writer.start_ticks,
        rank=writer.rank,
        finish_time=time_to_pb(writer.finish_time),
        status=status_to_pb(writer.status),
        cause=cause_to_pb(writer.cause),
        dropped_rows=writer.dropped_rows,
        pid_namespace=writer.pid_namespace,
    )


def end_to_pb(end: RunEnd) -> run_pb2.RunEnd:
    """An earlier end."""
    return run_pb2.RunEnd(
        status=status_to_pb(end.status), cause=cause_to_pb(end.cause), end_time=time_to_pb(end.end_time)
    )


def values_from_pb(message: value_pb2.MapValue, field: str, limits: Limits) -> Values:
    """Free-form values. Raises InvalidError or, if they are too large, ExhaustedError."""
    size = message.ByteSize()
    if size > limits.max_value_bytes:
        raise ExhaustedError(
            Reason.OVER_LIMIT,
            f"{field}: {size} bytes and the limit is {limits.max_value_bytes}; put large things into bulk_data_url",
            field=field,
            limit=f"max_value_bytes={limits.max_value_bytes}",
            value=size,
        )
    return read_map(message, field)


def run_to_pb(details: RunDetails, layout: Layout, *, full: bool) -> run_pb2.Run:
    """A run."""
    run = details.run
    url = str(layout.run(run.project, run.name))
    message = run_pb2.Run(
        name=run.resource_name,
        uid=uid_text(run.uid),
        url=url,
        project_name=run.project,
        run_name=run.name,
        description=run.description,
        status=status_to_pb(run.status),
        cause=cause_to_pb(run.cause),
        create_time=time_to_pb(run.create_time),
        update_time=time_to_pb(_last_change(details)),
        labels=dict(run.labels),
        input_table_urls=run.input_table_urls,
        bulk_data_url=str(layout.bulk_data(run.project, run.name)),
        etag=run.etag,
        delete_time=time_to_pb(run.delete_time),
        expire_time=time_to_pb(run.expire_time),
        writers=map(writer_to_pb, run.writers),
        ends=map(end_to_pb, run.ends),
        end_time=time_to_pb(run.end_time),
    )
    fill_map(message.parameters, run.parameters)
    fill_map(message.init_parameters, run.init_parameters)
    if full:
        fill_maps(message.inputs, details.inputs)
        fill_maps(message.outputs, details.outputs)
        message.metrics.extend(metrics_table_to_pb(state, run) for state in details.listed)
    return message


def bare(run: Run) -> RunDetails:
    """A run without what is kept apart from it."""
    return RunDetails(run, (), (), ())


def _last_change(details: RunDetails) -> Micros:
    return max([details.run.update_time, *(state.mark.commit_time for state in details.tables)])


def _enum_from_pb(enum: Any, number: int, prefix: str, domain: Any, field: str) -> Any:
    """A word of the domain for a number of the wire; None for 0. The two have the same names."""
    if number == 0:
        return None
    try:
        return domain(enum.Name(number).removeprefix(prefix))
    except ValueError:
        raise InvalidError(
            field, f"{number} is no {enum.DESCRIPTOR.name}; use one of {', '.join(enum.keys()[1:])}"
        ) from None
