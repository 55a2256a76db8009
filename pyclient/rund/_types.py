"""What the client hands out: plain, immutable data.

Times are timezone-aware UTC, sizes bytes. Knows nothing of gRPC or protobuf.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

IfExists: TypeAlias = Literal["rename", "reuse", "overwrite", "raise"]
"""What to do when a name is taken."""

Value: TypeAlias = "bool | int | float | str | bytes | list[Value] | dict[str, Value] | None"
"""A free-form value as it comes back. Integers stay integers, NaN and infinities are kept."""


class RunStatus(enum.IntEnum):
    """Where a run is in its life. The names decide; ``float(status)`` works, but means nothing."""

    UNSPECIFIED = 0
    EMPTY = 1
    RUNNING = 2
    COLLECTING = 3
    POST_PROCESSING = 4
    PAUSED = 5
    COMPLETED = 6
    CANCELLED = 7
    FAILED = 8

    def __str__(self) -> str:
        return self.name


class CauseKind(enum.StrEnum):
    """The kinds of end."""

    UNSPECIFIED = "unspecified"
    EXCEPTION = "exception"
    EXIT_CODE = "exit_code"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    HOST_RESTART = "host_restart"
    SILENCE = "silence"
    REQUEST = "request"


class ColumnRole(enum.StrEnum):
    """What a column is for."""

    UNSPECIFIED = ""
    EXAMPLE_ID = "example_id"
    INPUT_TABLE_ID = "input_table_id"
    EMBEDDING = "embedding"
    XY = "xy"
    XYZ = "xyz"
    LABEL = "label"


class TableFormat(enum.StrEnum):
    """How an input table's rows are stored."""

    UNSPECIFIED = "unspecified"
    ARROW = "arrow"
    PARQUET = "parquet"
    CSV = "csv"


class RunEventType(enum.StrEnum):
    """What happened to a run that is watched."""

    CURRENT = "current"
    SYNCED = "synced"
    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run ended.

    Attributes:
        kind: The kind of end.
        message: For people; with an exception its last line.
        exit_code: With ``CauseKind.EXIT_CODE``.
        signal: Number of the signal, with ``CauseKind.SIGNAL``.
        last_heartbeat: When the writer was last heard of.
    """

    kind: CauseKind = CauseKind.UNSPECIFIED
    message: str = ""
    exit_code: int = 0
    signal: int = 0
    last_heartbeat: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunEnd:
    """One end of a run that was resumed afterwards."""

    status: RunStatus
    cause: Cause | None
    end_time: datetime | None


@dataclass(frozen=True, slots=True)
class WriterInfo:
    """A process that writes to a run.

    Attributes:
        writer_id: UUIDv7, never used by another process.
        host: Name of its host.
        boot_id: The host's boot id, empty when there is none.
        pid: Its process id.
        start_ticks: When that process started, in clock ticks since boot.
        rank: Its rank among the processes of the training, from 0.
        finish_time: When it finished; None while it takes part.
        status: How it finished; None while it takes part.
        cause: Why, when it failed.
        dropped_rows: Rows that it had to drop because its journal was full; they are missing in the run.
        pid_namespace: Number of its PID namespace; 0 if not known.
    """

    writer_id: str
    host: str = ""
    boot_id: str = ""
    pid: int = 0
    start_ticks: int = 0
    rank: int = 0
    finish_time: datetime | None = None
    status: RunStatus | None = None
    cause: Cause | None = None
    dropped_rows: int = 0
    pid_namespace: int = 0


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What a column means, apart from its type.

    Attributes:
        name: The column's name, 1 to 255 bytes. It may be left empty where a mapping gives it.
        role: What it is for.
        display_name: How to head it.
        description: For people.
        unit: Unit of its values, such as ``s`` or ``MiB``.
        value_map: Names of integer values, such as classes.
        writable: Whether a person may edit it in a view.
        arrow_type: The Arrow type as Arrow prints it; given by the daemon.
    """

    name: str = ""
    role: ColumnRole = ColumnRole.UNSPECIFIED
    display_name: str = ""
    description: str = ""
    unit: str = ""
    value_map: Mapping[int, str] = field(default_factory=dict)
    writable: bool = False
    arrow_type: str = ""


@dataclass(frozen=True, slots=True)
class MetricTableInfo:
    """A metrics table of a run, without its rows.

    Attributes:
        url: Relative to the run (``metrics/{name}``), or absolute for a table outside the run.
        file_size: Committed bytes on disk.
        stream_name: What the rows are a stream of.
        row_count: Committed rows.
        name: The table's own name; empty for a table outside the run.
        created: When it was created.
        foreign_table_url: URL of the input table that the rows refer to, or empty.
        columns: The columns, in order: all that were ever written.
        sealed: Whether it is complete and takes no more rows.
        resource_name: ``projects/{project}/runs/{run}/metrics/{table}``; empty for a table outside the run.
        uid: UUIDv7.
        foreign_table_display_name: How to head that input table.
        input_table_id: The value of the column ``input_table_id`` for that input table.
        constants: Values that are the same for every row; readers see them as columns.
        last_commit: When rows were last committed; None when none were.
        arrow_schema: The schema of all rows as one Arrow IPC message; empty when there is none yet.
    """

    url: str
    file_size: int = 0
    stream_name: str = "default_stream"
    row_count: int = 0
    name: str = ""
    created: datetime | None = None
    foreign_table_url: str = ""
    columns: tuple[ColumnSchema, ...] = ()
    sealed: bool = False
    resource_name: str = ""
    uid: str = ""
    foreign_table_display_name: str = ""
    input_table_id: int = 0
    constants: Mapping[str, Value] = field(default_factory=dict)
    last_commit: datetime | None = None
    arrow_schema: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TableInfo:
    """An input table without its rows.

    Attributes:
        url: Where it lies: its folder in the root, or the URL it was registered with.
        name: The table's own name.
        resource_name: ``projects/{project}/datasets/{dataset}/tables/{table}``.
        uid: UUIDv7.
        project_name: The project's name.
        dataset_name: The data set's name.
        description: For people.
        row_count: Rows.
        file_size: Bytes on disk.
        columns: The columns, in order.
        arrow_schema: The schema as one Arrow IPC message.
        format: How it is stored.
        input_table_id: The value of ``input_table_id`` that stands for this table in this root.
        registered: Whether it is read where it lies instead of from the root.
        created: When it was written or registered.
    """

    url: str
    name: str = ""
    resource_name: str = ""
    uid: str = ""
    project_name: str = ""
    dataset_name: str = ""
    description: str = ""
    row_count: int = 0
    file_size: int = 0
    columns: tuple[ColumnSchema, ...] = ()
    arrow_schema: bytes = field(default=b"", repr=False)
    format: TableFormat = TableFormat.UNSPECIFIED
    input_table_id: int = 0
    registered: bool = False
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run as the daemon described it at one moment.

    Attributes:
        resource_name: ``projects/{project}/runs/{run}``.
        uid: UUIDv7; stays the same when the run is renamed.
        url: The run's folder.
        project_name: The project's name.
        name: The run's own name.
        description: For people.
        status: Where the run is in its life.
        cause: Why it ended, when it failed.
        created: When it was created.
        last_modified: When it was last changed, rows included.
        labels: Short words for finding runs.
        parameters: Hyperparameters and other settings.
        init_parameters: The parameters as they were when the run was created.
        input_table_urls: The input tables that the run used, in order, each once.
        inputs: Free-form inputs, in order; empty in a listing.
        outputs: Free-form outputs, in order; empty in a listing.
        metrics: The metrics tables in order of writing; empty in a listing.
        bulk_data_url: The folder for large side files.
        etag: Changes with each change of the metadata.
        deleted: When it went to trash; None while it is not there.
        expires: When a run in trash may be collected.
        writers: The processes that take part, newest last.
        ends: Earlier ends of a run that was resumed.
        ended: When it ended; None while it has not.
    """

    resource_name: str
    uid: str
    url: str
    project_name: str
    name: str
    description: str = ""
    status: RunStatus = RunStatus.UNSPECIFIED
    cause: Cause | None = None
    created: datetime | None = None
    last_modified: datetime | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    parameters: dict[str, Value] = field(default_factory=dict)
    init_parameters: dict[str, Value] = field(default_factory=dict)
    input_table_urls: tuple[str, ...] = ()
    inputs: tuple[dict[str, Value], ...] = ()
    outputs: tuple[dict[str, Value], ...] = ()
    metrics: tuple[MetricTableInfo, ...] = ()
    bulk_data_url: str = ""
    etag: str = ""
    deleted: datetime | None = None
    expires: datetime | None = None
    writers: tuple[WriterInfo, ...] = ()
    ends: tuple[RunEnd, ...] = ()
    ended: datetime | None = None


@dataclass(frozen=True, slots=True)
class RunEvent:
    """One change of a run that is watched.

    Attributes:
        type: What happened. ``SYNCED`` ends the runs as they were when the watch began, and has no run.
        run: The run as it is now.
        revision: The change's place in the order of all changes of the root; resume a watch after it.
    """

    type: RunEventType
    run: RunInfo | None
    revision: int


@dataclass(frozen=True, slots=True)
class TrashEntry:
    """Something in trash that is removed for good.

    Attributes:
        path: Where it lies, on the daemon's host.
        size_bytes: Bytes of its files; those that a copy has linked take up room still.
        run: The run that it was; None for what was nobody's, and for a metrics table.
        metrics_table: Resource name of the metrics table that it was.
    """

    path: str
    size_bytes: int
    run: RunInfo | None
    metrics_table: str = ""


@dataclass(frozen=True, slots=True)
class ProjectUsage:
    """What a project holds; sizes in bytes.

    Attributes:
        project_name: Its name.
        run_count: Its runs, those in trash not counted.
        trashed_run_count: Its runs in trash.
        held_bytes: Of its metrics tables, written input tables, bulk data and reducers, in trash or not.
        trashed_bytes: Those of them that are in trash.
        quota_bytes: How much it may hold; 0: as much as it likes.
    """

    project_name: str
    run_count: int
    trashed_run_count: int
    held_bytes: int
    trashed_bytes: int
    quota_bytes: int


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a daemon accepts; sizes in bytes."""

    max_message_bytes: int = 0
    max_batch_bytes: int = 0
    max_batch_rows: int = 0
    max_inflight_bytes: int = 0
    max_columns: int = 0
    max_value_bytes: int = 0
    max_page_size: int = 0


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """Facts about a daemon.

    Attributes:
        version: Version of rund.
        instance_id: A UUID made at each start.
        root_url: Its root.
        pid: Its process id on its own host.
        host: Name of that host.
        start_time: When it became ready.
        capabilities: What it can do beyond the first release.
        limits: What it accepts.
        run_count: Runs it keeps, those in trash not counted.
        revision: The newest revision.
    """

    version: str
    instance_id: str
    root_url: str
    pid: int = 0
    host: str = ""
    start_time: datetime | None = None
    capabilities: tuple[str, ...] = ()
    limits: ServerLimits = ServerLimits()
    run_count: int = 0
    revision: int = 0
