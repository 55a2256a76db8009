"""The databases of the catalog, each with what its values are. The keys are drawn in `keys.py`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rund_daemon.model import (
    BatchRef,
    Event,
    FolderMove,
    InputTable,
    KeptReducer,
    KeptRequest,
    MetricsTable,
    Operation,
    Run,
    Segment,
    StreamMark,
    TableMark,
    Uid,
    Values,
)

from . import records, row_records, run_records

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Shelf(Generic[T]):
    """One named database whose values are of one type."""

    name: str
    encode: Callable[[T], bytes]
    decode: Callable[[bytes], T]


def _same(data: bytes) -> bytes:
    return data


def _number_to_bytes(number: int) -> bytes:
    return number.to_bytes(8, "big")


def _number_from_bytes(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _uids(name: str) -> Shelf[Uid]:
    return Shelf(name, bytes, Uid)


META: Shelf[bytes] = Shelf("meta", _same, _same)
RUNS: Shelf[Run] = Shelf("runs", run_records.run_to_bytes, run_records.run_from_bytes)
RUN_NAMES = _uids("run_names")
TRASH_NAMES = _uids("trash_names")
PROJECT_RUNS = _uids("project_runs")
LIVE_RUNS: Shelf[bytes] = Shelf("live_runs", _same, _same)
LAUNCHES = _uids("launches")
VALUES: Shelf[Values] = Shelf("values", records.values_to_bytes, records.values_from_bytes)
LAST_OUTPUTS: Shelf[Values] = Shelf("last_outputs", records.values_to_bytes, records.values_from_bytes)
TABLES: Shelf[MetricsTable] = Shelf("tables", records.table_to_bytes, records.table_from_bytes)
TABLE_NAMES: Shelf[int] = Shelf("table_names", _number_to_bytes, _number_from_bytes)
TABLE_UIDS: Shelf[bytes] = Shelf("table_uids", _same, _same)
TRASH_TABLES: Shelf[MetricsTable] = Shelf("trash_tables", records.table_to_bytes, records.table_from_bytes)
MARKS: Shelf[TableMark] = Shelf("marks", row_records.mark_to_bytes, row_records.mark_from_bytes)
SEGMENTS: Shelf[Segment] = Shelf("segments", row_records.segment_to_bytes, row_records.segment_from_bytes)
OPEN_SEGMENTS: Shelf[bytes] = Shelf("open_segments", _same, _same)
BATCHES: Shelf[BatchRef] = Shelf("batches", row_records.batch_to_bytes, row_records.batch_from_bytes)
STREAMS: Shelf[StreamMark] = Shelf("streams", row_records.stream_to_bytes, row_records.stream_from_bytes)
INPUT_TABLES: Shelf[InputTable] = Shelf("input_tables", records.input_table_to_bytes, records.input_table_from_bytes)
INPUT_TABLE_NAMES = _uids("input_table_names")
INPUT_TABLE_URLS = _uids("input_table_urls")
REQUESTS: Shelf[KeptRequest] = Shelf("requests", records.request_to_bytes, records.request_from_bytes)
REQUEST_TIMES: Shelf[bytes] = Shelf("request_times", _same, _same)
EVENTS: Shelf[Event] = Shelf("events", records.event_to_bytes, records.event_from_bytes)
OPERATIONS: Shelf[Operation] = Shelf("operations", records.operation_to_bytes, records.operation_from_bytes)
REDUCERS: Shelf[KeptReducer] = Shelf("reducers", records.reducer_to_bytes, records.reducer_from_bytes)
REDUCER_NAMES = _uids("reducer_names")
SNAPSHOTS: Shelf[bytes] = Shelf("snapshots", _same, _same)
COLLECTED: Shelf[bytes] = Shelf("collected", _same, _same)
MOVES: Shelf[FolderMove] = Shelf("moves", records.move_to_bytes, records.move_from_bytes)

SHELVES: tuple[Shelf[object], ...] = tuple(value for value in list(globals().values()) if isinstance(value, Shelf))
