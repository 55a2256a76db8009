"""The methods of ``Run`` that record tables of metrics. They are bound in the body of the class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import _new_metrics
from ._column_schemas import ColumnSchemas
from ._columns import columns_from
from ._metrics_writer import MetricsWriter
from ._new_metrics import TableSpec, url_text
from ._root import PathLike, checked_name
from ._table import Table
from ._transport import metrics_calls, run_calls
from ._types import MetricTableInfo

if TYPE_CHECKING:  # Run binds these functions, so it imports this module
    from ._run import Run


def update_metrics(run: Run, metric_infos: Sequence[MetricTableInfo] = []) -> None:
    """Registers metrics tables by URL. One that is there is not added again; its stream name is updated.

    Raises:
        MetricsTableNotFoundError: There is no table at a URL (a FileNotFoundError).
    """
    tables = [(info.url, info.stream_name) for info in metric_infos]
    run_calls.update_metrics(run.daemon.transport, run.resource_name, tables)


def add_metrics_table(run: Run, metrics_table: Table | PathLike) -> None:
    """Registers an existing metrics table; one outside the run is kept as a reference.

    Raises:
        MetricsTableNotFoundError: There is no such table (a FileNotFoundError).
    """
    url = url_text(metrics_table)
    run_calls.add_metrics_table(run.daemon.transport, run.resource_name, url)


def add_metrics(
    run: Run,
    metrics: Any,
    column_schemas: ColumnSchemas | None = None,
    foreign_table_url: Table | PathLike | None = None,
    foreign_table_display_name: str = "",
    *,
    constants: Mapping[str, object] | None = None,
    stream_name: str = "",
    name: str | None = None,
) -> list[MetricTableInfo]:
    """Writes one new metrics table and registers it. When it returns, every row is durable.

    With a foreign table, ``example_id`` (0 to n-1) and ``input_table_id`` are added where they are absent. A
    2-D float array becomes a column of float32 vectors with role EMBEDDING.

    Args:
        run: The run.
        metrics: Columns by name (lists, NumPy, Arrow, pandas, Polars, torch), an Arrow table, or a data
            frame.
        column_schemas: What columns mean.
        foreign_table_url: The input table that the rows refer to.
        foreign_table_display_name: How to head it.
        constants: Values that are the same for every row; readers see them as columns.
        stream_name: What the rows are a stream of; ``default_stream`` when not given.
        name: The table's own name, free in the run; generated when not given.

    Raises:
        RowCountMismatchError: There is no ``example_id``, and the rows are not as many as the foreign
            table's.
        ExampleIdOutOfRangeError: An ``example_id`` is not a row of the foreign table.
        ColumnLengthMismatchError: Columns differ in length. These three are ValueErrors.
        TableNotFoundError: There is no such foreign table (a FileNotFoundError).
        MetricsTableExistsError: The name is taken (a FileExistsError).
    """
    spec = TableSpec(
        foreign_table_url=url_text(foreign_table_url),
        foreign_table_display_name=foreign_table_display_name,
        constants=constants,
        stream_name=stream_name,
        name=name or "",
    )
    columns = columns_from(metrics, column_schemas)
    return [_new_metrics.write_all(run.daemon, run.resource_name, spec, columns)]


def add_metrics_data(
    run: Run,
    metrics: Any,
    override_column_schemas: ColumnSchemas = {},  # noqa: B006 - the API's default; never changed
    input_table_url: Table | PathLike | None = None,
    table_writer_base_name: str = "metrics",
    stream_name: str = "",
) -> list[MetricTableInfo]:
    """The older form of ``add_metrics``; the table's name begins with ``table_writer_base_name``."""
    spec = TableSpec(
        foreign_table_url=url_text(input_table_url), stream_name=stream_name, base_name=table_writer_base_name
    )
    columns = columns_from(metrics, override_column_schemas)
    return [_new_metrics.write_all(run.daemon, run.resource_name, spec, columns)]


def metrics_writer(
    run: Run,
    name: str | None = None,
    *,
    column_schemas: ColumnSchemas | None = None,
    foreign_table_url: Table | PathLike | None = None,
    foreign_table_display_name: str = "",
    constants: Mapping[str, object] | None = None,
    stream_name: str = "",
) -> MetricsWriter:
    """A writer for one metrics table, batch by batch. What it flushed can be read before it is closed.

    Args:
        run: The run.
        name: The table's own name. Several processes that give the same one write to one table, which is not
            sealed when they close it. Without a name the table is this writer's alone.
        column_schemas: What columns mean.
        foreign_table_url: The input table that the rows refer to.
        foreign_table_display_name: How to head it.
        constants: Values that are the same for every row.
        stream_name: What the rows are a stream of.

    Raises:
        TableNotFoundError: There is no such foreign table (a FileNotFoundError).
    """
    spec = TableSpec(
        foreign_table_url=url_text(foreign_table_url),
        foreign_table_display_name=foreign_table_display_name,
        constants=constants,
        stream_name=stream_name,
        name=name or "",
    )
    writer = MetricsWriter(run.daemon, run.resource_name, spec, column_schemas)
    run.writer.opened(writer)
    return writer


def undelete_metrics_table(run: Run, name: str) -> MetricTableInfo:
    """Takes a metrics table out of trash, where a reduction has put it. It becomes the last one of the run.

    Args:
        run: The run.
        name: The table's own name, or its URL as it was in ``metrics``.

    Raises:
        MetricsTableNotFoundError: There is none of this name in trash (a FileNotFoundError).
        MetricsTableExistsError: Another table has the name now (a FileExistsError).
    """
    own = checked_name(name.removeprefix("metrics/"), "name")
    return metrics_calls.undelete_metrics_table(run.daemon.transport, f"{run.resource_name}/metrics/{own}")
