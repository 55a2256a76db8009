"""Makes a run of a bundle: every file is checked against its checksum on its way, and every batch is validated.

Whoever wrote the bundle is not trusted: names are checked, nothing but a run's own files is taken, and the records of
its tables are made of the files themselves, as those of a lost catalog are.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Change
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import CorruptError, NotFoundError, OperationCancelledError, RundError
from rund_daemon.failpoints import failpoint
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource
from rund_daemon.limits import Limits
from rund_daemon.model import IfExists, Micros, Run, RunStatus, Uid
from rund_daemon.names import RunName, check_name, check_project
from rund_daemon.progress import Progress
from rund_daemon.quotas import Quotas
from rund_daemon.rebuilding.records import put_contents
from rund_daemon.rebuilding.runs import RebuiltRun, RunFolder, RunRebuilder
from rund_daemon.runs.creation import check_description, insert_run, merge_labels, merge_parameters, take_name
from rund_daemon.runs.trash import Retention
from rund_daemon.segments.layout import RUN_SNAPSHOT, Layout, make_durable_folder, sync_folder
from rund_daemon.segments.space import SpaceFloor

from .manifest import MANIFEST, FileEntry, Manifest
from .stores import Passed, Store, damaged, missing, pour

_CANCEL_SECONDS = 0.2
_METRICS = re.compile(r"metrics/([^/]+)/[0-9]{6,}\.arrow")


class BundleImports:
    """Takes bundles into the root."""

    def __init__(
        self,
        *,
        catalog: Catalog,
        layout: Layout,
        floor: SpaceFloor,
        feed: Feed,
        limits: Limits,
        clock: Clock,
        new_uid: UidSource,
        quotas: Quotas,
        retention: Retention,
    ) -> None:
        self._catalog = catalog
        self._quotas = quotas
        self._retention = retention
        self._layout = layout
        self._floor = floor
        self._feed = feed
        self._limits = limits
        self._clock = clock
        self._new_uid = new_uid

    async def import_run(
        self, store: Store, name: RunName, if_exists: IfExists, operation: Uid, progress: Progress
    ) -> Uid:
        """Makes a run of a bundle and gives its uid. An empty name is the bundle's own.

        Raises:
            NotFoundError: there is no bundle.
            CorruptError: it is damaged.
            ExistsError: the name is taken.
            ExhaustedError: there is no room on the disk, or in the project.
            OperationCancelledError: it was cancelled.
        """
        staging, now = self._layout.unfinished(operation), self._clock()
        loop = asyncio.get_running_loop()
        try:
            manifest, entries = await loop.run_in_executor(None, self._opened, store)
            passed = Passed(progress, sum(entry.size for entry in entries))
            record = [entry for entry in entries if entry.path == RUN_SNAPSHOT]
            await loop.run_in_executor(None, self._take, store, manifest, record, staging, passed)
            await self._check_quota(passed.total, name, staging)
            rest = [entry for entry in entries if entry.path != RUN_SNAPSHOT]
            await loop.run_in_executor(None, self._take, store, manifest, rest, staging, passed)
            progress.report(0.95, "checking")
            checking = loop.run_in_executor(None, self._checked_run, store.url, entries, name, staging, now)
            built = await _unless_cancelled(checking, progress)
            failpoint("importing.taken")
            progress.report(0.99, "publishing")
            run = await self._catalog.submit(lambda change: self._publish(change, built, if_exists, staging, now))
        except Exception:
            # As with a copy: not when this task is cancelled.
            await loop.run_in_executor(None, shutil.rmtree, staging, True)
            raise
        failpoint("importing.published")
        self._quotas.grow(run.project, passed.total)
        self._feed.publish((RUNS_TOPIC,))
        return run.uid

    @staticmethod
    def _opened(store: Store) -> tuple[Manifest, list[FileEntry]]:
        manifest = store.current()
        if manifest is None:
            raise missing(store.url, MANIFEST)
        return manifest, [entry for entry in manifest.files if _is_ours(entry.path)]

    def _take(
        self, store: Store, manifest: Manifest, entries: Iterable[FileEntry], staging: Path, passed: Passed
    ) -> None:
        for entry in entries:
            self._fetch(store, manifest, entry, staging, passed)

    async def _check_quota(self, size: int, name: RunName, staging: Path) -> None:
        """Before the rest is fetched. A record that can't be read is found out, and told, when it is checked."""
        project = name.project
        if not project:
            with suppress(OSError, ValueError, KeyError, TypeError):
                project = json.loads((staging / RUN_SNAPSHOT).read_bytes())["run"]["project"]
        if isinstance(project, str):
            (await self._quotas.allowance(project)).check(size)

    def _checked_run(self, url: str, entries: list[FileEntry], name: RunName, staging: Path, now: Micros) -> RebuiltRun:
        try:
            return self._built(url, entries, name, staging, now)
        except (ValueError, OSError) as error:
            raise CorruptError(f"{url} can't be read as a run: {str(error)[:300]}") from error

    def _fetch(self, store: Store, manifest: Manifest, entry: FileEntry, staging: Path, passed: Passed) -> None:
        target = staging / entry.path
        make_durable_folder(target.parent)
        self._floor.check(entry.size)
        try:
            opened = store.open(manifest, entry.path)
        except NotFoundError:
            raise damaged(store.url, entry.path, "it is not there") from None
        with opened as source, target.open("xb") as sink:
            found = pour(source, sink, entry.path, passed)
            sink.flush()
            os.fsync(sink.fileno())
        sync_folder(target.parent)
        if found.size != entry.size:
            raise damaged(store.url, entry.path, f"it has {found.size} bytes instead of {entry.size}")
        if found.sha256 != entry.sha256:
            raise damaged(store.url, entry.path, "its content does not match its checksum")

    def _built(self, url: str, entries: list[FileEntry], name: RunName, staging: Path, now: Micros) -> RebuiltRun:
        try:
            named = _named(staging, name)
        except (RundError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            raise damaged(url, RUN_SNAPSHOT, f"it is no run's record: {str(error)[:200]}") from error
        built = RunRebuilder(self._layout, "", now, self._new_uid).rebuild(RunFolder(staging, *named))
        if built is None or (lost := [note for note in built.notes if note.loses]):
            raise damaged(url, RUN_SNAPSHOT, lost[0].message if built else "it is no run's record")
        rows: Counter[str] = Counter()
        for entry in entries:
            if match := _METRICS.fullmatch(entry.path):
                rows[match[1]] += max(entry.rows, 0)
        for table in built.tables:
            if table.mark.rows != rows[table.table.name]:
                what = f"it has {table.mark.rows} readable rows instead of {rows[table.table.name]}"
                raise damaged(url, table.table.url, what)
        built.run = self._checked(built.run)
        return built

    def _checked(self, run: Run) -> Run:
        limits = self._limits
        return replace(
            run,
            description=check_description(run.description, limits),
            labels=merge_labels({}, dict(run.labels), limits),
            parameters=merge_parameters({}, run.parameters, limits),
        )

    def _publish(self, change: Change, built: RebuiltRun, if_exists: IfExists, staging: Path, now: Micros) -> Run:
        source = built.run
        name, _ = take_name(change, RunName(source.project, source.name), if_exists, now, self._layout, self._retention)
        run = replace(
            source,
            uid=self._new_uid(),
            name=name,
            create_time=now,
            update_time=now,
            delete_time=Micros(0),
            expire_time=Micros(0),
            # Nobody writes to it yet.
            status=source.status if source.status.ended else RunStatus.PAUSED,
            writers=(),
        )
        for table in built.tables:
            table.table = replace(table.table, uid=self._new_uid(), run_uid=run.uid)
            table.streams = {}
        built.run = run
        target = self._layout.run(run.project, run.name)
        add_move(change, self._layout.relative(staging), self._layout.relative(target))
        put_contents(change, built)
        return insert_run(change, run, now)


async def _unless_cancelled(checking: asyncio.Future[RebuiltRun], progress: Progress) -> RebuiltRun:
    """Waits for what reads all rows, and leaves it to itself when it is not wanted any more: it changes nothing."""
    while True:
        done, _ = await asyncio.wait([checking], timeout=_CANCEL_SECONDS)
        if done:
            return checking.result()
        try:
            progress.report(progress.share, progress.message)
        except OperationCancelledError:
            # Its end is nobody's business now, and that it could not find its files.
            checking.add_done_callback(lambda ended: ended.exception())
            raise


def _named(staging: Path, wanted: RunName) -> RunName:
    """What the run will be called. Its tables' names are checked before anybody makes paths of them."""
    document = json.loads((staging / RUN_SNAPSHOT).read_bytes())
    for item in document["metrics"]:
        if item["name"]:
            # Without a folder of its own an empty table would be looked for in the root.
            (staging / "metrics" / check_name(item["name"], "metrics")).mkdir(parents=True, exist_ok=True)
    project = check_project(wanted.project or document["run"]["project"], "project")
    return RunName(project, check_name(wanted.run or document["run"]["name"], "run_name"))


def _is_ours(path: str) -> bool:
    """Whether a file is one that a run has."""
    if match := _METRICS.fullmatch(path):
        try:
            return check_name(match[1], "metrics") == match[1]
        except RundError:
            return False
    return path == RUN_SNAPSHOT or path.startswith("bulk_data/")
