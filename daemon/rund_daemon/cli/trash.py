"""`rund rm` and `rund undelete`: to trash and back."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click
from rund._errors import RundError
from rund._transport import Transport, metrics_calls, run_calls
from rund._types import RunInfo, RunStatus

from .connection import connect
from .exit_codes import Failure, exit_code_of_status
from .options import Target, takes_report, takes_target
from .report import Report
from .run_names import parse_run
from .runs import find_run, path_of
from .wording import count_text, local_time_text, printable

_AT_WORK = frozenset({RunStatus.RUNNING, RunStatus.COLLECTING, RunStatus.POST_PROCESSING})


@dataclass(frozen=True, slots=True)
class _Found:
    """A run that was named, and the daemon that keeps it."""

    transport: Transport
    run: RunInfo


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@takes_target
@takes_report
def rm(*, runs: Sequence[str], yes: bool, target: Target, report: Report) -> None:
    """Move runs to trash.

    Their names are free at once, and until they are collected they can be restored. RUN is PROJECT/RUN, a resource
    name, a URL or a uid; if one of them is not there, none is moved. In a terminal it asks first; elsewhere --yes
    must say that it is meant.
    """
    found = _find(runs, target, deleted=False)
    if not yes:
        _ask(found)

    def delete(entry: _Found) -> RunInfo:
        return run_calls.delete_run(entry.transport, entry.run.resource_name)

    def say(run: RunInfo) -> str:
        until = f" until {local_time_text(run.expires)}" if run.expires else ""
        return f"moved {path_of(run)} to trash; `rund undelete {run.uid}` restores it{until}"

    _do(found, report, delete, "deleting", ("deleted", say))


@click.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--table", default="", metavar="TABLE", help="A metrics table that a reduction of the run has replaced.")
@takes_target
@takes_report
def undelete(*, runs: Sequence[str], table: str, target: Target, report: Report) -> None:
    """Take runs out of trash, or a metrics table of a run.

    RUN is PROJECT/RUN (the one of that name that was deleted last), a resource name, a URL or a uid.
    """
    if table:
        _undelete_table(_find(runs, target, deleted=False), table, report)
        return
    found = _find(runs, target, deleted=True)

    def restore(entry: _Found) -> RunInfo:
        return run_calls.undelete_run(entry.transport, entry.run.resource_name, entry.run.uid)

    _do(found, report, restore, "restoring", ("restored", lambda run: f"restored {path_of(run)}"))


def _undelete_table(found: Sequence[_Found], table: str, report: Report) -> None:
    if len(found) != 1:
        raise click.UsageError("--table is about one run")
    own = table.removeprefix("metrics/")
    info = metrics_calls.undelete_metrics_table(found[0].transport, f"{found[0].run.resource_name}/metrics/{own}")
    if report.as_json:
        report.document({"restored": info})
    report.say(f"restored {info.url} of {path_of(found[0].run)}")


def _find(texts: Sequence[str], target: Target, *, deleted: bool) -> Sequence[_Found]:
    names = [parse_run(text) for text in texts]
    targets = {name: name.daemon(target) for name in names}
    transports = {daemon: connect(daemon).transport for daemon in dict.fromkeys(targets.values())}
    found = [
        _Found(transports[targets[name]], find_run(transports[targets[name]], name, deleted=deleted)) for name in names
    ]
    # One run may have been named twice, in two ways.
    return list({entry.run.uid: entry for entry in found}.values())


def _ask(found: Sequence[_Found]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask; give --yes if the runs are to go to trash")
    for entry in found:
        note = f", which is {entry.run.status.name}" if entry.run.status in _AT_WORK else ""
        click.echo(printable(f"  {path_of(entry.run)}{note}"), err=True)
    if not click.confirm(f"Move {count_text(len(found), 'run')} to trash?", err=True):
        raise Failure("nothing was moved to trash")


def _do(
    found: Sequence[_Found],
    report: Report,
    change: Callable[[_Found], RunInfo],
    doing: str,
    done: tuple[str, Callable[[RunInfo], str]],
) -> None:
    """Changes every run, says what was done, and fails afterwards if one of them could not be changed."""
    changed, failed = list[RunInfo](), list[tuple[RunInfo, RundError]]()
    for entry in report.track(found, doing, len(found)):
        try:
            changed.append(change(entry))
        except RundError as error:
            failed.append((entry.run, error))
    key, words = done
    if report.as_json:
        report.document({key: changed})
    for run in changed:
        report.say(words(run))
    if failed:
        message = "; ".join(f"{path_of(run)}: {error}" for run, error in failed)
        raise Failure(message, exit_code_of_status(failed[0][1].code))
