"""`rund fsck --repair`: mends what can be mended without guessing. No daemon may run.

It cuts tails off, puts stray files into trash, and takes batches that can't be read out of the catalog, so that the
rest of their table can be. Bytes that were committed are never removed: what is left of a file that holds no readable
batch any more goes to trash. A check after it finds nothing, but for input tables, which are whole or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, keys, shelves
from rund_daemon.catalog.lookup import table_by_uid
from rund_daemon.model import BatchRef, Segment, TableMark, Uid
from rund_daemon.segments.layout import Layout, make_durable_folder, sync_folder
from rund_daemon.segments.open_segment import cut_back_file

from .findings import Finding, Kind, Report


def repair(catalog: Catalog, layout: Layout, report: Report) -> int:
    """Mends what a check has found, and gives the number of findings that were mended."""
    mended = 0
    batches: dict[Uid, list[BatchRef]] = {}
    for finding in report.findings:
        if finding.kind is Kind.TAIL and finding.table is not None:
            mended += _cut_tail(catalog, layout, finding)
        elif finding.kind is Kind.STRAY:
            _set_aside(layout, Path(finding.path))
            mended += 1
        elif finding.table is not None:
            unreadable = batches.setdefault(finding.table, [])
            if finding.batch is not None:
                unreadable.append(finding.batch)
            mended += 1
    for table, unreadable in batches.items():
        catalog.change_before_start(_mending(layout, table, unreadable))
    return mended


def _cut_tail(catalog: Catalog, layout: Layout, finding: Finding) -> int:
    with catalog.snapshot() as snapshot:
        lengths = {
            segment.file_name: segment.length for _, segment in snapshot.scan(shelves.SEGMENTS, finding.table or b"")
        }
    path = Path(finding.path)
    return int(cut_back_file(path, lengths[path.name]) > 0) if path.is_relative_to(layout.root) else 0


def _set_aside(layout: Layout, path: Path) -> None:
    make_durable_folder(layout.trash)
    name = "-".join(path.relative_to(layout.root).parts)[-150:]
    path.rename(layout.trash / f"fsck-{os.urandom(4).hex()}-{name}")
    sync_folder(layout.trash)
    sync_folder(path.parent)


def _mending(layout: Layout, table: Uid, unreadable: list[BatchRef]) -> Callable[[Change], None]:
    return lambda change: _mend_table(change, layout, table, unreadable)


def _mend_table(change: Change, layout: Layout, table: Uid, unreadable: list[BatchRef]) -> None:
    """Takes batches out of the catalog. Other rows keep their numbers: readers see a gap, not other rows."""
    for batch in unreadable:
        change.delete(shelves.BATCHES, keys.batch(table, batch.first_row))
    refs = [ref for _, ref in change.scan(shelves.BATCHES, table)]
    segments = [segment for _, segment in list(change.scan(shelves.SEGMENTS, table))]
    for segment in segments:
        _mend_segment(change, layout, table, segment, [ref for ref in refs if ref.segment == segment.number])
    mark = change.get(shelves.MARKS, table) or TableMark()
    left = [segment for _, segment in change.scan(shelves.SEGMENTS, table)]
    rows = max([mark.rows, *(ref.first_row + ref.rows for ref in refs)])
    size = sum(segment.length for segment in left)
    change.put(shelves.MARKS, table, replace(mark, rows=rows, batches=len(refs), bytes=size))


def _mend_segment(change: Change, layout: Layout, table: Uid, segment: Segment, refs: list[BatchRef]) -> None:
    """Has a segment's record say what its file still has."""
    path = _path(change, layout, table, segment)
    size = path.stat().st_size if path is not None and path.exists() else 0
    key = keys.numbered(table, segment.number)
    rows = sum(ref.rows for ref in refs)
    if size >= segment.length:
        change.put(shelves.SEGMENTS, key, replace(segment, rows=rows, batches=len(refs)))
    elif refs:
        # What is left of a torn batch stays where it is; rows go on behind it.
        change.put(shelves.SEGMENTS, key, replace(segment, rows=rows, length=size, batches=len(refs)))
    else:
        change.delete(shelves.SEGMENTS, key)
        change.delete(shelves.OPEN_SEGMENTS, key)
        if size and path is not None:
            _set_aside(layout, path)


def _path(change: Change, layout: Layout, uid: Uid, segment: Segment) -> Path | None:
    table = table_by_uid(change, uid)
    run = change.get(shelves.RUNS, table.run_uid) if table else None
    if table is None or run is None:
        return None
    home = layout.trashed(run.uid) if run.delete_time else layout.run(run.project, run.name)
    return layout.metrics_table(home, table.name) / segment.file_name
