"""`rund tail`: the last rows of a table, and those that come."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pyarrow as pa
from rund import _watch
from rund._errors import MetricsTableNotFoundError, RunNotFoundError
from rund._transport import RowRequest, Transport, metrics_calls
from rund._types import MetricTableInfo, RunEventType, RunInfo

from .connection import connect
from .exit_codes import ExitCode, Failure
from .options import Target, takes_report, takes_target
from .report import Report
from .row_output import row_output
from .run_names import parse_table
from .runs import find_run, path_of

HISTORY = "history"


@click.command()
@click.argument("table", metavar="RUN[/TABLE]")
@click.option(
    "-n",
    "--rows",
    "count",
    metavar="N",
    default=10,
    show_default=True,
    type=click.IntRange(min=0),
    help="How many rows to begin with.",
)
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Go on with rows as they are committed, until the run has ended, the table is sealed, or Ctrl-C.",
)
@click.option("--columns", default="", metavar="NAMES", help="Which columns, with commas; all when not given.")
@takes_target
@takes_report
def tail(*, table: str, count: int, follow: bool, columns: str, target: Target, report: Report) -> None:
    """Print the last rows of a run's table, and follow it.

    RUN is PROJECT/RUN, a resource name, a URL or a uid; the table is `history`, where what a training logs goes,
    unless another one is named. With --json each row is one line. Elsewhere than in a terminal columns are separated
    by tabs, and when the columns change an empty line and a new heading follow. With --follow it waits for a table
    that is not there yet.
    """
    name = parse_table(table)
    transport = connect(name.daemon(target)).transport
    run = find_run(transport, name)
    info, is_new = _table(transport, run, name.table or HISTORY, report, wait=follow)
    wanted = tuple(part.strip() for part in columns.split(",")) if columns else None
    # Of a table that was waited for all rows are new, those that came before it was seen, too.
    start_row = 0 if is_new else max(0, info.row_count - count)
    rows = RowRequest(wanted, start_row=start_row, follow=follow)
    if not follow:
        rows = RowRequest(wanted, start_row=start_row, row_limit=info.row_count - start_row)
    _print(metrics_calls.read_metrics(transport, info, rows), report)


def _print(batches: Iterator[pa.RecordBatch], report: Report) -> None:
    output = row_output(report)
    for batch in batches:
        output.write(batch)
        # Whoever follows wants each row when it comes, through a pipe too.
        report.out.file.flush()


def _table(
    transport: Transport, run: RunInfo, table: str, report: Report, *, wait: bool
) -> tuple[MetricTableInfo, bool]:
    """Asks for a table of a run; `wait`: as soon as the run has it. Says besides whether it had to be waited for."""
    try:
        return metrics_calls.get_metrics_table(transport, f"{run.resource_name}/metrics/{table}"), False
    except MetricsTableNotFoundError:
        if wait:
            report.hint(f"{path_of(run)} has no table {table!r} yet; waiting for it")
            return _table_when_made(transport, run, table), True
    tables = [table.info().name for table in metrics_calls.list_metrics_tables(transport, run.resource_name)]
    there = f"its tables are {', '.join(tables)}" if tables else "nothing was recorded yet; --follow waits"
    raise Failure(f"{path_of(run)} has no table {table!r}: {there}", ExitCode.NOT_FOUND)


def _table_when_made(transport: Transport, run: RunInfo, table: str) -> MetricTableInfo:
    for event in _watch.watch(transport, run.resource_name):
        if event.type is RunEventType.DELETED:
            break
        try:
            return metrics_calls.get_metrics_table(transport, f"{run.resource_name}/metrics/{table}")
        except MetricsTableNotFoundError:
            continue
    raise RunNotFoundError(f"{path_of(run)} went to trash before it had a table {table!r}")
