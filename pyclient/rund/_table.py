"""Tables: rows that a run refers to, and rows that a run recorded. Both are read in one way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict, Unpack, overload

import pyarrow as pa

from . import _frames, _join
from ._batches import split
from ._column_schemas import ColumnSchemas, schema_from
from ._columns import columns_from
from ._errors import WrongStateError
from ._root import DEFAULT_PROJECT, PathLike, checked_name
from ._rows import InputRows, RowSource, find_or_register, source_at, table_url
from ._session import daemon_for, daemon_of_url
from ._transport import RowRequest, table_calls
from ._types import ColumnSchema, IfExists, MetricTableInfo, TableInfo, Value


class TableOptions(TypedDict, total=False):
    """What the methods that make an input table take by keyword.

    Attributes:
        project_name: Where it goes; ``default`` when not given.
        description: For people.
        column_schemas: What columns mean.
        if_exists: ``raise`` (the default) or ``rename``, which makes a new revision. Writing the same rows
            under the same name again gives the table that is there.
        root_url: The root to write to; that of the active run when not given.
        address: Where the daemon listens.
    """

    project_name: str
    description: str
    column_schemas: ColumnSchemas
    if_exists: IfExists
    root_url: PathLike
    address: str


class Table:
    """An input table or a metrics table. Opening one reads no rows.

    Not made directly: use ``Table.from_url``, ``Table.from_arrow`` and their like, or ``Run.metrics_tables``.
    """

    def __init__(self, source: RowSource) -> None:
        self._source = source

    @classmethod
    def from_url(cls, url: PathLike, *, address: str | None = None) -> Table:
        """Opens a table by its URL: an input table, a metrics table, or a file that was registered.

        Raises:
            TableNotFoundError: There is no such table (a FileNotFoundError).
            InvalidUrlError: The URL can't be a table's (a ValueError).
        """
        text = os.fspath(url)
        return cls(source_at(daemon_of_url(text, address), text))

    @classmethod
    def from_names(
        cls,
        table_name: str,
        dataset_name: str,
        project_name: str | None = None,
        *,
        root_url: PathLike | None = None,
        address: str | None = None,
    ) -> Table:
        """Opens an input table by its names.

        Raises:
            TableNotFoundError: There is no such table (a FileNotFoundError).
        """
        daemon = daemon_for(root_url, address)
        parent = _dataset(project_name or DEFAULT_PROJECT, dataset_name)
        name = f"{parent}/tables/{checked_name(table_name, 'table_name')}"
        return cls(InputRows(daemon, table_calls.get_table(daemon.transport, name=name)))

    @classmethod
    def from_arrow(
        cls,
        data: Any,
        table_name: str = "table",
        dataset_name: str = "default",
        **options: Unpack[TableOptions],
    ) -> Table:
        """Writes an immutable input table from an Arrow table or batch.

        Args:
            data: The rows.
            table_name: The table's own name.
            dataset_name: The data set it belongs to.
            **options: See ``TableOptions``.

        Raises:
            TableExistsError: The name is taken by a table with other rows (a FileExistsError).
            InvalidColumnError: A column can't be stored (a ValueError).
        """
        return cls._write(data, table_name, dataset_name, options)

    @classmethod
    def from_pandas(
        cls,
        data: Any,
        table_name: str = "table",
        dataset_name: str = "default",
        **options: Unpack[TableOptions],
    ) -> Table:
        """As ``from_arrow``, from a pandas data frame. Its index is not written."""
        return cls._write(data, table_name, dataset_name, options)

    @classmethod
    def from_polars(
        cls,
        data: Any,
        table_name: str = "table",
        dataset_name: str = "default",
        **options: Unpack[TableOptions],
    ) -> Table:
        """As ``from_arrow``, from a Polars data frame."""
        return cls._write(data, table_name, dataset_name, options)

    @classmethod
    def from_dict(
        cls,
        data: Mapping[str, Any],
        table_name: str = "table",
        dataset_name: str = "default",
        **options: Unpack[TableOptions],
    ) -> Table:
        """As ``from_arrow``, from columns by name: lists, NumPy, Arrow, pandas, Polars, torch."""
        return cls._write(data, table_name, dataset_name, options)

    @classmethod
    def register(
        cls,
        url: PathLike,
        table_name: str = "",
        dataset_name: str = "",
        **options: Unpack[TableOptions],
    ) -> Table:
        """Registers a Parquet, Arrow or CSV file, or a folder of such, to be read where it lies.

        It may lie in an object store that the daemon has credentials for: ``s3://bucket/rows.parquet``. The same URL
        again gives the table that is there, with a new record if the file has changed since.

        Raises:
            TableNotFoundError: There is no file at the URL (a FileNotFoundError).
            InvalidUrlError: The URL is not supported (a ValueError).
            PermissionDeniedError: The daemon's configuration does not allow the URL (a PermissionError).
        """
        if dataset_name:
            _dataset(options.get("project_name", DEFAULT_PROJECT), dataset_name)
        daemon = daemon_for(options.get("root_url"), options.get("address"))
        schemas = options.get("column_schemas") or {}
        new = TableInfo(
            url=table_url(os.fspath(url)),
            name=table_name,
            dataset_name=dataset_name,
            project_name=options.get("project_name", DEFAULT_PROJECT),
            description=options.get("description", ""),
            columns=tuple(schema_from(name, schema) for name, schema in schemas.items()),
        )
        return cls(InputRows(daemon, table_calls.register_table(daemon.transport, new)))

    @classmethod
    def _write(cls, data: Any, table_name: str, dataset_name: str, options: TableOptions) -> Table:
        columns = columns_from(data, options.get("column_schemas"))
        new = TableInfo(
            url="",
            name=table_name,
            dataset_name=dataset_name,
            project_name=options.get("project_name", DEFAULT_PROJECT),
            description=options.get("description", ""),
            columns=columns.schemas,
        )
        _dataset(new.project_name, dataset_name)
        daemon = daemon_for(options.get("root_url"), options.get("address"))
        batches = list(split(columns.table, daemon.info.limits))
        if_exists = options.get("if_exists", "raise")
        written = table_calls.write_table(daemon.transport, new, batches, if_exists=if_exists)
        return cls(InputRows(daemon, written))

    @property
    def info(self) -> TableInfo | MetricTableInfo:
        """The table's record as it is now."""
        return self._source.record()

    @property
    def url(self) -> str:
        """The table's absolute URL."""
        return self._source.url

    @property
    def name(self) -> str:
        """The table's own name."""
        return self.info.name

    @property
    def row_count(self) -> int:
        """Committed rows, without reading them."""
        return self.info.row_count

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without reading rows; it has no fields while nothing was written."""
        info = self.info
        if isinstance(info, MetricTableInfo) and info.constants:
            # They are no columns of what was written; the daemon knows what it reads them as.
            return _frames.table_of(self._source.read(RowRequest(row_limit=0))).schema
        return pa.ipc.read_schema(pa.py_buffer(info.arrow_schema)) if info.arrow_schema else pa.schema([])

    @property
    def columns(self) -> tuple[ColumnSchema, ...]:
        """What the columns mean, in order."""
        return self.info.columns

    @property
    def created(self) -> datetime | None:
        """When it was written or registered."""
        return self.info.created

    @property
    def foreign_table_url(self) -> str:
        """URL of the input table that a metrics table refers to; empty when it refers to none."""
        info = self.info
        return info.foreign_table_url if isinstance(info, MetricTableInfo) else ""

    @property
    def stream_name(self) -> str:
        """What the rows of a metrics table are a stream of; empty for an input table."""
        info = self.info
        return info.stream_name if isinstance(info, MetricTableInfo) else ""

    @property
    def constants(self) -> Mapping[str, Value]:
        """Values that are the same for every row of a metrics table; they are columns too."""
        info = self.info
        return info.constants if isinstance(info, MetricTableInfo) else {}

    def scan(
        self,
        columns: Sequence[str] | None = None,
        filter: str = "",  # noqa: A002 - the name that the API gives it
        *,
        start_row: int = 0,
        row_limit: int | None = None,
        follow: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Reads rows batch by batch, in the order in which they were committed.

        Args:
            columns: Names in the order in which they are wanted; None: all; empty: none, only row counts.
            filter: Comparisons over columns, such as ``step >= 100 AND loss < 0.5``; empty: all rows.
            start_row: The first row, from 0, before filtering.
            row_limit: How many rows from there, before filtering; None: all.
            follow: Whether to go on with rows that are committed later, until the run has ended or the table is
                sealed.

        Raises:
            InvalidColumnError: There is no such column (a ValueError).
            InvalidFilterError: The filter can't be parsed (a ValueError).
        """
        wanted = None if columns is None else tuple(columns)
        rows = RowRequest(wanted, filter, start_row=start_row, row_limit=row_limit, follow=follow)
        return (batch for batch in self._source.read(rows) if batch.num_rows)

    def to_arrow(self, columns: Sequence[str] | None = None, filter: str = "") -> pa.Table:  # noqa: A002
        """All rows as an Arrow table; the arguments are those of ``scan``."""
        wanted = None if columns is None else tuple(columns)
        return _frames.table_of(self._source.read(RowRequest(wanted, filter)))

    def to_pandas(self, columns: Sequence[str] | None = None, filter: str = "") -> Any:  # noqa: A002
        """All rows as a pandas data frame; the arguments are those of ``scan``.

        Raises:
            MissingPackageError: pandas is not installed (an ImportError).
        """
        return _frames.to_pandas(self.to_arrow(columns, filter))

    def to_polars(self, columns: Sequence[str] | None = None, filter: str = "") -> Any:  # noqa: A002
        """All rows as a Polars data frame; the arguments are those of ``scan``.

        Raises:
            MissingPackageError: Polars is not installed (an ImportError).
        """
        return _frames.to_polars(self.to_arrow(columns, filter))

    def to_duckdb(
        self,
        connection: Any = None,
        columns: Sequence[str] | None = None,
        filter: str = "",  # noqa: A002 - the name that the API gives it
    ) -> Any:
        """All rows as a DuckDB relation, on the connection given or on DuckDB's default one.

        The other arguments are those of ``scan``.

        Raises:
            MissingPackageError: DuckDB is not installed (an ImportError).
        """
        return _frames.to_duckdb(self.to_arrow(columns, filter), connection)

    def head(self, row_count: int = 5) -> pa.Table:
        """The first rows."""
        return _frames.table_of(self._source.read(RowRequest(row_limit=row_count)))

    def join(
        self,
        columns: Sequence[str] | None = None,
        input_columns: Sequence[str] | None = None,
        *,
        suffix: str = "_input",
    ) -> pa.Table:
        """The rows of a metrics table, each beside the row of the input table that it is about.

        Args:
            columns: Columns of the metrics table; None: all.
            input_columns: Columns of the input table; None: all.
            suffix: Added to the name of an input column that the metrics table has too.

        Raises:
            WrongStateError: The table refers to no input table (a RuntimeError).
        """
        source, url = self._source, self.foreign_table_url
        if not url or isinstance(source, InputRows):
            raise WrongStateError(f"{self.url} refers to no input table, so there is nothing to join with")
        daemon = daemon_of_url(self.url, None)
        foreign = Table(InputRows(daemon, find_or_register(daemon, url)))
        return _join.join_rows(self, foreign, columns, input_columns, suffix)

    def __len__(self) -> int:
        return self.row_count

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.scan():
            yield from batch.to_pylist()

    @overload
    def __getitem__(self, key: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> pa.Table: ...
    @overload
    def __getitem__(self, key: str) -> pa.ChunkedArray[Any]: ...
    def __getitem__(self, key: int | slice | str) -> Any:
        """A row as a dict, some rows as an Arrow table, or a column by name."""
        if isinstance(key, str):
            return self.to_arrow([key]).column(key)
        wanted = range(len(self))[key]
        if isinstance(wanted, range):
            return self._rows_at(wanted)
        return self._rows_at(range(wanted, wanted + 1)).to_pylist()[0]

    def _rows_at(self, wanted: range) -> pa.Table:
        first, last = (min(wanted), max(wanted)) if wanted else (0, -1)
        request = RowRequest(start_row=first, row_limit=last - first + 1)
        table = _frames.table_of(self._source.read(request))
        return table if wanted.step == 1 else table.take([row - first for row in wanted])

    def __repr__(self) -> str:
        return f"Table({self.url!r})"


def _dataset(project_name: str, dataset_name: str) -> str:
    project = checked_name(project_name, "project_name")
    return f"projects/{project}/datasets/{checked_name(dataset_name, 'dataset_name')}"
