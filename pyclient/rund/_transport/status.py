"""gRPC errors to the client's own.

The daemon puts a ``google.rpc.Status`` into the trailer ``grpc-status-details-bin``. It is decoded with
rund's mirror messages, because the googleapis package is no dependency. Message text is passed on and never
parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import grpc
from google.protobuf.message import DecodeError
from rund_pb.v1 import error_reason_pb2 as pb

from rund import _errors as errors

_DETAILS_KEY = "grpc-status-details-bin"
_NOT_REACHABLE = (
    "no daemon answers at {address}: {message}. Look at `rund status`, or start one with `rund serve`; "
    "rows that were logged wait in the journal until one is back"
)


def _descendants(kind: type[errors.RundError]) -> Iterator[type[errors.RundError]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


CLASS_OF_REASON: Mapping[str, type[errors.RundError]] = {
    kind.default_reason: kind for kind in _descendants(errors.RundError) if "default_reason" in vars(kind)
}
"""The class of each ``ErrorReason``, by its name without prefix."""

CLASS_OF_CODE: Mapping[str, type[errors.RundError]] = {
    "INVALID_ARGUMENT": errors.InvalidArgumentError,
    "NOT_FOUND": errors.NotFoundError,
    "ALREADY_EXISTS": errors.AlreadyExistsError,
    "ABORTED": errors.StateError,
    "FAILED_PRECONDITION": errors.StateError,
    "OUT_OF_RANGE": errors.StateError,
    "CANCELLED": errors.OperationCancelledError,
    "RESOURCE_EXHAUSTED": errors.ResourceError,
    "DATA_LOSS": errors.CorruptDataError,
    "UNAUTHENTICATED": errors.UnauthenticatedError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "UNAVAILABLE": errors.DaemonUnavailableError,
    "DEADLINE_EXCEEDED": errors.WaitTimeoutError,
    "UNIMPLEMENTED": errors.UnsupportedError,
    "INTERNAL": errors.InternalError,
}
"""The class for errors without a reason, or with one that this version does not know, by gRPC code."""


def error_from_rpc(error: grpc.RpcError, address: str) -> errors.RundError:
    """The client's error for a call that failed at a daemon's address."""
    code = code_of(error)
    trailer = _trailer(error)
    if trailer is not None:
        return error_from_status(trailer, code)
    kind = CLASS_OF_CODE.get(code, errors.RundError)
    # Without details it was gRPC itself that gave up, or a daemon older than the schema.
    message = error.details() if isinstance(error, grpc.Call) else str(error)
    if kind is errors.DaemonUnavailableError:
        message = _NOT_REACHABLE.format(address=address, message=message)
    return kind(message or code, code=code, reason="")


def error_from_status(status: pb.ErrorStatus, code: str = "") -> errors.RundError:
    """The client's error for a ``google.rpc.Status``, of a trailer or of an operation.

    Args:
        status: What the daemon said.
        code: Name of the gRPC code; empty: the status's own.
    """
    code = code or _CODE_NAMES.get(status.code, "UNKNOWN")
    reason, details, violations = "", dict[str, str](), list[errors.FieldViolation]()
    for packed in status.details:
        kind = packed.type_url.rpartition("/")[2]
        if kind == "google.rpc.ErrorInfo":
            info = pb.ErrorInfo.FromString(packed.value)
            reason = info.reason
            details.update(info.metadata)
        elif kind == "google.rpc.BadRequest":
            found = pb.BadRequest.FromString(packed.value).field_violations
            violations += [errors.FieldViolation(entry.field, entry.description) for entry in found]
        elif kind == "google.rpc.RetryInfo":
            delay = pb.RetryInfo.FromString(packed.value).retry_delay
            details["retry_delay_s"] = str(delay.seconds + delay.nanos / 1e9)
    cls = CLASS_OF_REASON.get(reason) or CLASS_OF_CODE.get(code, errors.RundError)
    return cls(status.message, code=code, reason=reason, details=details, field_violations=violations)


def code_of(error: grpc.RpcError) -> str:
    """Name of the error's gRPC code."""
    # Every error that grpc raises is a Call too; the type stubs do not say so.
    return error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"


def _trailer(error: grpc.RpcError) -> pb.ErrorStatus | None:
    pairs: Iterable[tuple[str, str | bytes]] = (error.trailing_metadata() or ()) if isinstance(error, grpc.Call) else ()
    for key, value in pairs:
        if key == _DETAILS_KEY and isinstance(value, bytes):
            try:
                return pb.ErrorStatus.FromString(value)
            except DecodeError:
                return None
    return None


_CODE_NAMES: Mapping[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}
