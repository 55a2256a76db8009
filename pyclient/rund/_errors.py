"""What the client raises.

    RundError
     ├── InvalidArgumentError (ValueError)
     │    ├── InvalidNameError             ├── ExampleIdOutOfRangeError
     │    ├── InvalidUrlError              ├── InvalidArrowError
     │    ├── InvalidFieldError            ├── InvalidFieldMaskError
     │    ├── InvalidValueError            ├── InvalidPageTokenError
     │    ├── InvalidColumnError           ├── InvalidFilterError
     │    ├── ColumnLengthMismatchError    ├── InvalidOrderByError
     │    ├── RowCountMismatchError        └── RequestIdReusedError
     │    └── QueryError
     ├── NotFoundError (FileNotFoundError)
     │    ├── RunNotFoundError             ├── OperationNotFoundError
     │    ├── MetricsTableNotFoundError    └── ReducerNotFoundError
     │    └── TableNotFoundError
     ├── AlreadyExistsError (FileExistsError)
     │    ├── RunExistsError               └── TableExistsError
     │    └── MetricsTableExistsError
     ├── StateError (RuntimeError)
     │    ├── EtagMismatchError            ├── SequenceGapError
     │    ├── StreamTakenOverError         ├── RevisionGoneError
     │    ├── TableSealedError             ├── OperationCancelledError
     │    ├── WrongStateError              └── ForkedProcessError
     ├── ResourceError (OSError)
     │    ├── NoSpaceError                 ├── OverQuotaError
     │    ├── OverLimitError               └── JournalFullError
     ├── CorruptDataError (OSError)
     ├── AccessError (PermissionError)
     │    ├── UnauthenticatedError         └── PermissionDeniedError
     ├── DaemonUnavailableError (ConnectionError)
     │    ├── DaemonDrainingError          └── StorageFailedError
     ├── WaitTimeoutError (TimeoutError)
     ├── UnsupportedError (NotImplementedError)
     ├── MissingPackageError (ImportError)
     └── InternalError (RuntimeError)

Every class is also the builtin exception in brackets, so that callers need not know rund to handle an error.
This module knows neither gRPC nor protobuf: it takes codes and reasons as text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request and what is wrong with it.

    Attributes:
        field: Path of the field in the request, such as ``run.run_name``.
        description: What is wrong, and what to do.
    """

    field: str
    description: str


class RundError(Exception):
    """Anything that rund refuses or fails to do.

    Attributes:
        code: Name of the gRPC status code, such as ``NOT_FOUND``; errors found by the client itself bear the
            code that the daemon would give.
        reason: Name of an ``ErrorReason`` without its prefix, such as ``RUN_NOT_FOUND``, or empty when none
            was given.
        details: Facts about the error, by name.
        field_violations: Fields of the request that are to blame.
    """

    default_code: ClassVar[str] = "UNKNOWN"
    default_reason: ClassVar[str] = ""

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        reason: str | None = None,
        details: Mapping[str, str] | None = None,
        field_violations: Sequence[FieldViolation] = (),
    ) -> None:
        """Code and reason are the class's own when not given."""
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.reason = self.default_reason if reason is None else reason
        self.details: dict[str, str] = dict(details or {})
        self.field_violations: tuple[FieldViolation, ...] = tuple(field_violations)

    def __str__(self) -> str:
        return self.message

    # Errors cross process borders in worker pools; the builtin __reduce__ would lose the keywords.
    def __reduce__(self) -> tuple[object, ...]:
        fields = {name: getattr(self, name) for name in ("code", "reason", "details", "field_violations")}
        return _rebuild, (type(self), self.message, fields)


def _rebuild(kind: type[RundError], message: str, fields: dict[str, Any]) -> RundError:
    return kind(message, **fields)


class InvalidArgumentError(RundError, ValueError):
    """The request can't be right, whatever the daemon holds."""

    default_code = "INVALID_ARGUMENT"


class InvalidNameError(InvalidArgumentError):
    """A project, run, data set or table name can't be the name of a folder."""

    default_reason = "INVALID_NAME"


class InvalidUrlError(InvalidArgumentError):
    """A URL can't be parsed, is not supported, or names something of another kind."""

    default_reason = "INVALID_URL"


class InvalidFieldError(InvalidArgumentError):
    """An argument is missing, out of range, or does not go with another one."""

    default_reason = "INVALID_FIELD"


class InvalidValueError(InvalidArgumentError):
    """A free-form value has a type that can't be kept, nests too deeply or is too large."""

    default_reason = "INVALID_VALUE"


class InvalidColumnError(InvalidArgumentError):
    """A column has a bad name, a type that is not accepted, or one that the table can't hold."""

    default_reason = "INVALID_COLUMN"


class ColumnLengthMismatchError(InvalidArgumentError):
    """Columns of one batch differ in length."""

    default_reason = "COLUMN_LENGTH_MISMATCH"


class RowCountMismatchError(InvalidArgumentError):
    """There is no ``example_id`` and the rows can't be matched with the input table's."""

    default_reason = "ROW_COUNT_MISMATCH"


class ExampleIdOutOfRangeError(InvalidArgumentError):
    """An ``example_id`` is null or not a row of the input table."""

    default_reason = "EXAMPLE_ID_OUT_OF_RANGE"


class InvalidArrowError(InvalidArgumentError):
    """Bytes that should be Arrow IPC are not."""

    default_reason = "INVALID_ARROW"


class InvalidFieldMaskError(InvalidArgumentError):
    """A field to change is unknown or can't be changed."""

    default_reason = "INVALID_FIELD_MASK"


class InvalidPageTokenError(InvalidArgumentError):
    """A page token belongs to another query."""

    default_reason = "INVALID_PAGE_TOKEN"


class InvalidFilterError(InvalidArgumentError):
    """A filter can't be parsed or names an unknown field."""

    default_reason = "INVALID_FILTER"


class InvalidOrderByError(InvalidArgumentError):
    """An order can't be parsed or names a field that can't be sorted by."""

    default_reason = "INVALID_ORDER_BY"


class QueryError(InvalidArgumentError):
    """SQL that is wrong, or that does what is not allowed."""


class RequestIdReusedError(InvalidArgumentError):
    """A request id was used before, for another request."""

    default_reason = "REQUEST_ID_REUSED"


class NotFoundError(RundError, FileNotFoundError):
    """What was named is not there."""

    default_code = "NOT_FOUND"


class RunNotFoundError(NotFoundError):
    """There is no such run."""

    default_reason = "RUN_NOT_FOUND"


class MetricsTableNotFoundError(NotFoundError):
    """There is no such metrics table."""

    default_reason = "METRICS_TABLE_NOT_FOUND"


class TableNotFoundError(NotFoundError):
    """There is no such input table, or no file at its URL."""

    default_reason = "TABLE_NOT_FOUND"


class OperationNotFoundError(NotFoundError):
    """There is no such operation."""

    default_reason = "OPERATION_NOT_FOUND"


class ReducerNotFoundError(NotFoundError):
    """There is no such reducer."""

    default_reason = "REDUCER_NOT_FOUND"


class AlreadyExistsError(RundError, FileExistsError):
    """The name is taken."""

    default_code = "ALREADY_EXISTS"


class RunExistsError(AlreadyExistsError):
    """The run's name is taken."""

    default_reason = "RUN_EXISTS"


class MetricsTableExistsError(AlreadyExistsError):
    """The metrics table's name is taken in its run."""

    default_reason = "METRICS_TABLE_EXISTS"


class TableExistsError(AlreadyExistsError):
    """The input table's name is taken by a table with other rows."""

    default_reason = "TABLE_EXISTS"


class StateError(RundError, RuntimeError):
    """What was asked for can't be done as things are now."""

    default_code = "FAILED_PRECONDITION"


class EtagMismatchError(StateError):
    """The run was changed meanwhile. Read it again, then retry."""

    default_code = "ABORTED"
    default_reason = "ETAG_MISMATCH"


class StreamTakenOverError(StateError):
    """Another connection opened this write stream; this one has ended."""

    default_code = "ABORTED"
    default_reason = "STREAM_TAKEN_OVER"


class TableSealedError(StateError):
    """The metrics table is complete and takes no more rows."""

    default_reason = "TABLE_SEALED"


class WrongStateError(StateError):
    """The run, table or stream is in a state in which this can't be done."""

    default_reason = "WRONG_STATE"


class SequenceGapError(StateError):
    """A batch's sequence leaves a gap; ``details["committed_sequence"]`` is what the daemon holds."""

    default_code = "OUT_OF_RANGE"
    default_reason = "SEQUENCE_GAP"


class RevisionGoneError(StateError):
    """Events after the revision are no longer kept: list again, watch from ``details["oldest_revision"]``."""

    default_code = "OUT_OF_RANGE"
    default_reason = "REVISION_GONE"


class OperationCancelledError(StateError):
    """The operation was cancelled and has changed nothing."""

    default_code = "CANCELLED"
    default_reason = "CANCELLED"


class ForkedProcessError(StateError):
    """This process was forked from one that was talking to a daemon, and gRPC does not survive a fork.

    ``log`` works here all the same; everything else belongs into the parent, or into a process that was
    spawned.
    """


class ResourceError(RundError, OSError):
    """There is no room for what was asked for."""

    default_code = "RESOURCE_EXHAUSTED"


class NoSpaceError(ResourceError):
    """The file system is at its floor of free space. Nothing was kept of the request; deleting works."""

    default_reason = "NO_SPACE"


class OverLimitError(ResourceError):
    """The request passes a limit of the daemon: ``details["limit"]`` and ``details["value"]``."""

    default_reason = "OVER_LIMIT"


class OverQuotaError(ResourceError):
    """The project holds as much as it may, and takes no new run or input table: ``details["held_bytes"]``."""

    default_reason = "OVER_QUOTA"


class JournalFullError(ResourceError):
    """The journal is at its bound or the disk is full, and nothing was sent while ``log`` waited."""


class CorruptDataError(RundError, OSError):
    """Stored bytes do not match their checksum."""

    default_code = "DATA_LOSS"
    default_reason = "CORRUPT"


class AccessError(RundError, PermissionError):
    """The caller may not do this."""

    default_code = "PERMISSION_DENIED"


class UnauthenticatedError(AccessError):
    """No token was given, or one that is not known; the variable ``RUND_TOKEN`` holds it."""

    default_code = "UNAUTHENTICATED"
    default_reason = "UNAUTHENTICATED"


class PermissionDeniedError(AccessError):
    """The token's scope or project, or the daemon's URL prefixes, do not allow this."""

    default_reason = "PERMISSION_DENIED"


class DaemonUnavailableError(RundError, ConnectionError):
    """No daemon answers, or none can be started."""

    default_code = "UNAVAILABLE"


class DaemonDrainingError(DaemonUnavailableError):
    """The daemon is shutting down; another one may start."""

    default_reason = "DRAINING"


class StorageFailedError(DaemonUnavailableError):
    """The daemon's disk could not write or sync, or is read-only. Nothing was kept of the request; retry."""

    default_reason = "STORAGE_FAILED"


class WaitTimeoutError(RundError, TimeoutError):
    """It did not happen in the time that was given."""

    default_code = "DEADLINE_EXCEEDED"


class UnsupportedError(RundError, NotImplementedError):
    """This version can't do it; the message says what can."""

    default_code = "UNIMPLEMENTED"
    default_reason = "NOT_IMPLEMENTED"


class MissingPackageError(RundError, ImportError):
    """An optional package is needed; the message says which."""

    default_code = "FAILED_PRECONDITION"


class InternalError(RundError, RuntimeError):
    """A fault of the daemon; ``details["incident"]`` finds the traceback in its log."""

    default_code = "INTERNAL"
    default_reason = "INTERNAL"
