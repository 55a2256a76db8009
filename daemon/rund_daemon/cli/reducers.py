"""`rund reducers`: the models that reductions have fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import click
from rund import ReducerInfo
from rund._transport import reduction_calls

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Cell, Report, Shown
from .wording import local_time_text

_PREFIX = "projects/"


@click.command()
@click.option("--project", default="", metavar="NAME", help="Only those of a project.")
@click.option("--delete", "deleted", multiple=True, metavar="REDUCER", help="Remove one for good; may be given again.")
@takes_target
@takes_report
def reducers(*, project: str, deleted: Sequence[str], target: Target, report: Report) -> None:
    """List the reducers that are kept, and remove them.

    The newest comes first. With --delete they are removed instead: REDUCER is what the list shows in its first column.
    Maps that were made with them stay as they are.
    """
    transport = connect(target).transport
    if deleted:
        for name in deleted:
            reduction_calls.delete_reducer(transport, _PREFIX + name.removeprefix(_PREFIX))
            report.say(f"removed {name}")
        if report.as_json:
            report.document({"removed": [_PREFIX + name.removeprefix(_PREFIX) for name in deleted]})
        return
    found = list(reduction_calls.list_reducers(transport, project))
    if report.as_json:
        report.document({"reducers": [asdict(info) for info in found]})
        return
    report.table(("REDUCER", "METHOD", "COLUMN", "ROWS", "TRUSTWORTHINESS", "CREATED"), map(_row, found))
    if not found:
        report.hint("no reducers; `Run.reduce_embeddings_per_dataset` makes one")


def _row(info: ReducerInfo) -> Sequence[Cell]:
    trust = info.quality.get("trustworthiness")
    return (
        info.resource_name.removeprefix(_PREFIX),
        info.method,
        info.source_embedding_column,
        info.fit_row_count,
        "" if trust is None else Shown(trust, f"{trust:.3f}"),
        "" if info.created is None else local_time_text(info.created),
    )
