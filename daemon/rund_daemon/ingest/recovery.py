"""Brings the files in line with the catalog before the daemon serves.

Each open segment is cut back to its committed mark, never below it. What can't be explained is reported and left alone:
reads of it fail with CORRUPT, and everything else works.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from rund_daemon.catalog import Catalog, shelves
from rund_daemon.model import Uid
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.open_segment import cut_back_file

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a start found: open segments, how many were cut back and by how many bytes, and what is damaged."""

    segments: int = 0
    cut: int = 0
    cut_bytes: int = 0
    damaged: int = 0


def recover(catalog: Catalog, layout: Layout) -> Recovery:
    """Cuts every open segment back to its mark."""
    segments = cut = cut_bytes = damaged = 0
    with catalog.snapshot() as snapshot:
        for key, _ in snapshot.scan(shelves.OPEN_SEGMENTS):
            segment = snapshot.get(shelves.SEGMENTS, key)
            place = snapshot.get(shelves.TABLE_UIDS, Uid(key[:16]))
            table = snapshot.get(shelves.TABLES, place) if place else None
            run = snapshot.get(shelves.RUNS, table.run_uid) if table else None
            if segment is None or table is None or run is None:
                continue
            home = layout.trashed(run.uid) if run.delete_time else layout.run(run.project, run.name)
            segments += 1
            try:
                removed = cut_back_file(layout.metrics_table(home, table.name) / segment.file_name, segment.length)
            except OSError as error:
                damaged += 1
                logger.warning("segment_damaged", extra={"run": run.resource_name, "error": str(error)})
                continue
            cut += removed > 0
            cut_bytes += removed
    return Recovery(segments, cut, cut_bytes, damaged)
