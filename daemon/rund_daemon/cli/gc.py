"""`rund gc`: removes for good what is in trash. The daemon does that by itself, of what has expired."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click
from rund._transport import run_calls
from rund._types import TrashEntry

from .connection import connect
from .exit_codes import Failure
from .options import Target, takes_report, takes_target
from .report import Report
from .runs import path_of
from .wording import bytes_text, count_text, local_time_text, printable

_DAY_SECONDS = 86_400


@click.command()
@click.option("--dry-run", is_flag=True, help="Say only what would be removed.")
@click.option("--project", default="", metavar="PROJECT", help="Only of this project.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="What is in trash for so long.")
@click.option("--all", "everything", is_flag=True, help="All that is in trash.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@takes_target
@takes_report
def gc(  # its options
    *,
    dry_run: bool,
    project: str,
    older_than: float | None,
    everything: bool,
    yes: bool,
    target: Target,
    report: Report,
) -> None:
    """Remove for good what has expired in trash.

    It can't be restored afterwards. When it expires, `trash_days` in the configuration says. The daemon does it by
    itself every hour; by hand it frees space at once. In a terminal it asks first; elsewhere --yes must say that it is
    meant.
    """
    if everything and older_than is not None:
        raise click.UsageError("give --older-than or --all")
    min_age = 0.0 if everything else None if older_than is None else older_than * _DAY_SECONDS
    parent, transport = f"projects/{project or '-'}", connect(target).transport
    if dry_run or not yes:
        found = run_calls.collect_trash(transport, parent, min_age, validate_only=True)
        if dry_run or not found:
            _show(report, found, "would remove")
            return
        _ask(found)
    with report.waiting("removing"):
        gone = run_calls.collect_trash(transport, parent, min_age, validate_only=False)
    _show(report, gone, "removed")


def _ask(found: Sequence[TrashEntry]) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is nobody to ask; give --yes if it is to be removed for good, or --dry-run")
    for entry in found:
        click.echo(printable(f"  {_name(entry)}  {bytes_text(entry.size_bytes)}"), err=True)
    size = bytes_text(sum(entry.size_bytes for entry in found))
    if not click.confirm(f"Remove {count_text(len(found), 'entry')} for good, {size}?", err=True):
        raise Failure("nothing was removed")


def _show(report: Report, entries: Sequence[TrashEntry], done: str) -> None:
    size = sum(entry.size_bytes for entry in entries)
    if report.as_json:
        report.document({"removed": done == "removed", "size_bytes": size, "entries": entries})
        return
    for entry in entries:
        deleted = f", deleted {local_time_text(entry.run.deleted)}" if entry.run and entry.run.deleted else ""
        report.say(f"{done} {_name(entry)}: {bytes_text(entry.size_bytes)}{deleted}")
    report.hint(f"{done} {count_text(len(entries), 'entry')}, {bytes_text(size)}")


def _name(entry: TrashEntry) -> str:
    if entry.run:
        return f"{path_of(entry.run)} ({entry.run.uid})"
    return entry.metrics_table.removeprefix("projects/").replace("/runs/", "/", 1) or entry.path
