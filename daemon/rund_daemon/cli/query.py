"""`rund query`: SQL over runs."""

from __future__ import annotations

import click
from rund._query import relations_of_runs
from rund._sql_engine import MAX_MEMORY_BYTES, TIMEOUT_S, run_sql

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Report
from .row_output import row_output

_MIB = 1024 * 1024


@click.command()
@click.argument("sql")
@click.option("--project", default="", metavar="PROJECT", help="Runs of which project; all when not given.")
@click.option("--filter", "filter_text", default="", metavar="FILTER", help="Which runs, as for `rund ls`.")
@click.option(
    "--timeout", default=TIMEOUT_S, show_default=True, metavar="SECONDS", type=click.FloatRange(min=0, min_open=True)
)
@click.option(
    "--memory",
    default=MAX_MEMORY_BYTES // _MIB,
    show_default=True,
    metavar="MIB",
    type=click.IntRange(min=16),
    help="What the rows that are read, the work and the result may take, each.",
)
@takes_target
@takes_report
def query(
    *, sql: str, project: str, filter_text: str, timeout: float, memory: int, target: Target, report: Report
) -> None:
    """Carry out SQL over runs.

    SQL is one SELECT, as DuckDB takes it. Relations are runs, parameters, labels, inputs, outputs, tables and
    input_tables; a metrics table of all runs together, with the columns project_name and run_name, by its name, such as
    history; that of one run as "PROJECT/RUN".history; and an input table as "PROJECT/DATASET/TABLE". It sees nothing
    else, and needs DuckDB: pip install 'rund[query]'. With --json each row is one line.
    """
    relations = relations_of_runs(connect(target), project, filter_text)
    rows = run_sql(sql, relations, timeout=timeout, max_memory_bytes=memory * _MIB)
    output = row_output(report)
    for batch in rows.to_batches():
        output.write(batch)
