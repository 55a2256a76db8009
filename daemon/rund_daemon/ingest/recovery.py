"""Brings the files in line with the catalog before the daemon serves.

Each open segment is cut back to its committed mark, never below it, and what an earlier daemon was making when it
died is removed. What can't be explained is reported and left alone: reads of it fail with CORRUPT, and everything
else works.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import table_by_uid
from rund_daemon.failpoints import failpoint
from rund_daemon.model import Uid
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.open_segment import cut_back_file
from rund_daemon.segments.seal import temporary_name

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found.

    Attributes:
        segments: open segments.
        cut: how many of them were cut back.
        cut_bytes: by how many bytes together.
        damaged: how many are gone or shorter than committed.
        unfinished: folders of what was being made or handed over.
    """

    segments: int = 0
    cut: int = 0
    cut_bytes: int = 0
    damaged: int = 0
    unfinished: tuple[Path, ...] = ()


def recover(catalog: Catalog, layout: Layout) -> Recovery:
    """Cuts every open segment back to its mark, and looks for what was never finished."""
    segments = cut = cut_bytes = damaged = 0
    # As text: there may be ten thousand segments, and nobody is served before they are looked at.
    folders: dict[Uid, str | None] = {}
    with catalog.snapshot() as snapshot:
        for key, _ in snapshot.scan(shelves.OPEN_SEGMENTS):
            segment = snapshot.get(shelves.SEGMENTS, key)
            place = snapshot.get(shelves.TABLE_UIDS, Uid(key[:16]))
            table = snapshot.get(shelves.TABLES, place) if place else None
            if segment is None or segment.sealed or table is None:
                continue
            if table.run_uid not in folders:
                home = _home(snapshot, layout, table.run_uid)
                folders[table.run_uid] = str(layout.all_metrics(home)) if home else None
            folder = folders[table.run_uid]
            if folder is None:
                continue
            segments += 1
            try:
                removed = cut_back_file(f"{folder}/{table.name}/{segment.file_name}", segment.length)
            except OSError as error:
                damaged += 1
                logger.warning("segment_damaged", extra={"table": table.url, "error": str(error)})
                continue
            failpoint("recovery.cut")
            cut += removed > 0
            cut_bytes += removed
        for link in layout.all_unfinished():
            if link.is_symlink():
                _remove_unknown(snapshot, layout, link)
    return Recovery(segments, cut, cut_bytes, damaged, (*layout.all_unfinished(), *layout.all_incoming()))


def _home(snapshot: Snapshot, layout: Layout, uid: Uid) -> Path | None:
    run = snapshot.get(shelves.RUNS, uid)
    if run is None:
        return None
    return layout.trashed(uid) if run.delete_time else layout.run(run.project, run.name)


def _remove_unknown(snapshot: Snapshot, layout: Layout, link: Path) -> None:
    """Removes a segment that was begun and never committed.

    Of the link's target only the name counts: the run may have been renamed since, and its old place be another's.
    """
    with suppress(OSError, ValueError):
        uid, number = Uid(bytes.fromhex(link.stem)), int(link.suffix[1:])
        segment = snapshot.get(shelves.SEGMENTS, keys.numbered(uid, number))
        table = table_by_uid(snapshot, uid)
        home = _home(snapshot, layout, table.run_uid) if table else None
        file_name = link.readlink().name
        if table and home and (segment is None or segment.file_name != file_name):
            for name in (file_name, temporary_name(file_name)):
                (layout.metrics_table(home, table.name) / name).unlink(missing_ok=True)
            failpoint("recovery.link_removed")
        link.unlink()


def remove_unfinished(recovery: Recovery) -> None:
    """Removes what was never finished. It may be large: call it off the event loop."""
    for folder in recovery.unfinished:
        shutil.rmtree(folder, ignore_errors=True)
