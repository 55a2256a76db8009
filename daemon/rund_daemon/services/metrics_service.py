"""MetricsService: rows in, rows out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pyarrow as pa
from rund_pb.v1 import metrics_service_pb2 as pb
from rund_pb.v1 import metrics_service_pb2_grpc

from rund_daemon.errors import ExhaustedError, InvalidError, Reason
from rund_daemon.identity import Clock, parse_uid
from rund_daemon.ingest.batches import plain_schema, read_schema
from rund_daemon.ingest.plain_columns import HistoryRow, batch_of_history
from rund_daemon.ingest.sealing import Sealer
from rund_daemon.ingest.streams import Ingest, off_loop
from rund_daemon.limits import Limits
from rund_daemon.model import DEFAULT_STREAM_NAME, HISTORY_TABLE
from rund_daemon.names import MetricsTableName, RunName, check_name, parse_metrics_table, parse_run
from rund_daemon.reading.pages import check_page_size, make_token, read_token
from rund_daemon.reading.scan import MetricsReader, ScanRequest
from rund_daemon.runs import NewTable, Runs
from rund_daemon.runs.metrics_tables import BASE_NAME
from rund_daemon.tables import InputTables

from .convert import values_from_pb
from .convert_pieces import piece_to_pb
from .convert_tables import columns_from_pb, metrics_table_to_pb
from .convert_times import time_from_pb
from .interceptor import Context
from .requests import is_local, request_key
from .write_sessions import WriteSessions

MAX_TABLES = 2**32 - 1
"""Of a run, trashed ones included: their numbers have 32 bits in the catalog's keys."""

# What a byte of scalars costs to look at, in bytes of Arrow data that cost the same.
_SCALAR_COST = 64


class MetricsServicer(metrics_service_pb2_grpc.MetricsServiceServicer):
    """Each method checks, calls the domain once and translates back."""

    def __init__(
        self,
        *,
        runs: Runs,
        tables: InputTables,
        ingest: Ingest,
        reader: MetricsReader,
        sessions: WriteSessions,
        sealer: Sealer,
        limits: Limits,
        clock: Clock,
    ) -> None:
        self._runs = runs
        self._tables = tables
        self._ingest = ingest
        self._reader = reader
        self._sessions = sessions
        self._sealer = sealer
        self._limits = limits
        self._clock = clock

    async def CreateMetricsTable(
        self, request: pb.CreateMetricsTableRequest, context: Context
    ) -> pb.CreateMetricsTableResponse:
        """Creates an empty table."""
        name = parse_run(request.parent, "parent")
        run = self._runs.find(name)
        state = await self._runs.create_table(
            name, await self._new_table(request), request_key(request, "CreateMetricsTable")
        )
        return pb.CreateMetricsTableResponse(metrics_table=metrics_table_to_pb(state, run))

    async def WriteMetrics(
        self, request_iterator: AsyncIterator[pb.WriteMetricsRequest], context: Context
    ) -> AsyncIterator[pb.WriteMetricsResponse]:
        """Takes a stream of batches."""
        async for response in self._sessions.run(request_iterator, context.peer()):
            yield response

    async def LogScalars(self, request: pb.LogScalarsRequest, context: Context) -> pb.LogScalarsResponse:
        """Appends rows to `history`."""
        run = parse_run(request.run, "run")
        size = request.ByteSize() * _SCALAR_COST
        batch = await off_loop(size, lambda: batch_of_history(self._rows(request), "rows"))
        table = await self._runs.ensure_table(MetricsTableName(*run, HISTORY_TABLE))
        await self._runs.hear(table.run_uid, request.writer_id)
        stream = self._ingest.open(table, "")
        try:
            await stream.write_rows(1, batch, "rows", request_key(request, "LogScalars"))
            await stream.drain()
        finally:
            stream.close()
        # By uid: the run may have been renamed meanwhile.
        return pb.LogScalarsResponse(row_count=self._runs.get_table_by_uid(table.uid).mark.rows)

    async def ReadMetrics(
        self, request: pb.ReadMetricsRequest, context: Context
    ) -> AsyncIterator[pb.ReadMetricsResponse]:
        """Sends rows."""
        name = parse_metrics_table(request.metrics_table, "metrics_table")
        if request.uid:
            state = self._runs.get_table_by_uid(parse_uid(request.uid, "uid"), name.project)
        else:
            state = self._runs.get_table(name)
        scan = ScanRequest(
            tuple(request.columns.names) if request.HasField("columns") else None,
            request.filter,
            request.start_row,
            request.row_limit if request.HasField("row_limit") else None,
            request.follow,
            request.stored_files and is_local(context.peer()),
        )
        async for piece in self._reader.read(state.table.uid, scan):
            yield piece_to_pb(piece)

    async def ListMetricsTables(
        self, request: pb.ListMetricsTablesRequest, context: Context
    ) -> pb.ListMetricsTablesResponse:
        """Gives a page of a run's tables."""
        size = check_page_size(request.page_size, self._limits.max_page_size)
        begin = min(max(int(read_token(request.page_token, request.parent) or 0), 0), MAX_TABLES)
        run, found = self._runs.find_tables(parse_run(request.parent, "parent"), begin, size + 1)
        following = found[size].table.number if len(found) > size else None
        answer = pb.ListMetricsTablesResponse(
            next_page_token="" if following is None else make_token(request.parent, str(following))
        )
        for state in found[:size]:
            metrics_table_to_pb(state, run, answer.metrics_tables.add)
        return answer

    async def GetMetricsTable(self, request: pb.GetMetricsTableRequest, context: Context) -> pb.GetMetricsTableResponse:
        """Gives a table without its rows."""
        name = parse_metrics_table(request.name, "name")
        run = self._runs.find(RunName(name.project, name.run))
        return pb.GetMetricsTableResponse(metrics_table=metrics_table_to_pb(self._runs.get_table(name), run))

    async def UndeleteMetricsTable(
        self, request: pb.UndeleteMetricsTableRequest, context: Context
    ) -> pb.UndeleteMetricsTableResponse:
        """Takes a table out of trash."""
        name = parse_metrics_table(request.name, "name")
        uid = parse_uid(request.uid, "uid") if request.uid else None
        state = await self._runs.undelete_table(name, uid, request_key(request, "UndeleteMetricsTable"))
        self._sealer.request(state.table.uid)  # its run may have ended while it was in trash
        run = self._runs.get_by_uid(state.table.run_uid).run
        return pb.UndeleteMetricsTableResponse(metrics_table=metrics_table_to_pb(state, run))

    async def _new_table(self, request: pb.CreateMetricsTableRequest) -> NewTable:
        message = request.metrics_table
        foreign = None
        if message.foreign_table_url:
            foreign = await self._tables.resolve(message.foreign_table_url, "metrics_table.foreign_table_url")
        schema = pa.schema([])
        if message.arrow_schema:
            schema = read_schema(message.arrow_schema, self._limits, "metrics_table.arrow_schema")
        return NewTable(
            name=check_name(request.table_id, "table_id") if request.table_id else "",
            base_name=check_name(request.base_name or BASE_NAME, "base_name"),
            stream_name=message.stream_name or DEFAULT_STREAM_NAME,
            foreign_table=foreign,
            foreign_table_url=self._tables.url_of(foreign) if foreign else "",
            foreign_table_display_name=message.foreign_table_display_name,
            columns=columns_from_pb(message.columns, "metrics_table.columns"),
            constants=values_from_pb(message.constants, "metrics_table.constants", self._limits),
            arrow_schema=plain_schema(schema).serialize().to_pybytes() if len(schema) else b"",
        )

    def _rows(self, request: pb.LogScalarsRequest) -> list[HistoryRow]:
        count = len(request.rows)
        if not count:
            raise InvalidError("rows", "there are none; send at least one")
        if count > self._limits.max_batch_rows:
            raise ExhaustedError(
                Reason.OVER_LIMIT,
                f"rows: {count} and the limit is {self._limits.max_batch_rows}; send fewer at a time",
                field="rows",
                limit=f"max_batch_rows={self._limits.max_batch_rows}",
                value=count,
            )
        now = self._clock()
        return [
            HistoryRow(
                row.step if row.HasField("step") else None,
                time_from_pb(row.time, f"rows[{number}].time") if row.HasField("time") else now,
                row.rank,
                values_from_pb(row.values, f"rows[{number}].values", self._limits),
            )
            for number, row in enumerate(request.rows)
        ]
