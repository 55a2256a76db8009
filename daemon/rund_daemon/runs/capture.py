"""Takes one committed state of a run: its records, and its files in a folder of their own.

Sealed segments never change, so they are hard-linked; open ones are copied up to their committed mark. What was taken
stays as it is, whatever is sealed, renamed or deleted meanwhile.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.catalog import Catalog, keys, shelves
from rund_daemon.catalog.lookup import RunDetails, TableState, details_of, find_run
from rund_daemon.errors import CorruptError, Reason, StateError
from rund_daemon.identity import UidSource
from rund_daemon.model import BatchRef, Revision, Run, Segment, Uid
from rund_daemon.names import RunName
from rund_daemon.progress import Progress
from rund_daemon.segments.layout import Layout, make_durable_folder, sync_folder
from rund_daemon.segments.space import SpaceFloor

_BUFFER = 8 * 1024 * 1024
_ATTEMPTS = 5
# A folder is moved within milliseconds of the commit that says so, unless the disk is full.
_SETTLE_SECONDS = 5.0
_LOOKS = 100


@dataclass(frozen=True, slots=True)
class CapturedTable:
    """The records of a metrics table; `uid` is for a copy of it."""

    state: TableState
    uid: Uid
    segments: tuple[Segment, ...]
    states: tuple[tuple[int, bytes], ...]
    refs: tuple[BatchRef, ...]


@dataclass(frozen=True, slots=True)
class CapturedRun:
    """The records of a run."""

    details: RunDetails
    tables: tuple[CapturedTable, ...]


class RunCapture:
    """Takes states of runs."""

    def __init__(self, catalog: Catalog, layout: Layout, floor: SpaceFloor, new_uid: UidSource) -> None:
        self._catalog = catalog
        self._layout = layout
        self._floor = floor
        self._new_uid = new_uid

    def take(self, source: RunName, staging: Path, progress: Progress, *, bulk_data: bool = True) -> CapturedRun:
        """Takes a run's state. Blocks: it copies files.

        Args:
            source: the run.
            staging: folder for the files, which is not there yet.
            progress: is told of it.
            bulk_data: whether the caller's side files are taken, too.

        Raises:
            NotFoundError: there is no such run.
            StateError: it changes faster than it can be taken.
        """
        for _ in range(_ATTEMPTS):
            copy = self._plan(source)
            try:
                with self._folder_of(copy.details.run.uid) as folder:
                    self._copy_tables(copy, folder, staging, progress)
                    if bulk_data:
                        self._copy_bulk_data(folder / "bulk_data", staging / "bulk_data", progress)
            except FileNotFoundError:
                # Sealed meanwhile, or in trash: look again.
                shutil.rmtree(staging, ignore_errors=True)
            else:
                return copy
        raise StateError(Reason.WRONG_STATE, f"name: {source.run!r} changes faster than it can be copied; try again")

    @contextmanager
    def _folder_of(self, uid: Uid) -> Iterator[Path]:
        """A run's folder by its descriptor, so that it stays the same one whatever is renamed meanwhile."""
        descriptor = self._opened(uid)
        try:
            # A run that has logged nothing may have no folder. What its own name is by then may be another run's: so
            # it is looked for where a uid names it, and is not found.
            yield self._layout.trashed(uid) if descriptor is None else Path(f"/proc/self/fd/{descriptor}")
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _opened(self, uid: Uid) -> int | None:
        """Opens a run's folder, if it has one.

        Raises:
            FileNotFoundError: it is in trash, or the root changes too fast for saying which folder it is.
        """
        for _ in range(_LOOKS):
            self._catalog.wait_until_settled(_SETTLE_SECONDS)
            revision, run = self._seen(uid)
            if run is None or run.delete_time:
                break
            descriptor = None
            with suppress(FileNotFoundError):
                descriptor = os.open(
                    self._layout.run(run.project, run.name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
            # If nothing has changed in the root since, it was this run's folder and no other's when it was opened.
            if revision is not None and self._seen(uid)[0] == revision:
                return descriptor
            if descriptor is not None:
                os.close(descriptor)
        raise FileNotFoundError(uid.hex())

    def _seen(self, uid: Uid) -> tuple[Revision | None, Run | None]:
        """The root's revision, None while folders are to be moved, and the run."""
        with self._catalog.snapshot() as snapshot:
            is_settled = snapshot.count(shelves.MOVES) == 0
            return snapshot.revision if is_settled else None, snapshot.get(shelves.RUNS, uid)

    def _plan(self, source: RunName) -> CapturedRun:
        with self._catalog.snapshot() as snapshot:
            details = details_of(snapshot, find_run(snapshot, source))
            tables = [
                CapturedTable(
                    state,
                    self._new_uid(),
                    tuple(segment for _, segment in snapshot.scan(shelves.SEGMENTS, state.table.uid)),
                    tuple(
                        (keys.number_of(key), value)
                        for key, value in snapshot.scan(shelves.OPEN_SEGMENTS, state.table.uid)
                    ),
                    tuple(ref for _, ref in snapshot.scan(shelves.BATCHES, state.table.uid)),
                )
                for state in details.tables
            ]
        return CapturedRun(details, tuple(tables))

    def _copy_tables(self, copy: CapturedRun, folder: Path, staging: Path, progress: Progress) -> None:
        make_durable_folder(staging)
        for done, table in enumerate(copy.tables):
            progress.report(0.9 * done / len(copy.tables), f"table {table.state.table.url}")
            origin = self._layout.metrics_table(folder, table.state.table.name)
            target = self._layout.metrics_table(staging, table.state.table.name)
            for segment in table.segments:
                make_durable_folder(target)
                self._copy_segment(origin / segment.file_name, target / segment.file_name, segment, progress)
            if table.segments:
                sync_folder(target)

    def _copy_segment(self, origin: Path, target: Path, segment: Segment, progress: Progress) -> None:
        if segment.sealed:
            try:
                os.link(origin, target)
                return
            except FileNotFoundError:
                raise
            except OSError:
                pass  # the file system has no hard links, or too many of this file: copy as below
        with origin.open("rb") as source, target.open("xb") as sink:
            left = segment.length
            while left:
                progress.report(progress.share, progress.message)
                self._floor.check(min(left, _BUFFER))
                data = source.read(min(left, _BUFFER))
                if not data:
                    raise CorruptError(
                        f"{origin.resolve()} is {left} bytes shorter than committed; restore it from a copy"
                    )
                sink.write(data)
                left -= len(data)
            sink.flush()
            os.fdatasync(sink.fileno())

    def _copy_bulk_data(self, origin: Path, target: Path, progress: Progress) -> None:
        """Copies the caller's files; they may change later, so they are never linked."""
        if not origin.is_dir():
            return

        def copy(source: str, destination: str) -> str:
            progress.report(0.95, "bulk data")
            self._floor.check(Path(source).stat().st_size)
            shutil.copy2(source, destination)
            with Path(destination).open("rb") as file:
                os.fsync(file.fileno())
            return destination

        try:
            shutil.copytree(origin, target, copy_function=copy, symlinks=True)
        except shutil.Error as error:
            # It gathers the errors of all files. A training that keeps its last checkpoints removes others any time.
            if any(os.path.lexists(source) for source, _, _ in error.args[0]):
                raise
