"""Keeps `run.json` and `table.json` up with the catalog: for people, and for making a lost catalog again.

The catalog lists the runs and input tables whose file is behind, so a crash only delays it. Writing is off the way of
every request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, shelves
from rund_daemon.catalog.lookup import RunDetails, TableState, details_of
from rund_daemon.documents import input_table_document, run_document, table_document, values_document
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.model import InputTable, Revision, Uid
from rund_daemon.segments.layout import RUN_SNAPSHOT, TABLE_SNAPSHOT, Layout, write_durable_file

logger = logging.getLogger(__name__)

FORMAT = 1
# A run that changes all the time is written once in this long.
_PAUSE_SECONDS = 1.0
_BATCH = 256


class RunSnapshots:
    """Writes the files of the runs that have changed."""

    def __init__(self, catalog: Catalog, layout: Layout, feed: Feed, folders: threading.Lock) -> None:
        """Writes nothing yet.

        Args:
            catalog: says which runs' files are behind.
            layout: where they lie.
            feed: wakes the writer.
            folders: held by whoever moves folders, so that no file is written into a place that is being left.
        """
        self._catalog = catalog
        self._layout = layout
        self._feed = feed
        self._folders = folders

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            news = self._feed.waiter(RUNS_TOPIC)
            while await self.write_pending():
                pass
            await news
            await asyncio.sleep(_PAUSE_SECONDS)

    async def write_pending(self) -> int:
        """Writes files that are behind, up to a bound, and gives their number."""
        written = await asyncio.get_running_loop().run_in_executor(None, self._write_batch)
        failpoint("snapshots.written")
        if written:
            await self._catalog.submit(lambda change: _clear(change, written))
        return len(written)

    def _write_batch(self) -> dict[Uid, Revision | InputTable]:
        with self._catalog.snapshot() as snapshot:
            pending = [Uid(key) for key, _ in islice(snapshot.scan(shelves.SNAPSHOTS), _BATCH)]
        written: dict[Uid, Revision | InputTable] = {}
        for uid in pending:
            with self._folders:
                planned = self._plan(uid)
                if planned is not None and _write(planned[0], planned[1]):
                    written[uid] = planned[2]
        return written

    def _plan(self, uid: Uid) -> tuple[Path, Mapping[str, object], Revision | InputTable] | None:
        """Which file to write, with what, and what it is then up with."""
        with self._catalog.snapshot() as snapshot:
            if snapshot.count(shelves.MOVES):
                return None
            run = snapshot.get(shelves.RUNS, uid)
            if run is not None:
                folder = self._layout.trashed(uid) if run.delete_time else self._layout.run(run.project, run.name)
                return folder / RUN_SNAPSHOT, full_document(snapshot, details_of(snapshot, run)), run.revision
            table = snapshot.get(shelves.INPUT_TABLES, uid)
            if table is None:
                return None
            folder = self._layout.input_table(table.project, table.dataset, table.name)
            return folder / TABLE_SNAPSHOT, {"format": FORMAT, "table": input_table_document(table)}, table


def full_document(snapshot: Snapshot, details: RunDetails) -> dict[str, object]:
    """The content of `run.json`; see docs/storage.md."""
    return {
        "format": FORMAT,
        "run": run_document(details.run),
        "inputs": values_document(details.inputs),
        "outputs": values_document(details.outputs),
        "metrics": [_table_document(snapshot, state) for state in details.tables],
    }


def _table_document(snapshot: Snapshot, state: TableState) -> object:
    uid = state.table.uid
    streams = {key[16:].decode(): [mark.sequence, mark.position] for key, mark in snapshot.scan(shelves.STREAMS, uid)}
    return {**table_document(state.table), "row_count": state.mark.rows, "streams": streams}


def _write(path: Path, document: Mapping[str, object]) -> bool:
    data = json.dumps(document, ensure_ascii=False, indent=1)
    try:
        write_durable_file(path, data.encode("utf-8", "surrogatepass"))
    except OSError as error:
        logger.warning("snapshot_failed", extra={"path": str(path), "error": str(error)})
        return False
    return True


def _clear(change: Change, written: Mapping[Uid, Revision | InputTable]) -> None:
    for uid, state in written.items():
        run = change.get(shelves.RUNS, uid)
        if state == (run.revision if run else change.get(shelves.INPUT_TABLES, uid)):
            change.delete(shelves.SNAPSHOTS, uid)
