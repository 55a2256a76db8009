"""`rund import`: runs of other tools become runs of rund. Each format's reader is imported when it is asked for."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rund._errors import RundError
from rund._rows import table_url
from rund._transport import run_calls
from rund._transport.run_calls import CopyTarget

from rund_daemon.exchange.foreign import ForeignRun, MissingSourceError, SourceError
from rund_daemon.exchange.importer import Imported, Wishes, import_run

from .connection import connect
from .copying import follow
from .exit_codes import ExitCode, Failure, exit_code_of_status
from .options import Command, Target, takes_report, takes_target
from .report import Report
from .runs import path_of
from .wording import count_text

Runs = Iterator[ForeignRun]
_SHOWN_KINDS = 12


@click.group("import", no_args_is_help=False)
def import_() -> None:
    """Import bundles, and runs of 3LC, TensorBoard, MLflow, W&B or Trackio.

    A source of another tool that is imported again gives the same run with each row once: what is new in it is added,
    and an import that was interrupted is completed. Steps, times, names, parameters, tags and the end of a run are
    kept; what can't be kept is counted and named. Exits with 7 if a part of the source is damaged: what could be read
    before it was imported.
    """


@import_.command()
@click.argument("url", metavar="URL")
@click.option("--project", default="", metavar="PROJECT", help="Import into this project instead of the bundle's.")
@click.option("--run", "run_name", default="", metavar="NAME", help="Name of the run, instead of the bundle's.")
@click.option(
    "--if-exists",
    type=click.Choice(["raise", "rename", "overwrite"]),
    default="raise",
    show_default=True,
    help="What to do when there is a run of that name.",
)
@takes_target
@takes_report
def bundle(*, url: str, project: str, run_name: str, if_exists: str, target: Target, report: Report) -> None:
    """Make a run of a bundle that `rund copy` has written.

    URL is a folder that the daemon sees, or a place in an object store, such as s3://bucket/path. Every checksum is
    verified, and the run appears when it is complete. Each import is another run.
    """
    transport = connect(target).transport
    wanted = CopyTarget(run_name, project, if_exists=if_exists)
    operation = run_calls.import_run(transport, table_url(url), wanted)
    run = follow(transport, operation, f"importing {url}", report).run
    made = path_of(run) if run is not None else ""
    report.say(f"imported {made} from {url}")
    if report.as_json:
        report.document({"source": url, "run": made})


def _takes_wishes(command: Command) -> Command:
    """Adds the options that all formats share, and hands them over as `wishes`."""

    @click.option("--project", default="", metavar="PROJECT", help="Import into this project instead of the source's.")
    @click.option("--run", "run_name", default="", metavar="NAME", help="Name of the run, if the source is one run.")
    @click.option("--dry-run", "dry", is_flag=True, help="Read everything and say what would be imported.")
    @takes_target
    @takes_report
    @functools.wraps(command)
    def wrapped(*, project: str, run_name: str, dry: bool, **rest: Any) -> None:
        command(wishes=Wishes(project, run_name, dry), **rest)

    return wrapped


_source = functools.partial(click.argument, "path", type=click.Path(path_type=Path))


@import_.command("3lc")
@_source(metavar="FOLDER")
@_takes_wishes
def threelc(*, path: Path, wishes: Wishes, target: Target, report: Report) -> None:
    """Import a run folder of 3LC, or all below a folder.

    Its format is not public: what is read is what 3LC's documentation describes, object.3lc.json and Parquet files.
    """
    _import(lambda: _reader("threelc").threelc_runs(path), wishes, target, report)


@import_.command()
@_source(metavar="LOGDIR")
@click.option(
    "--join-within",
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="Scalars of one step that follow each other within this time share a row, and its time; 0: only if their "
    "times are equal.",
)
@_takes_wishes
def tensorboard(*, path: Path, join_within: float, wishes: Wishes, target: Target, report: Report) -> None:
    """Import event files of TensorBoard: each folder with such files is a run."""
    _import(lambda: _reader("tensorboard").tensorboard_runs(path, join_within), wishes, target, report)


@import_.command()
@_source(metavar="STORE")
@_takes_wishes
def mlflow(*, path: Path, wishes: Wishes, target: Target, report: Report) -> None:
    """Import a tracking store of MLflow: its SQLite file, or its folder `mlruns`."""

    def runs() -> Runs:
        if path.is_dir():
            found: Runs = _reader("mlflow_files").mlflow_folder_runs(path)
        else:
            found = _reader("mlflow").mlflow_database_runs(path)
        return found

    _import(runs, wishes, target, report)


@import_.command()
@_source(metavar="DIR")
@_takes_wishes
def wandb(*, path: Path, wishes: Wishes, target: Target, report: Report) -> None:
    """Import runs of W&B, from a file or all below a folder.

    Read are `.wandb` files, which offline runs leave behind, and Parquet that W&B or Neptune exported.
    """

    def runs() -> Runs:
        exports = _reader("parquet_exports")
        found: Runs = (
            exports.parquet_export_runs(path)
            if path.exists() and exports.is_parquet_export(path)
            else _reader("wandb").wandb_runs(path)
        )
        return found

    _import(runs, wishes, target, report)


@import_.command()
@_source(metavar="DIR")
@_takes_wishes
def trackio(*, path: Path, wishes: Wishes, target: Target, report: Report) -> None:
    """Import projects of Trackio: one of its `.db` files, or the folder in which they lie."""
    _import(lambda: _reader("trackio").trackio_runs(path), wishes, target, report)


def _reader(module: str) -> Any:
    """The module of a format. Any: each has a function of its own."""
    try:
        return importlib.import_module(f"rund_daemon.exchange.{module}")
    except ModuleNotFoundError as error:
        raise Failure(f"{error.name} is needed to read this and not installed; pip install 'rund[exchange]'") from None


def _import(runs: Callable[[], Runs], wishes: Wishes, target: Target, report: Report) -> None:
    daemon = connect(target)
    results: list[Imported] = []
    try:
        for run in runs():
            if wishes.run and results:
                raise Failure("the source holds several runs; import it without --run, or one of them by its own path")
            with report.counting(f"importing {run.project}/{run.name}") as progress:
                results.append(import_run(daemon.transport, run, wishes, progress))
            _say(report, results[-1], wishes)
    except MissingSourceError as error:
        raise Failure(str(error), ExitCode.NOT_FOUND) from None
    except SourceError as error:
        raise Failure(str(error)) from None
    except RundError as error:
        raise Failure(f"{error}; the same import again goes on from here", exit_code_of_status(error.code)) from None
    finally:
        if report.as_json and results:
            report.document({"runs": results, "dry_run": wishes.dry})
    if any(result.damage for result in results):
        raise click.exceptions.Exit(ExitCode.DAMAGED)


def _say(report: Report, result: Imported, wishes: Wishes) -> None:
    rows = sum(result.rows.values())
    tables = ", ".join(f"{name} {count:,}" for name, count in result.rows.items() if count)
    doing = ("would import" if result.created else "would add to") if wishes.dry else ""
    doing = doing or ("imported" if result.created else "added to" if rows else "nothing is new in")
    detail = f": {count_text(rows, 'row')} ({tables})" if rows else ""
    report.say(f"{doing} {result.run} from {result.source}, {result.status}{detail}")
    kinds = sorted(result.left_out.items())
    for what, count in kinds[:_SHOWN_KINDS]:
        report.hint(f"  left out: {count} × {what}")
    if len(kinds) > _SHOWN_KINDS:
        report.hint(f"  left out: {len(kinds) - _SHOWN_KINDS} other kinds of things; --json names them")
    for message in result.cut_off:
        report.hint(f"  cut off: {message}")
    for message in result.damage:
        report.hint(f"  damaged: {message}")
