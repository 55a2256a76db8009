"""Operations of the domain to the wire. Pure."""

from __future__ import annotations

from rund_pb.v1 import operation_pb2, run_pb2

from rund_daemon.errors import Reason, RundError
from rund_daemon.identity import uid_text
from rund_daemon.model import Operation

from .convert_times import time_to_pb
from .status import status_of


def operation_to_pb(operation: Operation, run: run_pb2.Run | None) -> operation_pb2.Operation:
    """An operation; `run` is what it made, if it is done and made one."""
    message = operation_pb2.Operation(
        name=f"operations/{uid_text(operation.uid)}",
        done=operation.done,
        metadata=operation_pb2.OperationMetadata(
            method=operation.method,
            target=operation.target,
            progress=operation.progress,
            message=operation.message,
            create_time=time_to_pb(operation.create_time),
            end_time=time_to_pb(operation.end_time),
            cancel_requested=operation.cancel_requested,
        ),
    )
    if operation.error_reason:
        error = RundError(Reason(operation.error_reason), operation.error_message)
        message.error.CopyFrom(status_of(error))
    elif operation.done and run is not None:
        message.run.CopyFrom(run)
    elif operation.done and operation.destination_url:
        message.bundle_url = operation.destination_url
    elif operation.done and operation.result_reducers:
        message.reduction.tables.update(operation.result_tables)
        message.reduction.reducers.extend(operation.result_reducers)
    return message
