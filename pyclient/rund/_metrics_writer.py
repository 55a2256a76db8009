"""A metrics table that is written bit by bit: what was flushed is durable and can be read at once."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from . import _new_metrics
from ._batches import TARGET_BATCH_BYTES, split
from ._column_schemas import ColumnSchemas
from ._columns import EXAMPLE_ID, Columns, check_example_ids, columns_from, numbered
from ._errors import MetricsTableExistsError, RowCountMismatchError, RundError, WrongStateError
from ._locate import Daemon
from ._new_metrics import TableSpec
from ._transport import WriteStream, metrics_calls, metrics_table_from_pb
from ._types import MetricTableInfo, TableInfo

ROWS_PER_BATCH = 4096
"""Rows of ``add_row`` that are gathered before they are sent."""


class MetricsWriter:
    """Writes one metrics table in batches; safe for many threads. As a context manager it closes itself.

    With a foreign table, rows without an ``example_id`` are numbered in the order in which they are added.

    Not made directly: use ``Run.metrics_writer``.
    """

    def __init__(self, daemon: Daemon, run: str, spec: TableSpec, column_schemas: ColumnSchemas | None) -> None:
        self._daemon = daemon
        self._run = run
        self._spec = spec
        self._column_schemas = column_schemas or {}
        self._foreign = _new_metrics.foreign_table(daemon, spec.foreign_table_url)
        self._lock = threading.RLock()
        self._rows: list[Mapping[str, Any]] = []
        self._numbered_rows = 0
        self._table: MetricTableInfo | None = None
        self._stream: WriteStream | None = None
        self._closed = False
        self._kept_schema: pa.Schema | None = None

    def add_batch(self, columns: Any) -> None:
        """Adds rows, given as columns by name, an Arrow table or batch, or a data frame.

        Raises:
            InvalidColumnError: A column can't be stored (a ValueError).
            ExampleIdOutOfRangeError: An ``example_id`` is not a row of the foreign table (a ValueError).
            RowCountMismatchError: There are more rows than the foreign table has (a ValueError).
        """
        with self._lock:
            self._check_open()
            self._send_rows()
            self._send(columns)

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Adds one row; a key that is missing is null. Rows are sent in batches, see ``flush``."""
        with self._lock:
            self._check_open()
            self._rows.append(dict(row))
            if len(self._rows) >= ROWS_PER_BATCH:
                self._send_rows()

    def flush(self, timeout: float | None = None) -> None:
        """Returns when everything that was added is durable and visible to every reader.

        Args:
            timeout: Seconds to wait; None: no bound.

        Raises:
            WaitTimeoutError: It took longer; nothing is lost (a TimeoutError).
        """
        with self._lock:
            if self._closed:
                return
            self._send_rows()
            stream = self._stream
        if stream is not None:
            stream.wait(timeout=timeout)

    def close(self) -> MetricTableInfo:
        """Flushes and gives the table, which is sealed unless it was named: others may go on with it then.

        Raises:
            RowCountMismatchError: There is a foreign table, rows were numbered, and they are not as many as
                the foreign table's (a ValueError).
        """
        with self._lock:
            if self._closed and self._table is not None:
                return self._table
            self._check_open()
            self._send_rows()
            if self._numbered_rows and self._foreign and self._numbered_rows != self._foreign.row_count:
                self._close_stream(seal=False)
                raise _count_fault(self._numbered_rows, self._foreign)
            return self._close_stream(seal=not self._spec.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._closed:
            return
        if error is None:
            self.close()
            return
        # The rows are kept, but the table is not complete; the error that is on its way matters more.
        try:
            with self._lock:
                self._send_rows()
                self._close_stream(seal=False)
        except RundError:
            self.abort()

    def abort(self) -> None:
        """Ends the stream without waiting. What was not flushed may be lost."""
        with self._lock:
            self._closed = True
            self._rows.clear()
            if self._stream is not None:
                self._stream.abort()

    def _send_rows(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            names = dict.fromkeys(name for row in rows for name in row)
            self._send({name: [row.get(name) for row in rows] for name in names})

    def _send(self, given: Any) -> None:
        if self._stream is not None and self._is_sent_as_it_is(given):
            self._stream.write(given)
            return
        columns = columns_from(given, self._column_schemas, partial=True)
        if self._foreign is not None:
            columns = self._with_example_ids(columns, self._foreign)
        batches = list(split(columns.table, self._daemon.info.limits))
        stream = self._stream or self._open(columns)
        for batch in batches:
            stream.write(batch)
        if self._foreign is None and isinstance(given, pa.RecordBatch) and _keeps(given.schema, columns.table.schema):
            self._kept_schema = given.schema

    def _is_sent_as_it_is(self, given: Any) -> bool:
        """Whether these are rows of which all is known: an Arrow batch like one before that nothing was done to."""
        return (
            self._kept_schema is not None
            and isinstance(given, pa.RecordBatch)
            and 0 < given.nbytes <= TARGET_BATCH_BYTES
            and given.schema.equals(self._kept_schema, check_metadata=True)
        )

    def _with_example_ids(self, columns: Columns, foreign: TableInfo) -> Columns:
        if EXAMPLE_ID in columns.table.column_names:
            check_example_ids(columns.table.column(EXAMPLE_ID), foreign.row_count)
            return columns
        end = self._numbered_rows + columns.table.num_rows
        if end > foreign.row_count:
            raise _count_fault(end, foreign)
        columns, self._numbered_rows = numbered(columns, self._numbered_rows), end
        return columns

    def _open(self, columns: Columns | None) -> WriteStream:
        try:
            self._table = _new_metrics.create(self._daemon, self._run, self._spec, columns)
        except MetricsTableExistsError:
            # Another process that writes to the same table was first.
            name = f"{self._run}/metrics/{self._spec.name}"
            self._table = metrics_calls.get_metrics_table(self._daemon.transport, name)
        schema = columns.table.schema if columns is not None else pa.schema([])
        self._stream = WriteStream(self._daemon.transport, self._table.resource_name, schema=schema, staging=True)
        return self._stream

    def _close_stream(self, *, seal: bool) -> MetricTableInfo:
        stream = self._stream or self._open(None)
        self._closed = True
        self._table = metrics_table_from_pb(stream.close(seal=seal))
        return self._table

    def _check_open(self) -> None:
        if self._closed:
            raise WrongStateError("this metrics writer is closed; open another")


def _keeps(given: pa.Schema, sent: pa.Schema) -> bool:
    """Whether batches of a schema are sent as they are, whatever their values: those of lists decide on the type."""
    return sent.equals(given, check_metadata=True) and all(map(_is_of_one_width, given.types))


def _is_of_one_width(kind: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(kind):
        return pa.types.is_primitive(kind.value_type)
    return pa.types.is_primitive(kind) or pa.types.is_string(kind)


def _count_fault(rows: int, foreign: TableInfo) -> RowCountMismatchError:
    return RowCountMismatchError(
        f"{rows} rows were added, but the input table has {foreign.row_count}; add as many, or a column "
        f"{EXAMPLE_ID!r} with the row of the input table that each is about"
    )
