"""ServerService and OperationService, one function an RPC."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from rund_pb.v1 import operation_service_pb2 as operations_pb
from rund_pb.v1 import server_service_pb2 as server_pb

from rund._job_types import OperationInfo
from rund._types import ServerInfo

from . import convert
from .channel import CALL_TIMEOUT_S, UNAVAILABLE_TIMEOUT_S, Transport

_LONGEST_WAIT_S = 300.0


def get_server_info(
    transport: Transport,
    timeout_s: float = CALL_TIMEOUT_S,
    unavailable_timeout_s: float = UNAVAILABLE_TIMEOUT_S,
) -> ServerInfo:
    """Says which daemon this is."""
    answer = transport.call(
        lambda stubs: stubs.server.GetServerInfo,
        server_pb.GetServerInfoRequest(),
        timeout_s=timeout_s,
        unavailable_timeout_s=unavailable_timeout_s,
    )
    return convert.server_info_from_pb(answer.server_info)


def get_operation(transport: Transport, name: str) -> OperationInfo:
    """Gives an operation."""
    request = operations_pb.GetOperationRequest(name=name)
    return convert.operation_from_pb(transport.call(lambda stubs: stubs.operations.GetOperation, request).operation)


def list_operations(transport: Transport, page_size: int = 0) -> Iterator[OperationInfo]:
    """Gives operations, newest first."""
    request = operations_pb.ListOperationsRequest(page_size=page_size)
    while True:
        answer = transport.call(lambda stubs: stubs.operations.ListOperations, request)
        yield from map(convert.operation_from_pb, answer.operations)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def cancel_operation(transport: Transport, name: str) -> OperationInfo:
    """Asks an operation to end."""
    request = operations_pb.CancelOperationRequest(name=name)
    answer = transport.call(lambda stubs: stubs.operations.CancelOperation, request)
    return convert.operation_from_pb(answer.operation)


def wait_operation(transport: Transport, name: str, timeout_s: float | None = None) -> OperationInfo:
    """Gives an operation when it is done, or as it is when the time has passed; None: no bound."""
    left = timeout_s
    while True:
        wait_s = _LONGEST_WAIT_S if left is None else min(left, _LONGEST_WAIT_S)
        duration = Duration()
        duration.FromMilliseconds(int(wait_s * 1000))
        request = operations_pb.WaitOperationRequest(name=name, timeout=duration)
        # The call's own deadline leaves the daemon room to answer after the wait.
        answer = transport.call(
            lambda stubs: stubs.operations.WaitOperation, request, timeout_s=wait_s + CALL_TIMEOUT_S
        )
        left = None if left is None else left - wait_s
        if answer.operation.done or (left is not None and left <= 0):
            return convert.operation_from_pb(answer.operation)
