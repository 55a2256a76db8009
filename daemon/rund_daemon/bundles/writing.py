"""Copies a run into a bundle: one committed state of it, whole or not at all."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from pathlib import Path

from rund_daemon.catalog import Snapshot
from rund_daemon.catalog.lookup import find_run
from rund_daemon.documents import run_document, table_document, values_document
from rund_daemon.errors import RundError
from rund_daemon.failpoints import failpoint
from rund_daemon.identity import Clock
from rund_daemon.model import IfExists, RunStatus, Segment, Uid
from rund_daemon.names import RunName
from rund_daemon.progress import Progress
from rund_daemon.runs.capture import CapturedRun, CapturedTable, RunCapture
from rund_daemon.runs.snapshots import FORMAT
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import RUN_SNAPSHOT, Layout
from rund_daemon.segments.reader import SegmentReader
from rund_daemon.segments.schemas import unify
from rund_daemon.segments.seal import write_sealed
from rund_daemon.segments.space import SpaceFloor

from .manifest import FileEntry, Manifest
from .stores import Passed, Store


@dataclass(frozen=True, slots=True)
class _Source:
    """A file that goes into a bundle."""

    entry: str
    path: Path
    rows: int = -1
    unchanging: bool = True

    @property
    def size(self) -> int:
        """Its bytes now."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


class BundleCopies:
    """Makes bundles of runs."""

    def __init__(
        self, capture: RunCapture, layout: Layout, floor: SpaceFloor, compression: Compression, clock: Clock
    ) -> None:
        self._capture = capture
        self._layout = layout
        self._floor = floor
        self._compression = compression
        self._clock = clock

    @staticmethod
    def check(snapshot: Snapshot, source: RunName) -> None:
        """Refuses at once what can't succeed. Raises NotFoundError."""
        find_run(snapshot, source)

    async def copy(
        self, source: RunName, store: Store, if_exists: IfExists, operation: Uid, progress: Progress
    ) -> None:
        """Copies a run. Raises ExistsError, OperationCancelledError, ExhaustedError."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._copy, source, store, if_exists, operation, progress)

    def _copy(self, source: RunName, store: Store, if_exists: IfExists, operation: Uid, progress: Progress) -> None:
        staging, copy_id = self._layout.unfinished(operation), operation.hex()
        try:
            store.check_free(if_exists)
            captured = self._capture.take(source, staging, progress, bulk_data=False)
            failpoint("bundle.captured")
            self._write(captured, store, if_exists, copy_id, staging, progress)
        except BaseException:
            _discard(store, copy_id)
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _write(
        self,
        captured: CapturedRun,
        store: Store,
        if_exists: IfExists,
        copy_id: str,
        staging: Path,
        progress: Progress,
    ) -> None:
        run = captured.details.run
        for table in captured.tables:
            self._seal(table, self._layout.metrics_table(staging, table.state.table.name), progress)
        (staging / RUN_SNAPSHOT).write_bytes(_document(captured))
        bulk, left_out = _bulk_data(self._layout.bulk_data(run.project, run.name))
        sources = [_Source(RUN_SNAPSHOT, staging / RUN_SNAPSHOT), *_metrics(captured, staging), *bulk]
        passed = Passed(progress, sum(item.size for item in sources))
        entries: list[FileEntry] = []
        for item in sources:
            try:
                entry = store.add(copy_id, item.entry, item.path, passed, link=item.unchanging)
            except FileNotFoundError:
                if item.unchanging:
                    raise
                left_out.append(item.entry)
                continue
            entries.append(replace(entry, rows=item.rows))
            failpoint("bundle.file_written")
        current = store.current() if if_exists is IfExists.OVERWRITE else None
        progress.report(0.99, "publishing")
        manifest = Manifest(
            copy_id,
            self._clock(),
            store.folder(copy_id),
            current.parts if current else (),
            tuple(entries),
            tuple(left_out),
        )
        store.publish(manifest, if_exists)

    def _seal(self, table: CapturedTable, folder: Path, progress: Progress) -> None:
        """Seals what is open of a table, in the folder in which it was captured."""
        for sealed, group in groupby(sorted(table.segments, key=lambda item: item.number), lambda item: item.sealed):
            if sealed:
                continue
            segments = list(group)
            progress.report(progress.share, f"table {table.state.table.url}")
            self._floor.check(sum(segment.length for segment in segments))
            numbers = {segment.number for segment in segments}
            refs = [ref for ref in table.refs if ref.segment in numbers]
            reader = SegmentReader(folder, segments)
            try:
                path = folder / f"{segments[0].number:06d}.arrow"
                head = _head(table, segments)
                write_sealed(path, head, reader.read(refs), segments[0].number, self._compression)
            finally:
                reader.close()


def _head(table: CapturedTable, segments: Sequence[Segment]) -> bytes:
    record = table.state.table
    schema = reduce(unify, (read_head(segment.arrow_schema) for segment in segments))
    tables = {record.input_table_id: record.foreign_table_url} if record.foreign_table_url else {}
    return segment_head(schema, record.columns, tables)


def _metrics(captured: CapturedRun, staging: Path) -> Iterator[_Source]:
    """The sealed files of all tables, each table's in the order of its rows."""
    for table in captured.tables:
        segments = sorted(table.segments, key=lambda item: item.number)
        for sealed, group in groupby(segments, lambda item: item.sealed):
            files = list(group)
            parts = [(item.number, item.rows) for item in files]
            for number, rows in parts if sealed else [(parts[0][0], sum(rows for _, rows in parts))]:
                entry = f"{table.state.table.url}/{number:06d}.arrow"
                yield _Source(entry, staging / entry, rows)


def _bulk_data(folder: Path) -> tuple[list[_Source], list[str]]:
    """The caller's files, which may change at any time, and what is left out: a link may lead anywhere."""
    found: list[_Source] = []
    left_out: list[str] = []
    for path, folders, names in os.walk(folder):
        for name in sorted([*names, *folders]):
            item = Path(path) / name
            entry = str(Path("bulk_data") / item.relative_to(folder))
            if item.is_symlink() or not (item.is_file() or item.is_dir()):
                left_out.append(entry)
            elif item.is_file():
                found.append(_Source(entry, item, unchanging=False))
    return found, left_out


def _document(captured: CapturedRun) -> bytes:
    """The `run.json` of a bundle. Nobody writes to a copy."""
    details = captured.details
    status = details.run.status if details.run.status.ended else RunStatus.PAUSED
    metrics = [
        {**table_document(replace(state.table, sealed=True)), "row_count": state.mark.rows} for state in details.tables
    ]
    document = {
        "format": FORMAT,
        "run": run_document(replace(details.run, status=status, writers=())),
        "inputs": values_document(details.inputs),
        "outputs": values_document(details.outputs),
        "metrics": metrics,
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass")


def _discard(store: Store, copy_id: str) -> None:
    try:
        store.discard(copy_id)
    except (RundError, OSError):
        return  # it can't be reached now; the next start tries it again
