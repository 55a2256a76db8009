"""`rund ls` and `rund show`: what runs there are, and what is in one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice

import click
from rund._transport import Transport, run_calls
from rund._types import Cause, CauseKind, MetricTableInfo, RunInfo

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .run_names import RunName, parse_run
from .wording import bytes_text, count_text, local_time_text

_DESCRIPTION_LENGTH = 60


@click.command()
@click.argument("project", required=False)
@click.option(
    "--filter", "filter_text", default="", metavar="FILTER", help="Such as: status = FAILED AND run_name = vit-*"
)
@click.option("--order-by", default="", metavar="FIELDS", help="Such as: update_time desc, run_name")
@click.option(
    "--limit", default=50, show_default=True, metavar="N", type=click.IntRange(min=0), help="How many; 0: all."
)
@click.option("--deleted", is_flag=True, help="List runs in trash too.")
@takes_target
@takes_report
def ls(
    *, project: str | None, filter_text: str, order_by: str, limit: int, deleted: bool, target: Target, report: Report
) -> None:
    """List runs, newest first.

    Without PROJECT, those of all projects. A filter compares name, project_name, run_name, uid, description, status,
    create_time, update_time, end_time, labels.KEY, parameters.KEY and outputs.KEY, the last output with that key.
    Comparisons are joined by AND, OR, NOT and parentheses; * stands for anything at the ends of a text. The order takes
    the same fields.
    """
    daemon = connect(target)
    largest = daemon.info.limits.max_page_size
    page_size = min(limit + 1, largest) if limit else largest
    query = run_calls.RunQuery(project or "", filter_text, order_by, deleted, page_size)
    found = run_calls.list_runs(daemon.transport, query)
    # One more than is shown: it says whether there are more.
    runs = list(islice(found, limit + 1)) if limit else list(report.track(found, "reading runs", daemon.info.run_count))
    more = bool(limit) and len(runs) > limit
    shown = runs[:limit] if limit else runs
    if report.as_json:
        report.document({"runs": shown, "more": more})
        return
    report.table(_headings(deleted), [_row(run, deleted) for run in shown])
    if more:
        report.hint(f"there are more than these {limit}; --limit says how many to list, --limit 0 lists all")
    elif not shown:
        report.hint("no runs")


@click.command()
@click.argument("run")
@click.option("--deleted", is_flag=True, help="Find the run in trash too.")
@takes_target
@takes_report
def show(*, run: str, deleted: bool, target: Target, report: Report) -> None:
    """Show a run: its status, its values and its tables.

    RUN is PROJECT/RUN, a resource name, a URL or a uid.
    """
    name = parse_run(run)
    info = find_run(connect(name.daemon(target)).transport, name, deleted=deleted)
    if report.as_json:
        report.document(info)
        return
    report.facts(_facts(info))
    _show_values(report, "Parameters", info.parameters.items())
    _show_values(report, "Labels", sorted(info.labels.items()))
    if info.metrics:
        report.heading("Metrics tables")
        report.table(("TABLE", "ROWS", "SIZE", "COLUMNS", "LAST COMMIT", "INPUT TABLE"), map(_table_row, info.metrics))


def find_run(transport: Transport, name: RunName, *, deleted: bool = False) -> RunInfo:
    """Asks for a run as it was named."""
    return run_calls.get_run(transport, name=name.name, url=name.url, uid=name.uid, deleted=deleted)


def path_of(run: RunInfo) -> str:
    """`project/run`, as every command takes it."""
    return f"{run.project_name}/{run.name}"


def _headings(deleted: bool) -> Sequence[str]:
    return ("RUN", "STATUS", "CREATED", "MODIFIED", "DESCRIPTION", *(("DELETED",) if deleted else ()))


def _row(run: RunInfo, deleted: bool) -> Sequence[Cell]:
    cells = (path_of(run), run.status.name, _time(run.created), _time(run.last_modified), _short(run.description))
    return (*cells, _time(run.deleted)) if deleted else cells


def _short(text: str) -> Cell:
    line = text.partition("\n")[0]
    return Shown(text, line if len(line) <= _DESCRIPTION_LENGTH else line[: _DESCRIPTION_LENGTH - 1] + "…")


def _facts(run: RunInfo) -> Iterator[tuple[str, Cell]]:
    yield "run", path_of(run)
    yield "status", run.status.name
    if run.cause is not None:
        yield "cause", _cause_text(run.cause)
    if run.deleted is not None:
        yield "deleted", _time(run.deleted)
        yield "kept until", _time(run.expires)
    if run.description:
        yield "description", run.description
    yield "url", run.url
    yield "uid", run.uid
    yield "created", _time(run.created)
    yield "modified", _time(run.last_modified)
    at_work = sum(writer.finish_time is None for writer in run.writers)
    yield "writers", Shown(len(run.writers), f"{len(run.writers)}, of which {at_work} at work")
    if dropped := sum(writer.dropped_rows for writer in run.writers):
        yield "dropped rows", Shown(dropped, f"{dropped:,}: a journal was full, and they are missing")
    yield "inputs", Shown(len(run.inputs), count_text(len(run.inputs), "value"))
    yield "outputs", Shown(len(run.outputs), count_text(len(run.outputs), "value"))
    for url in run.input_table_urls:
        yield "input table", url


def _show_values(report: Report, heading: str, values: Iterable[tuple[str, Cell]]) -> None:
    pairs = list(values)
    if pairs:
        report.heading(heading)
        report.facts(pairs)


def _table_row(table: MetricTableInfo) -> Sequence[Cell]:
    return (
        table.name or table.url,
        Shown(table.row_count, f"{table.row_count:,}"),
        Shown(table.file_size, bytes_text(table.file_size)),
        len(table.columns),
        _time(table.last_commit),
        table.foreign_table_display_name or table.foreign_table_url,
    )


def _cause_text(cause: Cause) -> str:
    match cause.kind:
        case CauseKind.EXIT_CODE:
            what = f"exit code {cause.exit_code}"
        case CauseKind.SIGNAL:
            what = f"signal {cause.signal}"
        case _:
            what = cause.kind.value.replace("_", " ")
    return f"{what}: {cause.message}" if cause.message else what


def _time(time: datetime | None) -> Cell:
    return Shown(time, local_time_text(time))
