"""One WriteMetrics call: reads batches, sends acks, says goodbye when the daemon stops.

Reading and acknowledging go on side by side: the reader stops at a bad message or at the bound of bytes in flight, and
what was taken before is acknowledged all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rund_pb.v1 import metrics_pb2
from rund_pb.v1 import metrics_service_pb2 as pb

from rund_daemon.catalog.lookup import TableState
from rund_daemon.errors import DrainingError, InvalidError, RundError
from rund_daemon.ingest.sealing import Sealer
from rund_daemon.ingest.staging import MAX_FILE_BYTES, Staging
from rund_daemon.ingest.streams import Ingest, WriteStream
from rund_daemon.limits import Limits
from rund_daemon.names import parse_metrics_table
from rund_daemon.runs import Runs

from .convert_tables import metrics_table_to_pb, plain_column_from_pb
from .requests import is_local

Requests = AsyncIterator[pb.WriteMetricsRequest]
Responses = AsyncIterator[pb.WriteMetricsResponse]


class WriteSessions:
    """All WriteMetrics calls of the daemon."""

    def __init__(self, runs: Runs, ingest: Ingest, sealer: Sealer, staging: Staging, limits: Limits) -> None:
        self._runs = runs
        self._staging = staging
        self._ingest = ingest
        self._sealer = sealer
        self._limits = limits
        self._open: set[_Session] = set()
        self._draining = False

    async def run(self, requests: Requests, peer: str) -> Responses:
        """Serves one call.

        Args:
            requests: what the caller says.
            peer: gRPC's name of its address.
        """
        if self._draining:
            raise DrainingError
        opening = await _first(requests)
        name = parse_metrics_table(opening.metrics_table, "open.metrics_table")
        if opening.create_missing:
            await self._runs.ensure_table(name)
        if self._draining:  # while it waited: nobody would tell it so again
            raise DrainingError
        state = self._runs.get_table(name)
        is_writer = await self._runs.hear(state.table.run_uid, opening.writer_id)
        stream = self._ingest.open(state.table, _stream_id(opening.stream_id))
        session = _Session(stream, requests)
        self._open.add(session)
        if is_writer:
            self._runs.presence.connect(opening.writer_id)
        try:
            if opening.arrow_schema:
                stream.set_schema(opening.arrow_schema, "open.arrow_schema")
            position = await self._ingest.position(stream)
            wanted = is_local(peer) and opening.staging and opening.arrow_schema
            staging = await self._offer(stream) if wanted else None
            yield self._opened(stream, state, position, staging)
            async for response in session.acks():
                yield response
            if session.close is not None:
                yield await self._closed(state, session.close.seal)
        except RundError as error:
            raise error.with_facts(committed_sequence=stream.committed) from error
        finally:
            self._open.discard(session)
            session.end()
            if is_writer:
                self._runs.presence.disconnect(opening.writer_id)

    def drain(self) -> None:
        """Has every call commit what it has, say so and end."""
        self._draining = True
        for session in self._open:
            session.drain()

    async def _offer(self, stream: WriteStream) -> pb.WriteMetricsResponse.Staging:
        folder = await asyncio.get_running_loop().run_in_executor(None, self._staging.open_folder)
        return pb.WriteMetricsResponse.Staging(
            folder=str(folder.path),
            arrow_schema=stream.stage_in(folder),
            max_file_bytes=MAX_FILE_BYTES,
            min_free_bytes=folder.min_free_bytes,
        )

    def _opened(
        self, stream: WriteStream, state: TableState, position: int, staging: pb.WriteMetricsResponse.Staging | None
    ) -> pb.WriteMetricsResponse:
        return pb.WriteMetricsResponse(
            opened=pb.WriteMetricsResponse.Opened(
                committed_sequence=stream.committed,
                metrics_table=self._message(state),
                max_batch_bytes=self._limits.max_batch_bytes,
                max_inflight_bytes=self._limits.max_inflight_bytes,
                committed_position=position,
                staging=staging,
            )
        )

    async def _closed(self, opened: TableState, seal: bool) -> pb.WriteMetricsResponse:
        if seal:
            state = await self._runs.seal_table(opened.table)
            self._sealer.request(state.table.uid)
        else:
            state = self._runs.get_table_by_uid(opened.table.uid)
            if self._runs.find_by_uid(state.table.run_uid).status.ended:
                # Rows of a journal, say, whose writer has died: nothing else will have them sealed.
                self._sealer.request(state.table.uid)
        return pb.WriteMetricsResponse(closed=pb.WriteMetricsResponse.Closed(metrics_table=self._message(state)))

    def _message(self, state: TableState) -> metrics_pb2.MetricsTable:
        # By uid: the run may have been renamed since the stream was opened.
        return metrics_table_to_pb(state, self._runs.find_by_uid(state.table.run_uid))


class _Session:
    """Reads one caller's messages while its batches are acknowledged."""

    def __init__(self, stream: WriteStream, requests: Requests) -> None:
        self._stream = stream
        self._draining = False
        self._acked = 0
        self.close: pb.WriteMetricsRequest.Close | None = None
        self._reader = asyncio.create_task(self._read(requests))
        self._reader.add_done_callback(lambda _: stream.wake())

    async def acks(self) -> Responses:
        """Gives acks until the caller has said all, or fails; then raises why."""
        self._acked = self._stream.committed
        while not (self._reader.done() or self._draining or self._stream.files.refusal):
            await self._stream.progress()
            if self._owes_ack():
                yield self._ack()
        self._reader.cancel()
        await asyncio.wait([self._reader])
        await self._stream.drain()
        if self._owes_ack():
            yield self._ack()
        if self._draining:
            goodbye = pb.WriteMetricsResponse.Draining(committed_sequence=self._stream.committed)
            yield pb.WriteMetricsResponse(draining=goodbye)
            raise DrainingError
        if self._stream.files.refusal is not None:
            raise self._stream.files.refusal
        self._reader.result()

    def _owes_ack(self) -> bool:
        return self._stream.committed > self._acked or self._stream.repeated

    def _ack(self) -> pb.WriteMetricsResponse:
        self._acked, self._stream.repeated = self._stream.committed, False
        return pb.WriteMetricsResponse(ack=pb.WriteMetricsResponse.Ack(committed_sequence=self._acked))

    def drain(self) -> None:
        """Has `acks` end."""
        self._draining = True
        self._stream.wake()

    def end(self) -> None:
        """Gives up; what was taken is committed all the same."""
        self._reader.cancel()
        self._stream.close()

    async def _read(self, requests: Requests) -> None:
        async for request in requests:
            match request.WhichOneof("message"):
                case "batch":
                    await self._take_named(request.batch)
                case "schema":
                    self._stream.set_schema(request.schema.arrow_schema, "schema.arrow_schema")
                case "close":
                    self.close = request.close
                    return
                case "open":
                    raise InvalidError("open", "the stream is open; begin another call for another stream")
                case _:
                    raise InvalidError("message", "the message is empty; set batch, schema or close")

    async def _take_named(self, batch: pb.WriteMetricsRequest.Batch) -> None:
        """As `_take`; an error says which batch is to blame, because many may be on their way."""
        try:
            await self._take(batch)
        except RundError as error:
            raise error.with_facts(sequence=batch.sequence) from error

    async def _take(self, batch: pb.WriteMetricsRequest.Batch) -> None:
        sequence, position = batch.sequence, batch.position
        if sequence < 1:
            raise InvalidError("batch.sequence", f"{sequence} is no sequence; the first batch has 1")
        if position < 0:
            raise InvalidError("batch.position", f"{position} is no position; the first one is 1")
        match batch.WhichOneof("payload"):
            case "arrow_batch":
                await self._stream.write_batch(sequence, batch.arrow_batch, position)
            case "arrow_stream":
                await self._stream.write_stream(sequence, batch.arrow_stream, position)
            case "columns":
                columns = [plain_column_from_pb(column, "batch.columns") for column in batch.columns.columns]
                await self._stream.write_columns(sequence, columns, position)
            case "staged":
                staged = batch.staged
                await self._stream.write_staged(staged.first_sequence, sequence, staged.file_name, position)
            case _:
                raise InvalidError("batch", "it has no payload; set arrow_batch, arrow_stream, columns or staged")


async def _first(requests: Requests) -> pb.WriteMetricsRequest.Open:
    request = await anext(requests, None)
    if request is None or request.WhichOneof("message") != "open":
        raise InvalidError("open", "the first message must be open, with the table and the stream_id")
    return request.open


def _stream_id(stream_id: str) -> str:
    if not 1 <= len(stream_id) <= 64 or not stream_id.isprintable() or not stream_id.isascii():
        raise InvalidError("open.stream_id", f"{stream_id[:70]!r} is not 1 to 64 printable ASCII characters")
    return stream_id
