"""A new metrics table: what is asked for, checked as far as that can be done before anything is created."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from ._batches import split
from ._columns import Columns, with_example_ids
from ._errors import InvalidColumnError, InvalidUrlError
from ._locate import Daemon
from ._root import PathLike
from ._rows import find_or_register, table_url
from ._transport import WriteStream, metrics_calls, metrics_table_from_pb
from ._types import MetricTableInfo, TableInfo


@dataclass(frozen=True, slots=True)
class TableSpec:
    """What a metrics table is to be.

    Attributes:
        foreign_table_url: URL of the input table that the rows refer to, or empty.
        foreign_table_display_name: How to head it.
        constants: Values that are the same for every row.
        stream_name: What the rows are a stream of; empty: ``default_stream``.
        name: The table's own name; empty: one is made.
        base_name: Begin of a name that is made; empty: ``metrics``.
    """

    foreign_table_url: str = ""
    foreign_table_display_name: str = ""
    constants: Mapping[str, object] | None = None
    stream_name: str = ""
    name: str = ""
    base_name: str = ""


def foreign_table(daemon: Daemon, url: str) -> TableInfo | None:
    """The input table that rows refer to; None when they refer to none.

    Raises:
        TableNotFoundError: There is no table at the URL.
        InvalidUrlError: The URL can't be a table's.
    """
    return find_or_register(daemon, table_url(url)) if url else None


def create(daemon: Daemon, run: str, spec: TableSpec, columns: Columns | None) -> MetricTableInfo:
    """Creates the table, without rows.

    Raises:
        InvalidColumnError: A constant bears the name of a column.
        MetricsTableExistsError: The name is taken.
    """
    names = columns.table.column_names if columns is not None else []
    if taken := [name for name in spec.constants or () if name in names]:
        raise InvalidColumnError(f"{taken[0]!r} is both a column and a constant; rename one")
    info = MetricTableInfo(
        url="",
        name=spec.name,
        stream_name=spec.stream_name,
        foreign_table_url=table_url(spec.foreign_table_url) if spec.foreign_table_url else "",
        foreign_table_display_name=spec.foreign_table_display_name,
        columns=columns.schemas if columns is not None else (),
        arrow_schema=columns.table.schema.serialize().to_pybytes() if columns is not None else b"",
    )
    return metrics_calls.create_metrics_table(
        daemon.transport, run, info, constants=spec.constants, base_name=spec.base_name
    )


def write_all(daemon: Daemon, run: str, spec: TableSpec, columns: Columns) -> MetricTableInfo:
    """Writes one complete metrics table; returns when it is durable.

    Raises:
        RundError: Something in it is wrong; if it could be seen beforehand, nothing was created.
    """
    foreign = foreign_table(daemon, spec.foreign_table_url)
    if foreign is not None:
        columns = with_example_ids(columns, foreign.row_count)
    # Before the table is there: a row that is too large must not leave an empty table behind.
    batches = list(split(columns.table, daemon.info.limits))
    created = create(daemon, run, spec, columns)
    stream = WriteStream(daemon.transport, created.resource_name, schema=columns.table.schema, staging=True)
    try:
        for batch in batches:
            stream.write(batch)
        return metrics_table_from_pb(stream.close(seal=True))
    except BaseException:
        stream.abort()
        raise


def url_text(table: object) -> str:
    """The URL of a table that is given as a Table, a URL, a path, or not at all.

    Raises:
        InvalidUrlError: It is none of these.
    """
    if table is None:
        return ""
    url = getattr(table, "url", table)
    if not isinstance(url, str | os.PathLike):
        raise InvalidUrlError(f"a table is given as {type(table).__name__}; give a Table, a URL or a path")
    path: PathLike = url
    return os.fspath(path)
