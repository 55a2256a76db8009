"""`rund fsck`: checks what a root keeps against its catalog. Works on the root's files, with no daemon running."""

from __future__ import annotations

from pathlib import Path

import click

from rund_daemon.catalog import Catalog
from rund_daemon.checking import Finding, check, repair
from rund_daemon.checking import Report as Checked
from rund_daemon.config import from_process
from rund_daemon.errors import StateError
from rund_daemon.identity import now
from rund_daemon.ingest.sink import SegmentSink
from rund_daemon.root import RootLockedError, RootUnusableError, take_root
from rund_daemon.segments.layout import Layout, settle_move
from rund_daemon.segments.space import SpaceFloor

from .exit_codes import ExitCode, Failure
from .options import takes_report, takes_root
from .report import Report
from .wording import count_text


@click.command()
@click.option("--repair", "mends", is_flag=True, help="Mend what can be mended without guessing.")
@takes_root
@takes_report
def fsck(*, mends: bool, root: Path, report: Report) -> None:
    """Check what a root keeps against its catalog.

    Reads everything that is committed. Exits with 1 if committed rows can't be read. --repair cuts off what a killed
    daemon has left, puts files that no run owns into trash, and takes batches that can't be read out of the catalog,
    so that the rest of their table can be.
    """
    if not (root / "catalog").is_dir():
        raise Failure(f"{root} is no root: it has no catalog", ExitCode.NOT_FOUND)
    try:
        lock = take_root(root)
    except RootLockedError as error:
        raise Failure(f"{error}; stop it first: rund stop") from None
    except RootUnusableError as error:
        raise Failure(str(error)) from None
    try:
        checked, mended = _check(root, mends=mends)
    except StateError as error:
        raise Failure(error.message) from None
    finally:
        lock.release()
    _show(report, checked, mended)
    if not checked.sound and not mended:
        raise click.exceptions.Exit(ExitCode.REFUSED)


def _check(root: Path, *, mends: bool) -> tuple[Checked, int]:
    config, _ = from_process({"root": str(root)})
    layout = Layout(root)
    # Nothing is appended here: the sink is what a catalog is built with, and stays empty.
    sink = SegmentSink(layout, SpaceFloor(root, config.min_free_bytes), now, lambda _tables, _ripe: None)
    catalog = Catalog(layout.catalog, config.map_size, sink, lambda origin, target: settle_move(root, origin, target))
    checked = check(catalog, layout)
    return checked, repair(catalog, layout, checked) if mends else 0


def _show(report: Report, checked: Checked, mended: int) -> None:
    if report.as_json:
        report.document(
            {
                "runs": checked.runs,
                "tables": checked.tables,
                "segments": checked.segments,
                "batches": checked.batches,
                "bytes": checked.bytes,
                "sound": checked.sound,
                "findings": [_plain(finding) for finding in checked.findings],
                "mended": mended,
            }
        )
        return
    for finding in checked.findings:
        report.say(f"{finding.kind}\t{finding.path}\t{finding.message}")
    verdict = "everything that is committed can be read" if checked.sound else "committed rows can't be read"
    report.say(
        f"{count_text(checked.runs, 'run')}, {count_text(checked.tables, 'table')}, "
        f"{checked.batches:,} batches: {verdict}"
    )
    if mended:
        report.say(f"mended {count_text(mended, 'finding')}")


def _plain(finding: Finding) -> dict[str, object]:
    return {"kind": finding.kind, "path": finding.path, "message": finding.message, "loses": finding.loses}
