"""The writer's view of one metrics table: its mark, its open segments, its streams, and the plan of the present group.

Belongs to the writer's thread. What the catalog holds is the truth; this is a copy that is thrown away (`close`)
whenever it may no longer be so, and loaded again when the next batch comes.
"""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from rund_daemon.catalog import Change, Snapshot, keys, shelves
from rund_daemon.catalog.requests import find_request, keep_request
from rund_daemon.errors import NotFoundError, Reason, SequenceGapError, StateError
from rund_daemon.model import (
    HISTORY_TABLE,
    BatchRef,
    KeptRequest,
    MetricsTable,
    Micros,
    RequestKey,
    Segment,
    StreamMark,
    TableMark,
    Uid,
)
from rund_daemon.segments.commit_log import CommitLog, Entry
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.open_segment import OpenSegment
from rund_daemon.segments.schemas import unify
from rund_daemon.segments.spare_numbers import NUMBERS_A_SEGMENT, spare_state
from rund_daemon.segments.staged_file import StagedFile

from .accounts import open_log
from .appends import Append, Chunk
from .merging import CLOSED, FULL_BYTES
from .placing import PlacedFiles, refs_of

logger = logging.getLogger(__name__)

# Writers with different columns write side by side, each schema into a segment of its own. Beyond this many the
# oldest is closed: its schema begins a new segment when it comes again.
MAX_OPEN_SCHEMAS = 8

# Beyond any of these a table's open segments are worth sealing: their size, the records of their batches, their files.
RIPE_BYTES = 64 * 1024 * 1024
RIPE_BATCHES = 16_384
RIPE_SEGMENTS = 64


@dataclass(slots=True)
class _Open:
    file: OpenSegment
    record: Segment
    committed: int


class TableFiles:
    """Plans, writes and records the batches of one table, a group at a time."""

    def __init__(
        self, table: MetricsTable, mark: TableMark, folder: Path, layout: Layout, log: CommitLog | None
    ) -> None:
        self._layout = layout
        self._log = log
        self._table = table
        self._mark = mark
        self._folder = folder
        self._open: dict[bytes, _Open] = {}
        self._streams: dict[str, StreamMark] = {}
        # Schemas that the table's schema is known to hold.
        self._heads: set[bytes] = set()
        # Segments that wait for a sealing that nobody has asked for.
        self._unsealed: dict[int, Segment] = {}
        self._placed = PlacedFiles(table.uid, folder, layout)
        self._begin()

    def _begin(self) -> None:
        self._planned_mark = self._mark
        self._planned_schema = self._table.arrow_schema
        self._planned_heads: set[bytes] = set()
        self._planned_streams: dict[str, StreamMark] = {}
        self._planned_requests: dict[str, RequestKey] = {}
        self._refs: list[BatchRef] = []
        self._touched: dict[int, _Open] = {}
        self._retired: list[_Open] = []

    @classmethod
    def load(
        cls, snapshot: Snapshot, layout: Layout, run_uid: Uid, number: int, doubted: Container[int] = ()
    ) -> TableFiles:
        """Reads the table's state and opens its open segments, but for those with the numbers that are doubted.

        Raises:
            NotFoundError: the table or its run is gone, or in trash.
        """
        table = snapshot.get(shelves.TABLES, keys.numbered(run_uid, number))
        folder = _folder(snapshot, layout, run_uid, table)
        if folder is None:
            raise NotFoundError(Reason.RUN_NOT_FOUND, "the run was deleted; undelete it to go on writing")
        if table is None:
            raise NotFoundError(Reason.METRICS_TABLE_NOT_FOUND, "the metrics table is gone")
        mark = snapshot.get(shelves.MARKS, table.uid) or TableMark()
        log = open_log(snapshot, layout.commit_log(folder.parent.parent, table.name), table, mark)
        files = cls(table, mark, folder, layout, log)
        files._reopen(snapshot, doubted)
        return files

    def _reopen(self, snapshot: Snapshot, doubted: Container[int]) -> None:
        records = [
            snapshot.get(shelves.SEGMENTS, key)
            for key, state in snapshot.scan(shelves.OPEN_SEGMENTS, self._table.uid)
            if not state
        ]
        self._unsealed = {record.number: record for record in records if record is not None}
        # Of several with one schema only the newest is still appended to.
        newest = {record.arrow_schema: record for record in records if record and record.number not in doubted}
        for head, record in list(newest.items())[-MAX_OPEN_SCHEMAS:]:
            path = self._folder / record.file_name
            try:
                self._open[head] = _Open(OpenSegment.reopen(path, record.length), record, record.length)
            except OSError as error:
                # What is damaged stays as it is, for whoever can mend it. Rows go on in a segment of their own.
                logger.warning("segment_damaged", extra={"path": str(path), "error": str(error)})

    def is_stale(self, snapshot: Snapshot) -> bool:
        """Says whether the record or the folder is another than it was at loading."""
        table = snapshot.get(shelves.TABLES, keys.numbered(self._table.run_uid, self._table.number))
        folder = _folder(snapshot, self._layout, self._table.run_uid, table)
        return table != self._table or folder != self._folder

    @property
    def dirty(self) -> list[OpenSegment]:
        """Files that the present group has written to."""
        return [entry.file for entry in self._touched.values()]

    @property
    def doubted(self) -> list[int]:
        """Numbers of the segments whose sync has failed."""
        return [number for number, entry in self._touched.items() if entry.file.is_doubted]

    def plan(self, snapshot: Snapshot, append: Append) -> bool:
        """Takes a batch into the group; False if it is there already.

        Raises:
            StateError: the table is sealed.
            SequenceGapError: the batch before it is missing.
            InvalidError: INVALID_COLUMN: the table can't hold its columns; or its staged file is gone.
        """
        if self._is_repeated(snapshot, append):
            return False
        if self._table.sealed:
            raise StateError(
                Reason.TABLE_SEALED,
                f"metrics_table: {self._table.name!r} is sealed and takes no more rows; write to another table",
                field="metrics_table",
            )
        extended = self._extended(append.head)
        self._check_follows(snapshot, append)
        if append.staged is not None and append.staged.batches:
            self._place_file(append.staged)
        self._note(snapshot, append)
        for chunk in append.chunks:
            self._place(chunk)
        self._planned_schema = extended
        self._planned_heads.add(append.head)
        return True

    @property
    def ripe(self) -> bool:
        """Whether its open segments are worth sealing."""
        unsealed = self._unsealed.values()
        size, batches = sum(segment.length for segment in unsealed), sum(segment.batches for segment in unsealed)
        return size > RIPE_BYTES or batches > RIPE_BATCHES or len(unsealed) > RIPE_SEGMENTS

    def write(self) -> None:
        """Hands the group's bytes to the kernel."""
        for file in self.dirty:
            file.flush()

    def sync(self) -> None:
        """Makes them durable."""
        for file in self.dirty:
            file.sync()
        self._placed.sync()

    def record(self, change: Change, now: Micros) -> None:
        """Puts the group's records."""
        uid = self._table.uid
        self._planned_mark = replace(self._planned_mark, commit_time=now)
        change.put(shelves.MARKS, uid, self._planned_mark)
        for ref in self._refs:
            change.put(shelves.BATCHES, keys.batch(uid, ref.first_row), ref)
        for entry in self._touched.values():
            key = keys.numbered(uid, entry.record.number)
            change.put(shelves.SEGMENTS, key, entry.record)
            change.put(shelves.OPEN_SEGMENTS, key, b"")
        self._record_placed(change)
        for stream_id, stream in self._planned_streams.items():
            change.put(shelves.STREAMS, keys.named(uid, stream_id), replace(stream, commit_time=now))
        for request in self._planned_requests.values():
            keep_request(change, request, KeptRequest(request.method, request.fingerprint, uid, now))
        if self._planned_schema != self._table.arrow_schema:
            key = keys.numbered(self._table.run_uid, self._table.number)
            change.put(shelves.TABLES, key, replace(self._table, arrow_schema=self._planned_schema))

    def keep(self) -> None:
        """The group is committed: the plan is the state now."""
        self._account_for()
        self._mark = self._planned_mark
        self._table = replace(self._table, arrow_schema=self._planned_schema)
        self._streams.update(self._planned_streams)
        self._heads |= self._planned_heads
        for number, entry in self._touched.items():
            if not entry.committed:
                self._layout.new_segment(self._table.uid, number).unlink(missing_ok=True)
            entry.committed = entry.record.length
            self._unsealed[number] = entry.record
        self._unsealed.update((segment.number, segment) for segment in self._placed.segments if _is_small(segment))
        self._placed.keep()
        for entry in self._retired:
            entry.file.close()
        self._begin()

    def _account_for(self) -> None:
        if self._log is None:
            return
        try:
            placed = [segment.number for segment in self._placed.segments]
            self._log.append(Entry(self._planned_mark, refs=self._refs, streams=self._planned_streams, sealed=placed))
        except OSError as error:
            # The commit stands without it. It is begun anew when the table is loaded again.
            logger.warning("commit_log_failed", extra={"table": self._table.uid.hex(), "error": str(error)})
            self._log.close()
            self._log = None

    def take_back(self) -> None:
        """Removes what was written of the group: its bytes may be what filled the disk."""
        self._placed.take_back()
        for number, entry in self._touched.items():
            with suppress(OSError):  # then it is cut off when it is opened again
                if entry.committed:
                    entry.file.cut_back(entry.committed)
                else:
                    entry.file.path.unlink()
                    self._layout.new_segment(self._table.uid, number).unlink()

    def close(self) -> None:
        """Closes the files. What was not committed is cut off when they are opened again."""
        for entry in (*self._open.values(), *self._retired):
            entry.file.close()
        self._open.clear()
        self._retired.clear()
        if self._log is not None:
            self._log.close()

    def _is_repeated(self, snapshot: Snapshot, append: Append) -> bool:
        if append.stream_id:
            return append.sequence <= self._stream(snapshot, append.stream_id).sequence
        request = append.request
        if request is None or not request.request_id:
            return False
        return request.request_id in self._planned_requests or find_request(snapshot, request) is not None

    def _extended(self, head: bytes) -> bytes:
        """The table's schema when it holds rows of this one too. Only what is committed ever becomes part of it."""
        if head in self._heads or head in self._planned_heads:
            return self._planned_schema
        planned, table = read_head(self._planned_schema), self._table
        unified = unify(planned, read_head(head), mixes=table.name == HISTORY_TABLE)
        if self._planned_schema and unified == planned:
            return self._planned_schema
        tables = {table.input_table_id: table.foreign_table_url} if table.foreign_table_url else {}
        return segment_head(unified, table.columns, tables)

    def _check_follows(self, snapshot: Snapshot, append: Append) -> None:
        if append.stream_id:
            mark = self._stream(snapshot, append.stream_id)
            first = append.sequence if append.first_sequence is None else append.first_sequence
            # Of a range that is committed in part the rest is wanted, and its file has more: it is sent again.
            if first != mark.sequence + 1:
                raise SequenceGapError(mark.sequence, first)

    def _note(self, snapshot: Snapshot, append: Append) -> None:
        if append.stream_id:
            mark = self._stream(snapshot, append.stream_id)
            position = append.position or mark.position
            self._planned_streams[append.stream_id] = replace(mark, sequence=append.sequence, position=position)
        elif append.request is not None and append.request.request_id:
            self._planned_requests[append.request.request_id] = append.request

    def _stream(self, snapshot: Snapshot, stream_id: str) -> StreamMark:
        if stream_id in self._planned_streams:
            return self._planned_streams[stream_id]
        if stream_id not in self._streams:
            kept = snapshot.get(shelves.STREAMS, keys.named(self._table.uid, stream_id))
            self._streams[stream_id] = kept or StreamMark()
        return self._streams[stream_id]

    def _place(self, chunk: Chunk) -> None:
        entry = self._open.get(chunk.head) or self._create(chunk.head)
        offset = entry.file.append(chunk.data)
        segment, mark = entry.record, self._planned_mark
        self._refs.append(
            BatchRef(segment.number, offset, len(chunk.data), chunk.rows, chunk.checksum, mark.rows, chunk.ranges)
        )
        entry.record = replace(
            segment, length=entry.file.length, rows=segment.rows + chunk.rows, batches=segment.batches + 1
        )
        self._planned_mark = replace(
            mark,
            rows=mark.rows + chunk.rows,
            batches=mark.batches + 1,
            bytes=mark.bytes + len(chunk.data),
        )
        self._touched[segment.number] = entry

    def _place_file(self, staged: StagedFile) -> None:
        """Takes a file in as a sealed segment. What is open is closed, so that each segment's rows stay together."""
        mark = self._planned_mark
        segment = self._placed.place(staged, mark.next_segment)
        self._retired.extend(self._open.values())
        self._open.clear()
        self._refs.extend(refs_of(staged, segment.number, mark.rows))
        self._planned_mark = replace(
            mark,
            rows=mark.rows + segment.rows,
            batches=mark.batches + len(staged.batches),
            bytes=mark.bytes + segment.length,
            next_segment=segment.number + NUMBERS_A_SEGMENT,
        )

    def _record_placed(self, change: Change) -> None:
        uid, placed = self._table.uid, self._placed.segments
        for segment in placed:
            key = keys.numbered(uid, segment.number)
            change.put(shelves.SEGMENTS, key, segment)
            if _is_small(segment):
                change.put(shelves.OPEN_SEGMENTS, key, spare_state(segment.number + 1))
        for key, state in list(change.scan(shelves.OPEN_SEGMENTS, uid)) if placed else ():
            if not state and keys.number_of(key) < placed[-1].number:
                change.put(shelves.OPEN_SEGMENTS, key, CLOSED)

    def _create(self, head: bytes) -> _Open:
        if len(self._open) >= MAX_OPEN_SCHEMAS:
            self._retired.append(self._open.pop(next(iter(self._open))))
        mark = self._planned_mark
        record = Segment(mark.next_segment, sealed=False, length=len(head), rows=0, arrow_schema=head)
        self._layout.announce_segment(self._table.uid, record.number, self._folder / record.file_name)
        file = OpenSegment.create(self._folder / record.file_name, head)
        self._planned_mark = replace(
            mark, next_segment=mark.next_segment + NUMBERS_A_SEGMENT, bytes=mark.bytes + len(head)
        )
        self._open[head] = _Open(file, record, 0)
        return self._open[head]


def _is_small(segment: Segment) -> bool:
    return segment.length < FULL_BYTES


def _folder(snapshot: Snapshot, layout: Layout, run_uid: Uid, table: MetricsTable | None) -> Path | None:
    run = snapshot.get(shelves.RUNS, run_uid)
    if run is None or run.delete_time:
        return None
    return layout.metrics_table(layout.run(run.project, run.name), table.name if table else "")
