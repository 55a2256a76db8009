"""`rund recover`: sends the rows that are left in journals. A daemon does that by itself for its own root."""

from __future__ import annotations

from pathlib import Path

import click
from rund._adoption import Adoption, Outcome, adopt_all

from .connection import connect
from .exit_codes import ExitCode
from .options import Target, takes_report, takes_target
from .report import Report
from .wording import count_text


@click.command()
@click.argument("directories", nargs=-1, metavar="[FOLDER]...", type=click.Path(path_type=Path))
@takes_target
@takes_report
def recover(*, directories: tuple[Path, ...], target: Target, report: Report) -> None:
    """Send the rows that dead trainers have left in their journals.

    FOLDER is where journals lie; the root's own folder when none is named. A trainer that could not write there has its
    journals in `$XDG_STATE_HOME/rund/journals`. Exits with 1 if a journal can't be drained; its files stay.
    """
    daemon = connect(target)
    folders = directories or (Path(daemon.info.root_url) / "journals",)
    adoptions = [adoption for folder in folders for adoption in adopt_all(folder, daemon.transport)]
    _show(report, adoptions)
    if any(adoption.outcome in (Outcome.KEPT, Outcome.DAMAGED) for adoption in adoptions):
        raise click.exceptions.Exit(ExitCode.REFUSED)


def _show(report: Report, adoptions: list[Adoption]) -> None:
    if report.as_json:
        report.document({"journals": [_plain(adoption) for adoption in adoptions]})
        return
    for adoption in adoptions:
        detail = f": {adoption.message}" if adoption.message else ""
        report.say(f"{adoption.outcome}\t{adoption.path}\t{count_text(adoption.rows, 'row')}{detail}")
    if not adoptions:
        report.hint("no journal is left to drain")


def _plain(adoption: Adoption) -> dict[str, object]:
    return {
        "path": str(adoption.path),
        "outcome": adoption.outcome,
        "rows": adoption.rows,
        "message": adoption.message,
    }
