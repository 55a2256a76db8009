"""TableService, one function an RPC: plain data and Arrow in and out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pyarrow as pa
from rund_pb.v1 import metrics_service_pb2
from rund_pb.v1 import table_service_pb2 as pb

from rund._identity import new_request_id
from rund._types import TableInfo

from . import convert
from .channel import Transport
from .read_stream import RowAnswer, RowRequest, read_batches


def write_table(
    transport: Transport,
    new: TableInfo,
    batches: Sequence[pa.RecordBatch],
    *,
    if_exists: str = "raise",
    request_id: str = "",
) -> TableInfo:
    """Writes an immutable table.

    Args:
        transport: Where.
        new: Its project, data set, name, description and columns are taken.
        batches: The rows; at least one batch, which may have no rows, because it brings the schema.
        if_exists: ``raise`` or ``rename``.
        request_id: Makes retries recognisable.
    """
    opening = pb.WriteTableRequest.Open(
        parent=f"projects/{new.project_name}/datasets/{new.dataset_name}",
        table_id=new.name,
        columns=convert.columns_to_pb(new.columns),
        description=new.description,
        if_exists=convert.if_exists_to_pb(if_exists),
        request_id=request_id or new_request_id(),
    )

    def requests() -> Iterator[pb.WriteTableRequest]:
        yield pb.WriteTableRequest(open=opening)
        for batch in batches:
            yield pb.WriteTableRequest(arrow_stream=_stream_bytes(batch))

    return convert.table_from_pb(transport.upload(lambda stubs: stubs.tables.WriteTable, requests).table)


def register_table(transport: Transport, new: TableInfo, request_id: str = "") -> TableInfo:
    """Registers a file or folder where it lies; URL, names, description and columns of ``new`` are taken."""
    parent = f"projects/{new.project_name}/datasets/{new.dataset_name}" if new.dataset_name else ""
    request = pb.RegisterTableRequest(
        url=new.url,
        parent=parent,
        table_id=new.name,
        columns=convert.columns_to_pb(new.columns),
        description=new.description,
        request_id=request_id,
    )
    return convert.table_from_pb(transport.call(lambda stubs: stubs.tables.RegisterTable, request).table)


def get_table(transport: Transport, *, name: str = "", url: str = "") -> TableInfo:
    """Gives an input table by resource name or by URL."""
    request = pb.GetTableRequest(url=url) if url else pb.GetTableRequest(name=name)
    return convert.table_from_pb(transport.call(lambda stubs: stubs.tables.GetTable, request).table)


def list_tables(
    transport: Transport, project_name: str = "", dataset_name: str = "", page_size: int = 0
) -> Iterator[TableInfo]:
    """Gives input tables, newest first; an empty name means all."""
    parent = f"projects/{project_name or '-'}/datasets/{dataset_name or '-'}"
    request = pb.ListTablesRequest(parent=parent, page_size=page_size)
    while True:
        answer = transport.call(lambda stubs: stubs.tables.ListTables, request)
        yield from map(convert.table_from_pb, answer.tables)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def read_table(transport: Transport, name: str, rows: RowRequest) -> Iterator[pa.RecordBatch]:
    """Gives the rows of an input table; see ``read_batches``.

    On the daemon's host the file of a table that was written is mapped, unless ``RUND_MAPPING`` is ``0``.
    """

    def ask(rest: RowRequest) -> Iterator[RowAnswer]:
        columns = None if rest.columns is None else metrics_service_pb2.ColumnSelection(names=rest.columns)
        request = pb.ReadTableRequest(
            name=name,
            columns=columns,
            filter=rest.filter,
            start_row=rest.start_row,
            row_limit=rest.row_limit,
            stored_files=rest.stored_files,
        )
        return transport.stream(lambda stubs: stubs.tables.ReadTable, request)

    return read_batches(ask, replace(rows, stored_files=transport.maps_files), transport.reconnect)


def _stream_bytes(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()
