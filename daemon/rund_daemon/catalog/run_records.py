"""The catalog's record of a run, with its writers and ends, to and from the words of the domain. Mechanical."""

from __future__ import annotations

from rund_pb.store.v1 import records_pb2 as pb

from rund_daemon.model import Cause, CauseKind, Micros, Revision, Run, RunEnd, RunStatus, Uid, Writer
from rund_daemon.values import fill_map, read_map


def _cause_to_pb(cause: Cause) -> pb.Cause:
    return pb.Cause(
        kind=cause.kind,
        message=cause.message,
        exit_code=cause.exit_code,
        signal=cause.signal,
        last_heartbeat=cause.last_heartbeat,
    )


def _cause_from_pb(record: pb.Run | pb.RunEnd | pb.Writer) -> Cause | None:
    if not record.HasField("cause"):
        return None
    cause = record.cause
    return Cause(CauseKind(cause.kind), cause.message, cause.exit_code, cause.signal, Micros(cause.last_heartbeat))


def _writer_to_pb(writer: Writer) -> pb.Writer:
    return pb.Writer(
        writer_id=writer.writer_id,
        host=writer.host,
        boot_id=writer.boot_id,
        pid=writer.pid,
        start_ticks=writer.start_ticks,
        rank=writer.rank,
        finish_time=writer.finish_time,
        status=writer.status or "",
        cause=_cause_to_pb(writer.cause) if writer.cause else None,
        dropped_rows=writer.dropped_rows,
        pid_namespace=writer.pid_namespace,
    )


def _writer_from_pb(record: pb.Writer) -> Writer:
    return Writer(
        record.writer_id,
        record.host,
        record.boot_id,
        record.pid,
        record.start_ticks,
        record.rank,
        Micros(record.finish_time),
        RunStatus(record.status) if record.status else None,
        _cause_from_pb(record),
        record.dropped_rows,
        record.pid_namespace,
    )


def _end_to_pb(end: RunEnd) -> pb.RunEnd:
    return pb.RunEnd(status=end.status, cause=_cause_to_pb(end.cause) if end.cause else None, end_time=end.end_time)


def _end_from_pb(record: pb.RunEnd) -> RunEnd:
    return RunEnd(RunStatus(record.status), _cause_from_pb(record), Micros(record.end_time))


def run_to_bytes(run: Run) -> bytes:
    """Record of a run."""
    record = pb.Run(
        uid=run.uid,
        project=run.project,
        name=run.name,
        description=run.description,
        status=run.status,
        cause=_cause_to_pb(run.cause) if run.cause else None,
        create_time=run.create_time,
        update_time=run.update_time,
        labels=dict(run.labels),
        input_table_urls=run.input_table_urls,
        revision=run.revision,
        delete_time=run.delete_time,
        expire_time=run.expire_time,
        writers=map(_writer_to_pb, run.writers),
        ends=map(_end_to_pb, run.ends),
        next_value=run.next_value,
        next_table=run.next_table,
        end_time=run.end_time,
    )
    fill_map(record.parameters, run.parameters)
    fill_map(record.init_parameters, run.init_parameters)
    return record.SerializeToString()


def run_from_bytes(data: bytes) -> Run:
    """A run of its record."""
    record = pb.Run.FromString(data)
    return Run(
        uid=Uid(record.uid),
        project=record.project,
        name=record.name,
        create_time=Micros(record.create_time),
        update_time=Micros(record.update_time),
        revision=Revision(record.revision),
        description=record.description,
        status=RunStatus(record.status),
        cause=_cause_from_pb(record),
        labels=dict(record.labels),
        parameters=read_map(record.parameters, "parameters"),
        init_parameters=read_map(record.init_parameters, "init_parameters"),
        input_table_urls=tuple(record.input_table_urls),
        delete_time=Micros(record.delete_time),
        expire_time=Micros(record.expire_time),
        writers=tuple(map(_writer_from_pb, record.writers)),
        ends=tuple(map(_end_from_pb, record.ends)),
        next_value=record.next_value,
        next_table=record.next_table,
        end_time=Micros(record.end_time),
    )
