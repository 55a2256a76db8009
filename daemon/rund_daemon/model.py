"""The words of the domain as plain data.

Owns what a run, a table and a batch are. Knows nothing of gRPC, LMDB or files; every other room speaks in these types.
All times are microseconds since 1970 UTC, all sizes bytes, all numbers of rows and sequences 64-bit integers.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NewType, TypeAlias

Uid = NewType("Uid", bytes)
"""A UUIDv7 as 16 bytes: sorts by the time of its making."""

Micros = NewType("Micros", int)
"""Microseconds since 1970 UTC; 0 stands for 'never'."""

Revision = NewType("Revision", int)
"""Place of a change in the order of all changes of a root, from 1."""

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"
"""A free-form value of the user's."""

Values: TypeAlias = dict[str, Value]

HISTORY_TABLE = "history"
"""Name of the table that `log` and LogScalars write to."""

DEFAULT_STREAM_NAME = "default_stream"


class RunStatus(enum.StrEnum):
    """Where a run is in its life; the names are those of rund.v1.RunStatus."""

    EMPTY = "EMPTY"
    RUNNING = "RUNNING"
    COLLECTING = "COLLECTING"
    POST_PROCESSING = "POST_PROCESSING"
    PAUSED = "PAUSED"
    COMPLETED = "COMPLETED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"

    @property
    def ended(self) -> bool:
        """Whether a run of this status takes part in no training."""
        return self in (RunStatus.COMPLETED, RunStatus.CANCELLED, RunStatus.FAILED)


class CauseKind(enum.StrEnum):
    """Kinds of end; the names are those of rund.v1.Cause.Kind."""

    UNSPECIFIED = "UNSPECIFIED"
    EXCEPTION = "EXCEPTION"
    EXIT_CODE = "EXIT_CODE"
    SIGNAL = "SIGNAL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    HOST_RESTART = "HOST_RESTART"
    SILENCE = "SILENCE"
    REQUEST = "REQUEST"


class IfExists(enum.StrEnum):
    """What to do when a name is taken."""

    RENAME = "RENAME"
    REUSE = "REUSE"
    OVERWRITE = "OVERWRITE"
    RAISE = "RAISE"


class ColumnRole(enum.StrEnum):
    """What a column is for; the names are those of rund.v1.ColumnRole."""

    UNSPECIFIED = "UNSPECIFIED"
    EXAMPLE_ID = "EXAMPLE_ID"
    INPUT_TABLE_ID = "INPUT_TABLE_ID"
    EMBEDDING = "EMBEDDING"
    XY = "XY"
    XYZ = "XYZ"
    LABEL = "LABEL"


class TableFormat(enum.StrEnum):
    """How an input table's rows are stored."""

    ARROW = "ARROW"
    PARQUET = "PARQUET"
    CSV = "CSV"


class EventType(enum.StrEnum):
    """What happened to a run."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    DELETED = "DELETED"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run ended."""

    kind: CauseKind = CauseKind.UNSPECIFIED
    message: str = ""
    exit_code: int = 0
    signal: int = 0
    last_heartbeat: Micros = Micros(0)


@dataclass(frozen=True, slots=True)
class RunEnd:
    """One end of a run that was resumed afterwards."""

    status: RunStatus
    cause: Cause | None
    end_time: Micros


@dataclass(frozen=True, slots=True)
class Writer:
    """A process that writes to a run. `finish_time` is 0 while it takes part; numbers that are not known are 0, too."""

    writer_id: str
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    start_ticks: int = 0
    rank: int = 0
    finish_time: Micros = Micros(0)
    status: RunStatus | None = None
    cause: Cause | None = None
    dropped_rows: int = 0
    pid_namespace: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A run's metadata. Its values, tables and rows are kept apart, so that it stays small."""

    uid: Uid
    project: str
    name: str
    create_time: Micros
    update_time: Micros
    revision: Revision = Revision(0)
    description: str = ""
    status: RunStatus = RunStatus.RUNNING
    cause: Cause | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)
    init_parameters: Values = field(default_factory=dict)
    input_table_urls: tuple[str, ...] = ()
    delete_time: Micros = Micros(0)
    expire_time: Micros = Micros(0)
    writers: tuple[Writer, ...] = ()
    ends: tuple[RunEnd, ...] = ()
    next_value: int = 0
    next_table: int = 0
    end_time: Micros = Micros(0)

    @property
    def resource_name(self) -> str:
        """`projects/{project}/runs/{run}`."""
        return f"projects/{self.project}/runs/{self.name}"

    @property
    def etag(self) -> str:
        """Changes with each change of the metadata."""
        return f"{self.revision:x}"


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What a column means, apart from its type."""

    name: str
    role: ColumnRole = ColumnRole.UNSPECIFIED
    display_name: str = ""
    description: str = ""
    unit: str = ""
    value_map: Mapping[int, str] = field(default_factory=dict, hash=False)
    writable: bool = False


@dataclass(frozen=True, slots=True)
class MetricsTable:
    """A metrics table's record. `arrow_schema` is the unified schema of all its rows as an Arrow IPC message, or empty.

    A table outside the run has a `reference_url` and no name; its rows are not ours. One that is `replaced` by another
    is still read by its name, and listed no more.
    """

    uid: Uid
    run_uid: Uid
    number: int
    name: str
    create_time: Micros
    stream_name: str = DEFAULT_STREAM_NAME
    reference_url: str = ""
    reference_row_count: int = 0
    reference_file_size: int = 0
    foreign_table_url: str = ""
    foreign_table_display_name: str = ""
    foreign_row_count: int = -1
    input_table_id: int = 0
    columns: tuple[ColumnSchema, ...] = ()
    constants: Values = field(default_factory=dict)
    sealed: bool = False
    arrow_schema: bytes = b""
    replaced: bool = False
    delete_time: Micros = Micros(0)
    expire_time: Micros = Micros(0)

    @property
    def url(self) -> str:
        """Relative to the run for its own tables, absolute for references."""
        return self.reference_url or f"metrics/{self.name}"


@dataclass(frozen=True, slots=True)
class TableMark:
    """How far a metrics table is committed. Readers never look past it."""

    rows: int = 0
    batches: int = 0
    bytes: int = 0
    commit_time: Micros = Micros(0)
    next_segment: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """One Arrow IPC file of a metrics table, with its committed `length`, `rows` and number of `batches`.

    `arrow_schema` is the message that the file begins with (behind the magic, when it is sealed).
    """

    number: int
    sealed: bool
    length: int
    rows: int
    arrow_schema: bytes
    batches: int = 0

    @property
    def file_name(self) -> str:
        """`nnnnnn.arrow` when sealed, `nnnnnn.arrows` when open."""
        return f"{self.number:06d}.{'arrow' if self.sealed else 'arrows'}"


RANGED_COLUMNS: tuple[Literal["step", "epoch", "iteration"], ...] = ("step", "epoch", "iteration")
"""Names of the columns whose least and greatest values are kept."""


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """Every value of a column that is neither null nor NaN lies from `least` to `greatest`.

    Both are integers of 64 bits, or both floats.
    """

    column: str
    least: int | float
    greatest: int | float


@dataclass(frozen=True, slots=True)
class BatchRef:
    """Where a committed batch lies: `length` bytes from `offset` of its segment, with their xxh3-64 `checksum`.

    Of a column that is not in `ranges` nothing is known. `decoded_bytes` is what a compressed body becomes; 0 if it is
    not compressed.
    """

    segment: int
    offset: int
    length: int
    rows: int
    checksum: int
    first_row: int
    ranges: tuple[ColumnRange, ...] = ()
    decoded_bytes: int = 0

    @property
    def size(self) -> int:
        """Bytes of its rows when they are read."""
        return self.decoded_bytes or self.length


@dataclass(frozen=True, slots=True)
class InputTable:
    """An immutable data set revision. `registered_url` is set when it is read where it lies."""

    uid: Uid
    project: str
    dataset: str
    name: str
    create_time: Micros
    row_count: int
    file_size: int
    format: TableFormat
    input_table_id: int
    arrow_schema: bytes
    description: str = ""
    registered_url: str = ""
    columns: tuple[ColumnSchema, ...] = ()
    content_hash: bytes = b""

    @property
    def resource_name(self) -> str:
        """`projects/{project}/datasets/{dataset}/tables/{table}`."""
        return f"projects/{self.project}/datasets/{self.dataset}/tables/{self.name}"


@dataclass(frozen=True, slots=True)
class KeptReducer:
    """A fitted model under a name, of which the model itself is a file.

    `parameters` is what was asked for as JSON, and `fingerprint` that and the vectors as a digest.
    """

    uid: Uid
    project: str
    name: str
    create_time: Micros
    parameters: str
    source_column: str
    target_column: str
    fit_table_url: str
    fit_row_count: int
    input_width: int
    fingerprint: bytes = b""
    library_versions: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def resource_name(self) -> str:
        """`projects/{project}/reducers/{reducer}`."""
        return f"projects/{self.project}/reducers/{self.name}"


@dataclass(frozen=True, slots=True)
class Event:
    """One change of a run, in the order of the root."""

    revision: Revision
    type: EventType
    run_uid: Uid
    project: str


@dataclass(frozen=True, slots=True)
class Operation:
    """A long-running job. It is done when `end_time` is set; then it failed if `error_reason` is.

    One that makes something outside the root has a `destination_url`; a reduction has tables, by the URLs of those that
    they have replaced, and names of reducers.
    """

    uid: Uid
    method: str
    target: str
    create_time: Micros
    end_time: Micros = Micros(0)
    progress: float = 0.0
    message: str = ""
    cancel_requested: bool = False
    error_reason: str = ""
    error_message: str = ""
    result_run_uid: Uid = Uid(b"")
    destination_url: str = ""
    result_tables: Mapping[str, str] = field(default_factory=dict)
    result_reducers: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether it has ended."""
        return self.end_time != 0


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Makes a retry recognisable. An empty `request_id` is never remembered."""

    request_id: str
    method: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request that was carried out, and the uid of what it gave."""

    method: str
    fingerprint: bytes
    result_uid: Uid
    time: Micros
    created: bool = False


@dataclass(frozen=True, slots=True)
class StreamMark:
    """The last committed sequence of a write stream, and where its caller stood in its own source then."""

    sequence: int = 0
    commit_time: Micros = Micros(0)
    position: int = 0


@dataclass(frozen=True, slots=True)
class FolderMove:
    """A folder or file that a committed transaction gives another place, or removes when `destination` is empty.

    Both paths are relative to the root.
    """

    source: str
    destination: str
