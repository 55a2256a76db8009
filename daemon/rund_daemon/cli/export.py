"""`rund export`: runs as files that other programs read."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from rund_daemon.exchange.exporter import Exported, Format, export_run
from rund_daemon.exchange.foreign import SourceError

from .connection import connect
from .exit_codes import Failure
from .json_form import json_document
from .options import Target, takes_report, takes_target
from .report import Report
from .run_names import parse_run
from .runs import find_run, path_of
from .wording import count_text

_MODULES: Mapping[str, str] = {
    "parquet": "parquet_files",
    "csv": "csv_files",
    "tensorboard": "tensorboard_files",
}


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--format",
    "form",
    default="parquet",
    show_default=True,
    metavar="FORMAT",
    type=click.Choice(tuple(_MODULES)),
    help="parquet, csv or tensorboard.",
)
@click.option(
    "--to",
    "folder",
    default="rund-export",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to export to; made when it is not there.",
)
@click.option(
    "--force", is_flag=True, help="Replace what bears the name of a run's folder and is no export of the run."
)
@takes_target
@takes_report
def export(*, runs: Sequence[str], form: str, folder: Path, force: bool, target: Target, report: Report) -> None:
    """Write runs to Parquet, CSV or TensorBoard files.

    The rows are those that are committed now; the run may go on. Each run's folder appears when it is complete, and
    takes the place of an earlier export of the run. Parquet lies in project=P/run=R/table=T, as pyarrow, DuckDB and
    Polars read it as one table; the others in P/R. Parameters, labels, inputs, outputs and the rest that is no row are
    in run.json beside them (in _run.json with Parquet). RUN is PROJECT/RUN, a resource name, a URL or a uid.
    """
    chosen = _format(form)
    names = [parse_run(text) for text in runs]
    results: list[Exported] = []
    for name in names:
        transport = connect(name.daemon(target)).transport
        run = find_run(transport, name)
        try:
            with report.counting(f"exporting {path_of(run)}") as progress:
                document = json_document(run)
                results.append(export_run(transport, run, chosen, folder, document, force=force, progress=progress))
        except SourceError as error:
            raise Failure(str(error)) from None
        _say(report, results[-1])
    if report.as_json:
        report.document({"format": form, "runs": results})


def _format(name: str) -> Format:
    try:
        module = importlib.import_module(f"rund_daemon.exchange.{_MODULES[name]}")
    except ModuleNotFoundError as error:
        raise Failure(f"{error.name} is needed to write this and not installed; pip install 'rund[exchange]'") from None
    form: Format = module.FORMAT
    return form


def _say(report: Report, result: Exported) -> None:
    rows = sum(result.rows.values())
    tables = ", ".join(f"{name} {count:,}" for name, count in result.rows.items())
    report.say(f"exported {result.run} to {result.path}: {count_text(rows, 'row')}{f' ({tables})' if tables else ''}")
    for what, count in sorted(result.left_out.items()):
        report.hint(f"  left out: {count} × {what}")
