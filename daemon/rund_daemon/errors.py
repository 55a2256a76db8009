"""Errors of the domain. Each knows its reason and its facts, none knows a gRPC code.

RundError
├── InvalidError          a field of the request is to blame
├── NotFoundError
├── ExistsError
├── ConflictError         ETAG_MISMATCH, STREAM_TAKEN_OVER
├── StateError            TABLE_SEALED, WRONG_STATE
├── SequenceGapError
├── RevisionGoneError
├── ExhaustedError        NO_SPACE, OVER_LIMIT, OVER_QUOTA
├── StorageError
├── CorruptError
├── AccessError           UNAUTHENTICATED, PERMISSION_DENIED
├── DrainingError
├── OperationCancelledError
└── NotImplementedYetError
"""

from __future__ import annotations

import enum
import errno
from typing import Any


class Reason(enum.StrEnum):
    """The closed list of reasons; the same names as rund.v1.ErrorReason."""

    INVALID_NAME = "INVALID_NAME"
    INVALID_URL = "INVALID_URL"
    INVALID_FIELD = "INVALID_FIELD"
    INVALID_VALUE = "INVALID_VALUE"
    INVALID_COLUMN = "INVALID_COLUMN"
    COLUMN_LENGTH_MISMATCH = "COLUMN_LENGTH_MISMATCH"
    ROW_COUNT_MISMATCH = "ROW_COUNT_MISMATCH"
    EXAMPLE_ID_OUT_OF_RANGE = "EXAMPLE_ID_OUT_OF_RANGE"
    INVALID_ARROW = "INVALID_ARROW"
    INVALID_FIELD_MASK = "INVALID_FIELD_MASK"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"  # noqa: S105  # a reason, no secret
    INVALID_FILTER = "INVALID_FILTER"
    INVALID_ORDER_BY = "INVALID_ORDER_BY"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    RUN_NOT_FOUND = "RUN_NOT_FOUND"
    METRICS_TABLE_NOT_FOUND = "METRICS_TABLE_NOT_FOUND"
    TABLE_NOT_FOUND = "TABLE_NOT_FOUND"
    OPERATION_NOT_FOUND = "OPERATION_NOT_FOUND"
    REDUCER_NOT_FOUND = "REDUCER_NOT_FOUND"
    RUN_EXISTS = "RUN_EXISTS"
    METRICS_TABLE_EXISTS = "METRICS_TABLE_EXISTS"
    TABLE_EXISTS = "TABLE_EXISTS"
    ETAG_MISMATCH = "ETAG_MISMATCH"
    STREAM_TAKEN_OVER = "STREAM_TAKEN_OVER"
    TABLE_SEALED = "TABLE_SEALED"
    WRONG_STATE = "WRONG_STATE"
    SEQUENCE_GAP = "SEQUENCE_GAP"
    REVISION_GONE = "REVISION_GONE"
    NO_SPACE = "NO_SPACE"
    OVER_LIMIT = "OVER_LIMIT"
    OVER_QUOTA = "OVER_QUOTA"
    STORAGE_FAILED = "STORAGE_FAILED"
    CORRUPT = "CORRUPT"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    DRAINING = "DRAINING"
    CANCELLED = "CANCELLED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    INTERNAL = "INTERNAL"


class RundError(Exception):
    """An answer to the caller, not a fault of the daemon.

    Args:
        reason: which case it is.
        message: what is wrong and what to do, for people.
        field: path of the request's field that is to blame, if one is.
        retry_after_seconds: set where waiting helps.
        metadata: facts for programs, as text; the comment of the reason in error_reason.proto names the keys.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        field: str = "",
        retry_after_seconds: float | None = None,
        **metadata: Any,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.metadata = {key: str(value) for key, value in metadata.items()}

    def blame(self, field: str) -> None:
        """Blames another field: who made the error knew no requests."""
        self.message = f"{field}: {self.message.removeprefix(f'{self.field}: ')}"
        self.field = field
        self.args = (self.message,)

    def with_facts(self, **facts: Any) -> RundError:
        """The same error with further facts for one caller: it may be the answer to many. What is there stays."""
        return RundError(
            self.reason,
            self.message,
            field=self.field,
            retry_after_seconds=self.retry_after_seconds,
            **{**facts, **self.metadata},
        )


class InvalidError(RundError):
    """The request can't be carried out by anyone: a field is to blame."""

    def __init__(self, field: str, message: str, *, reason: Reason = Reason.INVALID_FIELD, **metadata: Any) -> None:
        super().__init__(reason, f"{field}: {message}", field=field, **metadata)


class NotFoundError(RundError):
    """What the request names is not there."""


class ExistsError(RundError):
    """The name is taken."""


class ConflictError(RundError):
    """Somebody else was faster; read again and retry."""


class StateError(RundError):
    """The resource is in a state in which this can't be done."""


class SequenceGapError(RundError):
    """A batch came whose predecessor is missing."""

    def __init__(self, committed: int, sent: int) -> None:
        super().__init__(
            Reason.SEQUENCE_GAP,
            f"batch.sequence: {sent} does not follow {committed}, the last one held; send from {committed + 1}",
            field="batch.sequence",
            committed_sequence=committed,
        )


class RevisionGoneError(RundError):
    """The events asked for are no longer kept."""

    def __init__(self, oldest: int) -> None:
        super().__init__(
            Reason.REVISION_GONE,
            f"after_revision: events before {oldest} are no longer kept; watch again without after_revision",
            field="after_revision",
            oldest_revision=oldest,
        )


class ExhaustedError(RundError):
    """There is no room, or the request passes a limit."""


class StorageError(RundError):
    """The disk could not write or sync; nothing of the request was kept, and the same may be sent again."""

    # A disk that fails, and what a kernel makes of a file system after that: read-only, until a person has looked.
    CAUSES = frozenset({errno.EIO, errno.EROFS})

    def __init__(self) -> None:
        super().__init__(
            Reason.STORAGE_FAILED,
            "the disk could not keep this, and nothing of it was kept; retry, and see the daemon's log for the cause",
            retry_after_seconds=1.0,
        )


class CorruptError(RundError):
    """Stored bytes do not match their checksum."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.CORRUPT, message)


class AccessError(RundError):
    """The caller may not do this."""


class DrainingError(RundError):
    """The daemon is shutting down."""

    def __init__(self) -> None:
        super().__init__(Reason.DRAINING, "the daemon is shutting down; retry", retry_after_seconds=0.5)


class OperationCancelledError(RundError):
    """The operation was cancelled; it changed nothing."""

    def __init__(self) -> None:
        super().__init__(Reason.CANCELLED, "the operation was cancelled; nothing was changed")


class NotImplementedYetError(RundError):
    """This version of the daemon can't do it."""

    def __init__(self, message: str) -> None:
        super().__init__(Reason.NOT_IMPLEMENTED, message)
