"""`rund plot`: pictures of runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click
from rund._errors import InvalidFieldError
from rund._plots.plot import checked_path
from rund._run import Run

from .connection import connect
from .options import Target, takes_report, takes_target
from .report import Report
from .run_names import parse_run
from .runs import find_run, path_of
from .wording import bytes_text, count_text

_NOT_IN_NAMES = re.compile(r"[^\w.-]+")


@click.group(no_args_is_help=False)
def plot() -> None:
    """Draw pictures of runs."""


@plot.command()
@click.argument("run")
@click.option(
    "--table",
    "tables",
    multiple=True,
    metavar="NAME",
    help="Metrics table to draw, also several. Without: the newest with a map; with --by all that share its map.",
)
@click.option("--column", metavar="NAME", help="The map's column; needed where a table has several maps.")
@click.option("--color", metavar="COLUMN", help="Column to colour by; without, one with the role LABEL.")
@click.option("--by", metavar="COLUMN", help="A panel for each value of this column, such as epoch, in one space.")
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write to: FILE.html or FILE.png, also both. Without: RUN-COLUMN.html.",
)
@takes_target
@takes_report
def embedding(
    *,
    run: str,
    tables: Sequence[str],
    column: str | None,
    color: str | None,
    by: str | None,
    outputs: Sequence[Path],
    target: Target,
    report: Report,
) -> None:
    """Draw a map of embeddings: as a page for a browser, or as a PNG.

    A map is a column of 2 or 3 floats a row with the role XY or XYZ, as reductions write it. The page is one file that
    loads nothing: it zooms, turns, shows the values of the row under the pointer, and colours by any column. A PNG
    needs Matplotlib: pip install 'rund[plot]'. Columns are those of the metrics tables and of the input table that
    their rows refer to. The run may go on. RUN is PROJECT/RUN, a resource name, a URL or a uid.
    """
    for path in outputs:
        try:
            checked_path(path)
        except InvalidFieldError as error:
            raise click.UsageError(str(error)) from None
    name = parse_run(run)
    daemon = connect(name.daemon(target))
    found = find_run(daemon.transport, name)
    with report.waiting("reading the map"):
        drawn = Run(daemon, found).plot_embedding(color=color, by=by, table=tables or None, column=column)
        paths = outputs or (Path(f"{_NOT_IN_NAMES.sub('_', f'{found.name}-{drawn.column}')}.html"),)
        # The page first: it reads all that a PNG needs.
        for path in sorted(paths, key=lambda path: path.suffix.lower() == ".png"):
            drawn.save(path)
    if report.as_json:
        report.document(
            {
                "run": path_of(found),
                "column": drawn.column,
                "tables": drawn.table_names,
                "color": drawn.color,
                "by": drawn.by,
                "panels": drawn.panel_names if by else (),
                "points": drawn.point_count,
                "left_out": drawn.left_out_count,
                "files": [path.absolute() for path in paths],
            }
        )
    for path in paths:
        report.say(f"drew {count_text(drawn.point_count, 'point')} of {path_of(found)} to {path}{_size(path)}")
    if drawn.left_out_count:
        report.hint(f"  left out: {count_text(drawn.left_out_count, 'row')} without a place in {drawn.column}")


def _size(path: Path) -> str:
    return f" ({bytes_text(path.stat().st_size)})"
