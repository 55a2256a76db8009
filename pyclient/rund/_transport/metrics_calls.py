"""MetricsService, one function an RPC; write streams are in ``write_stream``.

LogScalars is for callers without Arrow; what this client logs goes through the journal and a write stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import pyarrow as pa
from rund_pb.v1 import metrics_pb2
from rund_pb.v1 import metrics_service_pb2 as pb

from rund._types import MetricTableInfo

from . import convert
from .channel import Transport
from .read_stream import RowAnswer, RowRequest, read_batches

TABLES_OF_A_PAGE = 200
"""Enough that a call costs little beside them, and few enough that none waits long for another."""


def create_metrics_table(
    transport: Transport,
    run: str,
    info: MetricTableInfo,
    *,
    constants: Mapping[str, object] | None = None,
    base_name: str = "",
    request_id: str = "",
) -> MetricTableInfo:
    """Creates an empty metrics table.

    Args:
        transport: Where.
        run: Resource name of the run.
        info: Its ``name`` (empty: one is made with ``base_name``), stream, foreign table, columns and schema
            are taken.
        constants: Values that are the same for every row.
        base_name: Begin of the generated name.
        request_id: Makes retries recognisable.
    """
    request = pb.CreateMetricsTableRequest(
        parent=run,
        table_id=info.name,
        metrics_table=convert.metrics_table_to_pb(info, constants),
        base_name=base_name,
        request_id=request_id,
    )
    answer = transport.call(lambda stubs: stubs.metrics.CreateMetricsTable, request)
    return convert.metrics_table_from_pb(answer.metrics_table)


def get_metrics_table(transport: Transport, name: str) -> MetricTableInfo:
    """Gives a metrics table by resource name."""
    request = pb.GetMetricsTableRequest(name=name)
    answer = transport.call(lambda stubs: stubs.metrics.GetMetricsTable, request)
    return convert.metrics_table_from_pb(answer.metrics_table)


def undelete_metrics_table(transport: Transport, name: str, request_id: str = "") -> MetricTableInfo:
    """Takes a metrics table out of trash, by the resource name that it had."""
    request = pb.UndeleteMetricsTableRequest(name=name, request_id=request_id)
    answer = transport.call(lambda stubs: stubs.metrics.UndeleteMetricsTable, request)
    return convert.metrics_table_from_pb(answer.metrics_table)


class ListedTable:
    """A metrics table as a list gives it: it becomes a record when one is asked for, because a run may have thousands.

    Args:
        message: What the daemon said of it.
    """

    __slots__ = ("_info", "_message")

    def __init__(self, message: metrics_pb2.MetricsTable) -> None:
        self._message = message
        self._info: MetricTableInfo | None = None

    @property
    def resource_name(self) -> str:
        """Its name; empty for a table outside the run."""
        return self._message.name

    @property
    def url(self) -> str:
        """Relative to the run, or absolute for a table outside the run."""
        return self._message.url

    def info(self) -> MetricTableInfo:
        """Its record when it was listed."""
        if self._info is None:
            self._info = convert.metrics_table_from_pb(self._message)
        return self._info


def list_metrics_tables(transport: Transport, run: str) -> Iterator[ListedTable]:
    """Gives the metrics tables of a run, page by page, in order of writing."""

    def ask(token: str) -> Callable[[], pb.ListMetricsTablesResponse]:
        request = pb.ListMetricsTablesRequest(parent=run, page_size=TABLES_OF_A_PAGE, page_token=token)
        return transport.begin(lambda stubs: stubs.metrics.ListMetricsTables, request)

    page: Callable[[], pb.ListMetricsTablesResponse] | None = ask("")
    while page is not None:
        answer = page()
        # The daemon makes the next page while the caller has this one.
        page = ask(answer.next_page_token) if answer.next_page_token else None
        yield from map(ListedTable, answer.metrics_tables)


def read_metrics(transport: Transport, table: MetricTableInfo, rows: RowRequest) -> Iterator[pa.RecordBatch]:
    """Gives rows in the order of their commits; see ``read_batches``.

    On the daemon's host those in sealed files are mapped, unless ``RUND_MAPPING`` is ``0``.

    Args:
        transport: Where.
        table: Which. It is found by its resource name at first; then the read goes on by its uid, whatever its run is
            called by then, and if it is in trash.
        rows: Which of its rows.
    """
    found = ""

    def ask(rest: RowRequest) -> Iterator[RowAnswer]:
        nonlocal found
        request = pb.ReadMetricsRequest(
            metrics_table=table.resource_name,
            columns=None if rest.columns is None else pb.ColumnSelection(names=rest.columns),
            filter=rest.filter,
            start_row=rest.start_row,
            row_limit=rest.row_limit,
            follow=rest.follow,
            stored_files=rest.stored_files,
            uid=found,
        )
        for answer in transport.stream(lambda stubs: stubs.metrics.ReadMetrics, request):
            found = table.uid
            yield answer

    return read_batches(ask, replace(rows, stored_files=transport.maps_files), transport.reconnect)
