"""`rund jobs` and `rund cancel`: the long-running jobs of a daemon."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice

import click
from rund._job_types import OperationInfo
from rund._transport import daemon_calls

from .connection import connect
from .exit_codes import ExitCode, Failure
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .wording import local_time_text

_PREFIX = "operations/"
_END_SECONDS = 10.0


@click.command()
@click.option("--all", "everything", is_flag=True, help="Those that have ended, too.")
@click.option(
    "--limit",
    default=50,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=1),
    help="How many with --all.",
)
@takes_target
@takes_report
def jobs(*, everything: bool, limit: int, target: Target, report: Report) -> None:
    """List long-running jobs: reductions, copies and imports.

    The newest comes first. `rund cancel JOB` ends one.
    """
    found = daemon_calls.list_operations(connect(target).transport)
    shown = list(islice(found, limit)) if everything else [job for job in found if not job.done]
    if report.as_json:
        report.document({"jobs": [_document(job) for job in shown]})
        return
    report.table(("JOB", "METHOD", "TARGET", "STATE", "DONE", "SINCE", "PHASE"), map(_row, shown))
    if not shown:
        report.hint("no jobs" if everything else "no jobs are running; --all lists those that have ended")


@click.command()
@click.argument("job", metavar="JOB")
@takes_target
@takes_report
def cancel(*, job: str, target: Target, report: Report) -> None:
    """Cancel a job.

    It ends within a second, and nothing is changed. JOB is what `rund jobs` shows in its first column.
    """
    transport = connect(target).transport
    name = _PREFIX + job.removeprefix(_PREFIX)
    daemon_calls.cancel_operation(transport, name)
    ended = daemon_calls.wait_operation(transport, name, _END_SECONDS)
    if report.as_json:
        report.document(_document(ended))
    if ended.done and ended.error is None:
        raise Failure(f"{job} was done before it could be cancelled", ExitCode.REFUSED)
    report.say(f"cancelled {job}" if ended.done else f"{job} was told to end")


def _document(job: OperationInfo) -> dict[str, object]:
    """The job, with its error in words."""
    return {item.name: getattr(job, item.name) for item in fields(job)} | {
        "state": _state(job),
        "error": None if job.error is None else str(job.error),
    }


def _row(job: OperationInfo) -> Sequence[Cell]:
    since = job.ended or job.created
    return (
        job.name.removeprefix(_PREFIX),
        job.method,
        job.target,
        _state(job),
        Shown(job.progress, f"{job.progress:.0%}"),
        local_time_text(since or datetime.fromtimestamp(0, UTC)),
        job.message if job.error is None else str(job.error),
    )


def _state(job: OperationInfo) -> str:
    if not job.done:
        return "CANCELLING" if job.cancel_requested else "RUNNING"
    if job.error is None:
        return "COMPLETED"
    return "CANCELLED" if job.cancel_requested else "FAILED"
