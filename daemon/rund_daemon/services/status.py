"""Errors of the domain to gRPC: one table of codes, one way to write a status."""

from __future__ import annotations

import logging
import uuid

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from rund_pb.v1 import error_reason_pb2 as pb

from rund_daemon.errors import Reason, RundError
from rund_daemon.segments.space import is_full, no_space

logger = logging.getLogger(__name__)

DETAILS_KEY = "grpc-status-details-bin"
DOMAIN = "rund"

# Trailers over 8 kB turn any error into RESOURCE_EXHAUSTED. The message is in the status twice, and once more beside it
# with every byte that is not ASCII as three.
_MAX_MESSAGE_BYTES = 800
_MAX_FACT_BYTES = 200

_Code = grpc.StatusCode
CODES: dict[Reason, grpc.StatusCode] = {
    Reason.INVALID_NAME: _Code.INVALID_ARGUMENT,
    Reason.INVALID_URL: _Code.INVALID_ARGUMENT,
    Reason.INVALID_FIELD: _Code.INVALID_ARGUMENT,
    Reason.INVALID_VALUE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_COLUMN: _Code.INVALID_ARGUMENT,
    Reason.COLUMN_LENGTH_MISMATCH: _Code.INVALID_ARGUMENT,
    Reason.ROW_COUNT_MISMATCH: _Code.INVALID_ARGUMENT,
    Reason.EXAMPLE_ID_OUT_OF_RANGE: _Code.INVALID_ARGUMENT,
    Reason.INVALID_ARROW: _Code.INVALID_ARGUMENT,
    Reason.INVALID_FIELD_MASK: _Code.INVALID_ARGUMENT,
    Reason.INVALID_PAGE_TOKEN: _Code.INVALID_ARGUMENT,
    Reason.INVALID_FILTER: _Code.INVALID_ARGUMENT,
    Reason.INVALID_ORDER_BY: _Code.INVALID_ARGUMENT,
    Reason.REQUEST_ID_REUSED: _Code.INVALID_ARGUMENT,
    Reason.RUN_NOT_FOUND: _Code.NOT_FOUND,
    Reason.METRICS_TABLE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.TABLE_NOT_FOUND: _Code.NOT_FOUND,
    Reason.OPERATION_NOT_FOUND: _Code.NOT_FOUND,
    Reason.REDUCER_NOT_FOUND: _Code.NOT_FOUND,
    Reason.RUN_EXISTS: _Code.ALREADY_EXISTS,
    Reason.METRICS_TABLE_EXISTS: _Code.ALREADY_EXISTS,
    Reason.TABLE_EXISTS: _Code.ALREADY_EXISTS,
    Reason.ETAG_MISMATCH: _Code.ABORTED,
    Reason.STREAM_TAKEN_OVER: _Code.ABORTED,
    Reason.TABLE_SEALED: _Code.FAILED_PRECONDITION,
    Reason.WRONG_STATE: _Code.FAILED_PRECONDITION,
    Reason.SEQUENCE_GAP: _Code.OUT_OF_RANGE,
    Reason.REVISION_GONE: _Code.OUT_OF_RANGE,
    Reason.NO_SPACE: _Code.RESOURCE_EXHAUSTED,
    Reason.OVER_LIMIT: _Code.RESOURCE_EXHAUSTED,
    Reason.OVER_QUOTA: _Code.RESOURCE_EXHAUSTED,
    Reason.STORAGE_FAILED: _Code.UNAVAILABLE,
    Reason.CORRUPT: _Code.DATA_LOSS,
    Reason.UNAUTHENTICATED: _Code.UNAUTHENTICATED,
    Reason.PERMISSION_DENIED: _Code.PERMISSION_DENIED,
    Reason.DRAINING: _Code.UNAVAILABLE,
    Reason.CANCELLED: _Code.CANCELLED,
    Reason.NOT_IMPLEMENTED: _Code.UNIMPLEMENTED,
    Reason.INTERNAL: _Code.INTERNAL,
}


def status_of(error: RundError) -> pb.ErrorStatus:
    """Writes an error as google.rpc.Status with one ErrorInfo, and the details that apply."""
    message = _cut(error.message, _MAX_MESSAGE_BYTES)
    metadata = {key: _cut(value, _MAX_FACT_BYTES) for key, value in error.metadata.items()}
    details = [_packed(pb.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata), "ErrorInfo")]
    if error.field:
        violation = pb.BadRequest.FieldViolation(field=_cut(error.field, _MAX_FACT_BYTES), description=message)
        details.append(_packed(pb.BadRequest(field_violations=[violation]), "BadRequest"))
    if error.retry_after_seconds is not None:
        delay = Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        details.append(_packed(pb.RetryInfo(retry_delay=delay), "RetryInfo"))
    return pb.ErrorStatus(code=CODES[error.reason].value[0], message=message, details=details)


def domain_error(error: BaseException, method: str) -> RundError:
    """Gives the error to tell the caller. A fault of ours is told by an incident id only; the log has the rest."""
    if isinstance(error, RundError):
        logger.info("request_refused", extra={"method": method, "reason": error.reason, "error": error.message[:500]})
        return error
    if is_full(error):
        logger.warning("disk_full", extra={"method": method, "error": str(error)})
        return no_space(0, 0)
    incident = uuid.uuid4().hex[:12]
    logger.error("request_failed", exc_info=error, extra={"method": method, "incident": incident})
    return RundError(Reason.INTERNAL, f"a fault of the daemon; its log has incident {incident}", incident=incident)


def _cut(text: str, size: int) -> str:
    """The text, or what of it fits into a number of bytes. Lone surrogates can't be sent and become question marks."""
    return text.encode(errors="replace")[:size].decode(errors="ignore")


def _packed(message: Message, name: str) -> AnyMessage:
    return AnyMessage(type_url=f"type.googleapis.com/google.rpc.{name}", value=message.SerializeToString())
