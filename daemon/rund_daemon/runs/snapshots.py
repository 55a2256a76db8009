"""Keeps `run.json` and `table.json` up with the catalog: for people, and for making a lost catalog again.

The catalog lists the runs and input tables whose file is behind, so a crash only delays it. Writing is off the way of
every request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
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
# A run that changes all the time is written once in this long, and a large one more seldom: the file of a run with a
# thousand tables takes a tenth of a second of the interpreter that serves everybody.
_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0
_SHARE = 0.03
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
        self._worked_seconds = 0.0

    async def run(self) -> None:
        """Writes until it is cancelled."""
        while True:
            news = self._feed.waiter(RUNS_TOPIC)
            self._worked_seconds = 0.0
            # What has changed again meanwhile waits for the next time: there would be no end.
            done: set[Uid] = set()
            while written := await self.write_pending(done):
                done |= written
            pause = min(self._worked_seconds / _SHARE, _LONGEST_PAUSE_SECONDS)
            await news
            await asyncio.sleep(max(pause, _PAUSE_SECONDS))

    async def write_pending(self, but: AbstractSet[Uid] = frozenset()) -> AbstractSet[Uid]:
        """Writes files that are behind, but for some, up to a bound, and says of what."""
        written = await asyncio.get_running_loop().run_in_executor(None, self._write_batch, but)
        failpoint("snapshots.written")
        if written:
            await self._catalog.submit(lambda change: _clear(change, written))
        return written.keys()

    def _write_batch(self, but: AbstractSet[Uid]) -> dict[Uid, Revision | InputTable]:
        begun = time.thread_time()
        try:
            return self._write_some(but)
        finally:
            self._worked_seconds += time.thread_time() - begun

    def _write_some(self, but: AbstractSet[Uid]) -> dict[Uid, Revision | InputTable]:
        with self._catalog.snapshot() as snapshot:
            behind = (Uid(key) for key, _ in snapshot.scan(shelves.SNAPSHOTS))
            pending = list(islice((uid for uid in behind if uid not in but), _BATCH))
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
