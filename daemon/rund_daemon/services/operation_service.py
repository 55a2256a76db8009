"""OperationService: follows and ends long-running jobs."""

from __future__ import annotations

from rund_pb.v1 import operation_pb2, operation_service_pb2_grpc
from rund_pb.v1 import operation_service_pb2 as pb

from rund_daemon.errors import InvalidError, NotFoundError, Reason
from rund_daemon.identity import parse_uid
from rund_daemon.limits import Limits
from rund_daemon.model import Operation, Uid
from rund_daemon.operations import Operations
from rund_daemon.reading.pages import check_page_size, make_token, read_token
from rund_daemon.runs import Runs
from rund_daemon.segments.layout import Layout

from .convert import run_to_pb
from .convert_operations import operation_to_pb
from .interceptor import Context

_DEFAULT_WAIT_SECONDS = 60.0
_MAX_WAIT_SECONDS = 300.0
_QUERY = "ListOperations"


class OperationServicer(operation_service_pb2_grpc.OperationServiceServicer):
    """Each method checks, calls the domain once and translates back."""

    def __init__(self, operations: Operations, runs: Runs, layout: Layout, limits: Limits) -> None:
        self._operations = operations
        self._runs = runs
        self._layout = layout
        self._limits = limits

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.GetOperationResponse:
        """Gives an operation."""
        return pb.GetOperationResponse(operation=self._message(self._operations.get(_uid(request.name))))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """Gives a page of operations."""
        size = check_page_size(request.page_size, self._limits.max_page_size)
        found, following = self._operations.page(size, read_token(request.page_token, _QUERY))
        return pb.ListOperationsResponse(
            operations=map(self._message, found),
            next_page_token=make_token(_QUERY, following) if following else "",
        )

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> pb.CancelOperationResponse:
        """Asks an operation to end."""
        operation = await self._operations.cancel(_uid(request.name))
        return pb.CancelOperationResponse(operation=self._message(operation))

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Context) -> pb.WaitOperationResponse:
        """Waits for the end of an operation, for a bounded time."""
        seconds = _DEFAULT_WAIT_SECONDS
        if request.HasField("timeout"):
            seconds = request.timeout.seconds + request.timeout.nanos / 1e9
        if seconds < 0:
            raise InvalidError("timeout", f"{seconds} s is negative; give how long to wait")
        operation = await self._operations.wait(_uid(request.name), min(seconds, _MAX_WAIT_SECONDS))
        return pb.WaitOperationResponse(operation=self._message(operation))

    def _message(self, operation: Operation) -> operation_pb2.Operation:
        run = None
        if operation.result_run_uid:
            try:
                details = self._runs.get_by_uid(operation.result_run_uid)
                run = run_to_pb(details, self._layout, full=True)
            except NotFoundError:
                # The run was collected since; the operation is still done.
                run = None
        return operation_to_pb(operation, run)


def _uid(name: str) -> Uid:
    prefix, _, text = name.partition("/")
    try:
        return parse_uid(text if prefix == "operations" else "", "name")
    except InvalidError:
        raise NotFoundError(
            Reason.OPERATION_NOT_FOUND, f"name: {name[:100]!r} is not of the form operations/{{uuid}}", field="name"
        ) from None
