"""TableService: input tables."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pyarrow as pa
from rund_pb.v1 import metrics_service_pb2, table_pb2, table_service_pb2_grpc
from rund_pb.v1 import table_service_pb2 as pb

from rund_daemon.errors import InvalidError
from rund_daemon.ingest.batches import plain_schema, read_stream
from rund_daemon.limits import Limits
from rund_daemon.model import IfExists, InputTable
from rund_daemon.names import DatasetName, TableName, check_name, parse_dataset, parse_table
from rund_daemon.quotas import Allowance
from rund_daemon.reading.pages import check_page_size, make_token, read_token
from rund_daemon.reading.table_scan import TableReader
from rund_daemon.runs.metrics_tables import check_columns
from rund_daemon.tables import REGISTERED, InputTables, NewInputTable, StagedTable

from .convert import if_exists_from_pb
from .convert_pieces import table_piece_to_pb
from .convert_tables import columns_from_pb, input_table_to_pb
from .interceptor import Context
from .requests import is_local, request_key

Requests = AsyncIterator[pb.WriteTableRequest]
_STREAM = "arrow_stream"


class TableServicer(table_service_pb2_grpc.TableServiceServicer):
    """Each method checks, calls the domain once and translates back."""

    def __init__(self, tables: InputTables, reader: TableReader, limits: Limits) -> None:
        self._tables = tables
        self._reader = reader
        self._limits = limits

    async def WriteTable(self, request_iterator: Requests, context: Context) -> pb.WriteTableResponse:
        """Writes an immutable table."""
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidError("open", "the first message must be open, with parent and table_id")
        new = _new_table(first.open)
        key = request_key(first.open, "WriteTable")
        staged = await self._stage(request_iterator, await self._tables.admission(new, key))
        table = await self._tables.publish(staged, new, key)
        return pb.WriteTableResponse(table=self._message(table))

    async def RegisterTable(self, request: pb.RegisterTableRequest, context: Context) -> pb.RegisterTableResponse:
        """Registers a file to be read where it lies."""
        dataset = parse_dataset(request.parent, "parent") if request.parent else REGISTERED
        name = check_name(request.table_id, "table_id") if request.table_id else ""
        columns = columns_from_pb(request.columns, "columns")
        check_columns(columns, "columns")
        new = NewInputTable(TableName(*dataset, name), columns, request.description)
        table = await self._tables.register(request.url, new, request_key(request, "RegisterTable"))
        return pb.RegisterTableResponse(table=self._message(table))

    async def GetTable(self, request: pb.GetTableRequest, context: Context) -> pb.GetTableResponse:
        """Gives a table by name or URL."""
        match request.WhichOneof("key"):
            case "name":
                table = self._tables.get(parse_table(request.name, "name"))
            case "url":
                table = self._tables.get_by_url(request.url, "url")
            case _:
                raise InvalidError("name", "no table is named; set name or url")
        return pb.GetTableResponse(table=self._message(table))

    async def ListTables(self, request: pb.ListTablesRequest, context: Context) -> pb.ListTablesResponse:
        """Gives a page of tables."""
        dataset: DatasetName = parse_dataset(request.parent, "parent", allow_any=True)
        size = check_page_size(request.page_size, self._limits.max_page_size)
        found, following = self._tables.page(dataset, size, read_token(request.page_token, dataset))
        return pb.ListTablesResponse(
            tables=map(self._message, found),
            next_page_token=make_token(dataset, following) if following else "",
        )

    async def ReadTable(self, request: pb.ReadTableRequest, context: Context) -> AsyncIterator[pb.ReadTableResponse]:
        """Sends rows."""
        table = self._tables.get(parse_table(request.name, "name"))
        pieces = self._reader.read(
            table,
            _columns(request.columns) if request.HasField("columns") else None,
            request.filter,
            request.start_row,
            request.row_limit if request.HasField("row_limit") else None,
            stored=request.stored_files and is_local(context.peer()),
        )
        async for piece in pieces:
            yield table_piece_to_pb(piece)

    async def _stage(self, requests: Requests, allowance: Allowance) -> StagedTable:
        staged: StagedTable | None = None
        try:
            async for request in requests:
                plain, batches = self._rows(request)
                staged = staged or self._tables.stage(plain, allowance)
                _check_same(plain, staged.schema)
                for batch in batches:
                    await staged.add(pa.RecordBatch.from_arrays(batch.columns, schema=plain))
        except BaseException:
            if staged is not None:
                await staged.abort()
            raise
        if staged is None:
            raise InvalidError(_STREAM, "the table has no schema; send at least one arrow_stream")
        return staged

    def _rows(self, request: pb.WriteTableRequest) -> tuple[pa.Schema, list[pa.RecordBatch]]:
        if request.WhichOneof("message") != _STREAM:
            raise InvalidError("message", "after open only arrow_stream messages follow")
        schema, batches, _ = read_stream(request.arrow_stream, self._limits, _STREAM)
        return plain_schema(schema), batches

    def _message(self, table: InputTable) -> table_pb2.Table:
        return input_table_to_pb(table, self._tables.url_of(table))


def _new_table(opening: pb.WriteTableRequest.Open) -> NewInputTable:
    if_exists = if_exists_from_pb(opening.if_exists, IfExists.RAISE)
    if if_exists not in (IfExists.RAISE, IfExists.RENAME):
        raise InvalidError("open.if_exists", "a table never changes; use RAISE or RENAME")
    columns = columns_from_pb(opening.columns, "open.columns")
    check_columns(columns, "open.columns")
    name = TableName(
        *parse_dataset(opening.parent, "open.parent"),
        check_name(opening.table_id or "table", "open.table_id"),
    )
    return NewInputTable(name, columns, opening.description, if_exists)


def _check_same(schema: pa.Schema, first: pa.Schema) -> None:
    if schema != first:
        raise InvalidError(_STREAM, "its schema differs from the first message's; use one schema")


def _columns(selection: metrics_service_pb2.ColumnSelection) -> list[str]:
    return list(selection.names)
