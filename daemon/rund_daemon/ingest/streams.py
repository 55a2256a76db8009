"""Write streams: ordered batches of one writer into one metrics table, from their acceptance to their ack.

Belongs to the event loop's thread. It checks and queues; the catalog's writer has the last word on sequences, because
only it knows what is committed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from rund_daemon.catalog import Catalog, keys, shelves
from rund_daemon.catalog.lookup import table_by_uid
from rund_daemon.errors import ConflictError, InvalidError, Reason
from rund_daemon.limits import MIB, Limits
from rund_daemon.model import HISTORY_TABLE, MetricsTable, RequestKey, StreamMark, Uid
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.schemas import check_column_count, unify
from rund_daemon.segments.staged_file import FIELD, StagedFile

from .appends import Append, Chunk
from .batches import (
    ForeignRows,
    WireSchema,
    check_columns,
    check_limit,
    check_rows,
    make_chunk,
    read_batch,
    read_schema,
    read_stream,
    stored_schema,
)
from .budget import ByteBudget
from .file_checks import FileChecks
from .plain_columns import PlainColumn, batch_of_columns
from .staging import MAX_FILE_BATCHES, StagingFolder

T = TypeVar("T")

# Checking more than this much on the event loop would be felt by other streams.
_INLINE_BYTES = 2 * MIB
# What a plain value costs to look at, in bytes of Arrow data that cost the same.
_PLAIN_VALUE_BYTES = 64


@dataclass(slots=True)
class _Table:
    """What all streams of one table share while any of them is open or has a batch on its way."""

    record: MetricsTable
    foreign: ForeignRows | None
    users: int = 0
    schemas: dict[pa.Schema, WireSchema] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Ingest:
    """Opens write streams and hands their batches to the catalog's writer."""

    def __init__(self, catalog: Catalog, limits: Limits) -> None:
        self._catalog = catalog
        self.limits = limits
        self.budget = ByteBudget(limits.max_total_inflight_bytes)
        self._tables: dict[Uid, _Table] = {}
        self._streams: dict[tuple[Uid, str], WriteStream] = {}

    def open(self, record: MetricsTable, stream_id: str) -> WriteStream:
        """Opens a stream; a connection that has it open loses it.

        Args:
            record: the metrics table.
            stream_id: 1 to 64 printable characters; empty for rows that belong to no stream.
        """
        key = (record.uid, stream_id)
        if stream_id and (old := self._streams.get(key)):
            old.fail(
                ConflictError(
                    Reason.STREAM_TAKEN_OVER,
                    f"stream_id {stream_id!r} was opened by another connection; this one has ended",
                )
            )
        mark = self._committed(record.uid, stream_id)
        stream = WriteStream(self, self._enter(record), stream_id, mark.sequence)
        if stream_id:
            self._streams[key] = stream
        return stream

    async def position(self, stream: WriteStream) -> int:
        """Where the caller of a stream that was just opened stood in its own source when it last committed.

        Batches that an earlier connection of the stream has left on their way are waited for: they will be kept, and
        whoever goes on from here must not send their rows once more.
        """
        table, stream_id = stream.table, stream.stream_id
        while table.in_flight[stream_id]:
            table.answered.clear()
            await table.answered.wait()
        mark = self._committed(table.record.uid, stream_id)
        stream.committed = max(stream.committed, mark.sequence)
        return mark.position

    def enqueue(self, append: Append, table: _Table) -> None:
        """Hands a batch to the writer."""
        table.users += 1
        table.in_flight[append.stream_id] += 1
        self._catalog.append(append)

    def answered(self, table: _Table, stream_id: str) -> None:
        """A batch was committed or refused."""
        table.in_flight[stream_id] -= 1
        if not table.in_flight[stream_id]:
            del table.in_flight[stream_id]
        table.answered.set()
        self.leave(table)

    def leave(self, table: _Table) -> None:
        """One user less. The last one takes the shared state with it: the catalog has it all by then."""
        table.users -= 1
        if table.users == 0:
            self._tables.pop(table.record.uid, None)

    def forget(self, stream: WriteStream) -> None:
        """Removes a stream that has ended, unless another connection has taken it over."""
        key = (stream.table.record.uid, stream.stream_id)
        if self._streams.get(key) is stream:
            del self._streams[key]

    def check_fits(self, record: MetricsTable, schema: pa.Schema) -> None:
        """Refuses at once what the table can't hold. The writer, which knows what comes before it, has the last word.

        Raises:
            InvalidError: INVALID_COLUMN: a column is of another kind.
            ExhaustedError: OVER_LIMIT: the table has too many columns with these.
        """
        with self._catalog.snapshot() as snapshot:
            table = table_by_uid(snapshot, record.uid) or record
        unified = unify(read_head(table.arrow_schema), schema, mixes=table.name == HISTORY_TABLE)
        check_column_count(len(unified), self.limits.max_columns)

    def _enter(self, record: MetricsTable) -> _Table:
        table = self._tables.get(record.uid)
        if table is None:
            foreign = None
            if record.foreign_table_url:
                foreign = ForeignRows(record.input_table_id, record.foreign_row_count)
            table = _Table(record, foreign)
            self._tables[record.uid] = table
        table.users += 1
        return table

    def _committed(self, table: Uid, stream_id: str) -> StreamMark:
        with self._catalog.snapshot() as snapshot:
            mark = snapshot.get(shelves.STREAMS, keys.named(table, stream_id)) if stream_id else None
        return mark or StreamMark()


class WriteStream:
    """One writer's stream into one table. `committed` grows as batches become durable."""

    def __init__(self, ingest: Ingest, table: _Table, stream_id: str, committed: int) -> None:
        self._ingest = ingest
        self._limits = ingest.limits
        self._budget = ByteBudget(ingest.limits.max_inflight_bytes)
        self._schema: WireSchema | None = None
        self._staging: tuple[StagingFolder, WireSchema] | None = None
        self._closed = False
        self._in_flight = 0
        self._error: BaseException | None = None
        self._news = asyncio.Event()
        self.table = table
        self.stream_id = stream_id
        self.committed = committed
        # Set when a batch came that was committed before: whoever sent it again waits for an ack.
        self.repeated = False
        self.files = FileChecks(ingest.budget, ingest.limits.max_batch_bytes // 2, self._file_checked)

    def set_schema(self, data: bytes, name: str) -> None:
        """Sets the schema of the batches that follow as single messages."""
        self._schema = self._wire_schema(read_schema(data, self._limits, name))

    def stage_in(self, folder: StagingFolder) -> bytes:
        """Lets files be handed over in a folder, which goes with the stream.

        Returns:
            The schema message that they begin with, for batches of the schema that was set.
        """
        assert self._schema is not None
        self._staging = folder, self._schema
        return self._schema.head

    async def write_batch(self, sequence: int, data: bytes, position: int = 0) -> None:
        """Takes one record batch message of the schema that was set. Waits while too much is in flight."""
        schema = self._schema
        if schema is None:
            raise InvalidError("batch.arrow_batch", "no schema was given; set open.arrow_schema, or send arrow_stream")
        name = "batch.arrow_batch"

        def check() -> tuple[Chunk, ...]:
            batch = read_batch(data, schema, self._limits, name)
            check_rows(batch, self.table.foreign, name)
            return tuple(make_chunk(batch, data, schema, self.table.foreign))

        chunks = await off_loop(len(data), check)
        await self.files.finish()
        await self._send(sequence, schema, chunks, position=position)

    async def write_stream(self, sequence: int, data: bytes, position: int = 0) -> None:
        """Takes the batches of one Arrow IPC stream as one batch of this stream."""
        name = "batch.arrow_stream"
        schema, batches, messages = await off_loop(len(data), lambda: read_stream(data, self._limits, name))
        wire = self._wire_schema(schema)
        view = memoryview(data)

        def check() -> tuple[Chunk, ...]:
            chunks: list[Chunk] = []
            for batch, message in zip(batches, messages, strict=True):
                check_rows(batch, self.table.foreign, name)
                part = view[message.begin : message.end]
                chunks.extend(make_chunk(batch, part, wire, self.table.foreign))
            return tuple(chunks)

        chunks = await off_loop(len(data), check)
        await self.files.finish()
        await self._send(sequence, wire, chunks, position=position)

    async def write_staged(self, first: int, last: int, file_name: str, position: int = 0) -> None:
        """Takes a file with the batches of a range of sequences.

        Returns while it is being checked, as soon as the file before it has been.
        """
        if self._staging is None:
            raise InvalidError(
                FIELD, "no folder was offered in this call (opened.staging); send the batches themselves"
            )
        if not 1 <= first <= last < first + MAX_FILE_BATCHES:
            raise InvalidError(
                f"{FIELD}.first_sequence", f"{first} to {last} is no range of 1 to {MAX_FILE_BATCHES} sequences"
            )
        folder, schema = self._staging
        foreign = self.table.foreign

        def check() -> StagedFile:
            return folder.check(file_name, last - first + 1, schema.head, foreign, self._limits)

        async def take(staged: StagedFile) -> None:
            if not self._closed:
                await self._send(last, schema, (), position=position, first=first, staged=staged)

        await self.files.begin(last, check, take)

    async def write_columns(self, sequence: int, columns: Sequence[PlainColumn], position: int = 0) -> None:
        """Takes plain columns."""
        name = "batch.columns"
        check_limit("rows", max((column.rows for column in columns), default=0), self._limits.max_batch_rows, name)
        size = sum(len(column.values) for column in columns) * _PLAIN_VALUE_BYTES
        batch = await off_loop(size, lambda: batch_of_columns(columns, name))
        await self.write_rows(sequence, batch, name, position=position)

    async def write_rows(
        self,
        sequence: int,
        batch: pa.RecordBatch,
        name: str,
        request: RequestKey | None = None,
        *,
        position: int = 0,
    ) -> None:
        """Takes rows that the daemon has made into a batch itself."""
        check_columns(batch.schema, self._limits, name)
        wire = self._wire_schema(batch.schema)
        check_rows(batch, self.table.foreign, name)
        chunks = tuple(make_chunk(batch, memoryview(batch.serialize()), wire, self.table.foreign))
        await self.files.finish()
        await self._send(sequence, wire, chunks, request, position=position)

    async def progress(self) -> int:
        """Waits until more is committed or all is, and gives the last committed sequence.

        Raises:
            RundError: the stream has failed; what `committed` says is kept.
        """
        await self._news.wait()
        self._news.clear()
        if self._error is not None:
            raise self._error
        return self.committed

    async def drain(self) -> None:
        """Waits until every batch taken is committed.

        Raises:
            RundError: one of them was not.
        """
        while (self._in_flight or self.files.running) and self._error is None:
            await self.progress()
        if self._error is not None:
            raise self._error

    def wake(self) -> None:
        """Lets `progress` return once without news."""
        self._news.set()

    def fail(self, error: BaseException) -> None:
        """Ends the stream with an error; the first one stays."""
        self._error = self._error or error
        self._news.set()

    def close(self) -> None:
        """Gives up the stream. Batches on their way are still committed."""
        self._closed = True
        self._ingest.forget(self)
        self._ingest.leave(self.table)
        self._remove_folder()

    def _file_checked(self) -> None:
        self._remove_folder()
        self._news.set()

    def _remove_folder(self) -> None:
        """Removes what was staged and not taken, once nothing is on its way that lies there."""
        if self._closed and not self._in_flight and not self.files.running and self._staging is not None:
            asyncio.get_running_loop().run_in_executor(None, self._staging[0].remove)
            self._staging = None

    def _wire_schema(self, schema: pa.Schema) -> WireSchema:
        table = self.table
        known = table.schemas.get(schema)
        if known is None:
            record = table.record
            stored = stored_schema(schema, table.foreign, record.name)
            self._ingest.check_fits(record, stored)
            tables = {record.input_table_id: record.foreign_table_url} if table.foreign else {}
            head = segment_head(stored, record.columns, tables)
            known = WireSchema(schema, stored, head)
            table.schemas[schema] = known
        return known

    async def _send(
        self,
        sequence: int,
        schema: WireSchema,
        chunks: Sequence[Chunk],
        request: RequestKey | None = None,
        *,
        position: int = 0,
        first: int | None = None,
        staged: StagedFile | None = None,
    ) -> None:
        if self._error is not None:
            raise self._error
        size = sum(len(chunk.data) for chunk in chunks)
        await self._budget.take(size)
        await self._ingest.budget.take(size)
        self._in_flight += 1
        record, table = self.table.record, self.table

        def answer(error: BaseException | None) -> None:
            self._budget.give_back(size)
            self._ingest.budget.give_back(size)
            self._in_flight -= 1
            self._ingest.answered(table, self.stream_id)
            self._remove_folder()
            if error is not None:
                self.fail(error)
            else:
                self.repeated = self.repeated or sequence <= self.committed
                self.committed = max(self.committed, sequence)
                self._news.set()

        append = Append(
            record.uid,
            record.run_uid,
            record.number,
            self.stream_id,
            sequence,
            tuple(chunks),
            schema.head,
            answer,
            request,
            position,
            first,
            staged,
        )
        self._ingest.enqueue(append, table)


async def off_loop(size: int, check: Callable[[], T]) -> T:
    """Runs a check here if it is short, else on a thread, so that no other stream feels it."""
    if size <= _INLINE_BYTES:
        return check()
    return await asyncio.get_running_loop().run_in_executor(None, check)
