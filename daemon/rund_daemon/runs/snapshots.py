"""Keeps each run's `run.json` up with the catalog: for people, and for making a lost catalog again.

The catalog lists the runs whose file is behind, so a crash only delays it. Writing is off the way of every request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import math
import threading
from dataclasses import asdict
from itertools import islice

from rund_daemon.catalog import Catalog, Change, shelves
from rund_daemon.catalog.lookup import RunDetails, TableState, details_of
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import uid_text
from rund_daemon.model import Revision, Uid
from rund_daemon.segments.layout import RUN_SNAPSHOT, Layout, write_durable_file

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

    def _write_batch(self) -> dict[Uid, Revision]:
        with self._catalog.snapshot() as snapshot:
            pending = [Uid(key) for key, _ in islice(snapshot.scan(shelves.SNAPSHOTS), _BATCH)]
        written: dict[Uid, Revision] = {}
        for uid in pending:
            with self._folders:
                details = self._details(uid)
                if details is not None and self._write(details):
                    written[uid] = details.run.revision
        return written

    def _details(self, uid: Uid) -> RunDetails | None:
        with self._catalog.snapshot() as snapshot:
            run = snapshot.get(shelves.RUNS, uid)
            if run is None or snapshot.count(shelves.MOVES):
                return None
            return details_of(snapshot, run)

    def _write(self, details: RunDetails) -> bool:
        run = details.run
        folder = self._layout.trashed(run.uid) if run.delete_time else self._layout.run(run.project, run.name)
        data = json.dumps(run_document(details), ensure_ascii=False, indent=1)
        try:
            write_durable_file(folder / RUN_SNAPSHOT, data.encode("utf-8", "surrogatepass"))
        except OSError as error:
            logger.warning("run_json_failed", extra={"run": run.resource_name, "error": str(error)})
            return False
        return True


def run_document(details: RunDetails) -> dict[str, object]:
    """The content of `run.json`. Times are microseconds since 1970 UTC; see docs/storage.md."""
    run = asdict(details.run)
    run["uid"] = uid_text(details.run.uid)
    return {
        "format": FORMAT,
        "run": _plain(run),
        "inputs": _plain(list(details.inputs)),
        "outputs": _plain(list(details.outputs)),
        "metrics": [_table_document(state) for state in details.tables],
    }


def _table_document(state: TableState) -> object:
    table = asdict(state.table)
    del table["arrow_schema"], table["run_uid"]
    table["uid"] = uid_text(state.table.uid)
    return _plain({**table, "url": state.table.url, "row_count": state.mark.rows})


def _plain(value: object) -> object:
    """JSON has neither bytes nor NaN: they become `{"$bytes": base64}` and `{"$double": text}`."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$double": repr(value)}
    return value


def _clear(change: Change, written: dict[Uid, Revision]) -> None:
    for uid, revision in written.items():
        run = change.get(shelves.RUNS, uid)
        if run is None or run.revision == revision:
            change.delete(shelves.SNAPSHOTS, uid)
