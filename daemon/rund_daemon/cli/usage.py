"""`rund usage`: how much each project holds, and how much it may."""

from __future__ import annotations

from collections.abc import Sequence

import click
from rund._transport import run_calls
from rund._types import ProjectUsage

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .wording import bytes_text


@click.command()
@click.option("--project", default="", metavar="PROJECT", help="Only this project.")
@takes_target
@takes_report
def usage(*, project: str, target: Target, report: Report) -> None:
    """Show how much each project holds, and how much it may.

    The one that holds most comes first. What is in trash counts until `rund gc` removes it. A project that has reached
    its quota takes no new run; those that are there go on. What is shown may be a minute old.
    """
    with report.waiting("counting"):
        found = run_calls.get_usage(connect(target).transport, f"projects/{project or '-'}")
    shown = sorted(found, key=lambda entry: -entry.held_bytes)
    if report.as_json:
        report.document({"projects": shown})
        return
    report.table(("PROJECT", "RUNS", "IN TRASH", "SIZE", "SIZE IN TRASH", "QUOTA", "FULL"), map(_row, shown))
    if not shown:
        report.hint("no projects")


def _row(usage: ProjectUsage) -> Sequence[Cell]:
    quota = usage.quota_bytes
    return (
        usage.project_name,
        Shown(usage.run_count, f"{usage.run_count:,}"),
        Shown(usage.trashed_run_count, f"{usage.trashed_run_count:,}"),
        Shown(usage.held_bytes, bytes_text(usage.held_bytes)),
        Shown(usage.trashed_bytes, bytes_text(usage.trashed_bytes)),
        Shown(quota, bytes_text(quota)) if quota else "",
        Shown(usage.held_bytes / quota, f"{usage.held_bytes / quota:.0%}") if quota else "",
    )
