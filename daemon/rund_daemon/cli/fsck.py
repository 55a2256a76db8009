"""`rund fsck`: checks what a root keeps against its catalog. Works on the root's files, with no daemon running."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click

from rund_daemon.catalog import Catalog
from rund_daemon.checking import Finding, check, repair
from rund_daemon.checking import Report as Checked
from rund_daemon.config import Config, from_process
from rund_daemon.errors import CorruptError, StateError
from rund_daemon.identity import new_uid, now
from rund_daemon.ingest.sink import SegmentSink
from rund_daemon.processes import boot_id
from rund_daemon.rebuilding import Note, Rebuilt, holds_runs, rebuild
from rund_daemon.root import RootLockedError, RootUnusableError, take_root
from rund_daemon.segments.layout import Layout, settle_move
from rund_daemon.segments.space import SpaceFloor

from .exit_codes import ExitCode, Failure
from .options import takes_report, takes_root
from .report import Report
from .wording import count_text


@click.command()
@click.option("--repair", "mends", is_flag=True, help="Mend what can be mended without guessing.")
@click.option("--rebuild", "rebuilds", is_flag=True, help="Make a lost catalog again from what the files say.")
@takes_root
@takes_report
def fsck(*, mends: bool, rebuilds: bool, root: Path, report: Report) -> None:
    """Check what a root keeps against its catalog.

    Reads everything that is committed. Exits with 1 if committed rows can't be read. --repair cuts off what a killed
    daemon has left, puts files that no run owns into trash, and takes batches that can't be read out of the catalog,
    so that the rest of their table can be; other rows keep their numbers. It looks again then, and exits by what it
    finds.

    --rebuild is for a catalog that is gone or can't be opened. It makes a new one of run.json, table.json, the commit
    logs and the segments, keeps the old one in catalog.lost-TIME, and says what it could not make again; then it exits
    with 1.
    """
    if mends and rebuilds:
        raise click.UsageError("--repair and --rebuild are done one after the other")
    layout = Layout(root)
    if not rebuilds and not layout.catalog_data.exists():
        hint = "; make it again of the runs' files with --rebuild" if holds_runs(layout) else ""
        raise Failure(f"{root} has no catalog{hint}", ExitCode.NOT_FOUND)
    if rebuilds and not (layout.catalog.exists() or holds_runs(layout)):
        raise Failure(f"{root} is no root: it has neither a catalog nor runs", ExitCode.NOT_FOUND)
    with _taken(root):
        config, _ = from_process({"root": str(root)})
        rebuilt = _rebuild(config) if rebuilds else None
        checked, mended = _check(config, mends=mends)
        left = _check(config, mends=False)[0] if mended else checked
    _show(report, rebuilt, checked, left, mended)
    if not left.sound or (rebuilt and rebuilt.loses):
        raise click.exceptions.Exit(ExitCode.REFUSED)


@contextmanager
def _taken(root: Path) -> Iterator[None]:
    try:
        lock = take_root(root)
    except RootLockedError as error:
        raise Failure(f"{error}; stop it first: rund stop") from None
    except RootUnusableError as error:
        raise Failure(str(error)) from None
    try:
        yield
    except (StateError, CorruptError) as error:
        raise Failure(error.message) from None
    finally:
        lock.release()


def _rebuild(config: Config) -> Rebuilt:
    try:
        return rebuild(Layout(config.root), config.map_size, boot_id(), now(), new_uid)
    except OSError as error:
        raise Failure(f"the catalog could not be made again, and is as it was: {error}") from error


def _check(config: Config, *, mends: bool) -> tuple[Checked, int]:
    root, layout = config.root, Layout(config.root)
    # Nothing is appended here: the sink is what a catalog is built with, and stays empty.
    sink = SegmentSink(layout, SpaceFloor(root, config.min_free_bytes), now, lambda _tables, _ripe: None)

    def move(source: str, destination: str) -> None:
        settle_move(root, source, destination)

    with closing(Catalog(layout.catalog, config.map_size, sink, move)) as catalog:
        checked = check(catalog, layout)
        return checked, repair(catalog, layout, checked) if mends else 0


def _show(report: Report, rebuilt: Rebuilt | None, checked: Checked, left: Checked, mended: int) -> None:
    if report.as_json:
        document: dict[str, object] = {
            "runs": checked.runs,
            "tables": checked.tables,
            "segments": checked.segments,
            "batches": checked.batches,
            "bytes": checked.bytes,
            "input_tables": checked.input_tables,
            "sound": checked.sound,
            "findings": [_plain(finding) for finding in checked.findings],
            "mended": mended,
            "left": [_plain(finding) for finding in left.findings],
        }
        report.document(document if rebuilt is None else {**document, "rebuilt": _plain_rebuilt(rebuilt)})
        return
    if rebuilt is not None:
        _say_rebuilt(report, rebuilt)
    for finding in checked.findings:
        report.say(f"{finding.kind}\t{finding.path}\t{finding.message}")
    verdict = "everything that is committed can be read" if checked.sound else "committed rows can't be read"
    report.say(
        f"{count_text(checked.runs, 'run')}, {count_text(checked.tables, 'table')}, "
        f"{checked.batches:,} batches: {verdict}"
    )
    if mended:
        report.say(f"mended {count_text(mended, 'finding')}; a second look finds {len(left.findings)}")
        for finding in left.findings:
            report.say(f"{finding.kind}\t{finding.path}\t{finding.message}")


def _say_rebuilt(report: Report, rebuilt: Rebuilt) -> None:
    for run in rebuilt.runs:
        report.say(f"rebuilt\t{run.name}\t{count_text(run.tables, 'table')}, {count_text(run.rows, 'row')}")
        for note in run.notes:
            report.say(f"{'lost' if note.loses else 'note'}\t{note.path}\t{note.message}")
    for note in rebuilt.notes:
        report.say(f"{'lost' if note.loses else 'note'}\t{note.path}\t{note.message}")
    report.say(f"rebuilt {count_text(len(rebuilt.runs), 'run')}, {count_text(rebuilt.input_tables, 'input table')}")
    if rebuilt.kept_aside is not None:
        report.say(f"the old catalog is in {rebuilt.kept_aside}")


def _plain(finding: Finding) -> dict[str, object]:
    return {"kind": finding.kind, "path": finding.path, "message": finding.message, "loses": finding.loses}


def _plain_rebuilt(rebuilt: Rebuilt) -> dict[str, object]:
    return {
        "runs": [
            {
                "name": run.name,
                "tables": run.tables,
                "rows": run.rows,
                "notes": [_plain_note(note) for note in run.notes],
            }
            for run in rebuilt.runs
        ],
        "input_tables": rebuilt.input_tables,
        "notes": [_plain_note(note) for note in rebuilt.notes],
        "loses": rebuilt.loses,
        "kept_aside": str(rebuilt.kept_aside) if rebuilt.kept_aside else None,
    }


def _plain_note(note: Note) -> dict[str, object]:
    return {"path": note.path, "message": note.message, "loses": note.loses}
