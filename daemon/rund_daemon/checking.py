"""`rund fsck`: compares the catalog with the files. Works on a root that no daemon owns; changes nothing by itself.

Everything that is committed is read: lengths, heads, checksums, the numbering of rows. What the catalog does not know
is listed too. `repair` mends what can be mended without guessing: it cuts tails off, puts stray files into trash, and
takes batches that can't be read any more out of the catalog, so that the rest of their table can be.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rund_daemon.catalog import Catalog, Change, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import tables_of
from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, MetricsTable, Run, Segment, TableMark, Uid
from rund_daemon.segments.layout import Layout, make_durable_folder
from rund_daemon.segments.open_segment import cut_back_file
from rund_daemon.segments.reader import SegmentReader


class Kind(enum.StrEnum):
    """What was found."""

    TAIL = "tail"  # bytes beyond the mark of an open segment: a killed daemon leaves them, a start cuts them off
    MISSING = "missing"  # a file that the catalog knows is not there
    SHORT = "short"  # a file is shorter than committed
    DAMAGED = "damaged"  # committed bytes do not match their checksum
    COUNT = "count"  # the rows of a table do not add up
    STRAY = "stray"  # a file or folder that the catalog does not know


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `loses` says that committed rows can't be read."""

    kind: Kind
    path: str
    message: str
    loses: bool = False
    table: Uid | None = None
    batch: BatchRef | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a check read, and what it found."""

    runs: int
    tables: int
    segments: int
    batches: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether everything that is committed can be read."""
        return not any(finding.loses for finding in self.findings)


def check(catalog: Catalog, layout: Layout) -> Report:
    """Reads everything that is committed, and looks for what is not known."""
    runs = tables = segments = batches = size = 0
    findings: list[Finding] = []
    with catalog.snapshot() as snapshot:
        for _, run in snapshot.scan(shelves.RUNS):
            runs += 1
            for state in tables_of(snapshot, run.uid):
                if state.table.reference_url:
                    continue
                known = [segment for _, segment in snapshot.scan(shelves.SEGMENTS, state.table.uid)]
                refs = [ref for _, ref in snapshot.scan(shelves.BATCHES, state.table.uid)]
                folder = layout.metrics_table(_home(layout, run), state.table.name)
                tables, segments, batches = tables + 1, segments + len(known), batches + len(refs)
                size += state.mark.bytes
                findings.extend(_check_table(state.table, state.mark, folder, known, refs))
        findings.extend(_strays(snapshot, layout))
    return Report(runs, tables, segments, batches, size, tuple(findings))


def repair(catalog: Catalog, layout: Layout, report: Report) -> int:
    """Mends what can be mended and gives the number of findings that were. No daemon may run."""
    mended = 0
    for finding in report.findings:
        if finding.kind is Kind.TAIL and finding.table is not None:
            mended += _cut_tail(catalog, layout, finding)
        elif finding.kind is Kind.STRAY:
            _set_aside(layout, Path(finding.path))
            mended += 1
        elif finding.batch is not None and finding.table is not None:
            table, batch = finding.table, finding.batch
            catalog.change_before_start(lambda change, t=table, b=batch: _forget(change, t, b))  # type: ignore[misc]  # defaults bind the loop's values
            mended += 1
    return mended


def _check_table(
    table: MetricsTable, mark: TableMark, folder: Path, segments: list[Segment], refs: list[BatchRef]
) -> Iterator[Finding]:
    readable: list[Segment] = []
    for segment in segments:
        finding = _check_file(table, folder / segment.file_name, segment)
        if finding is not None:
            yield finding
        if finding is None or not finding.loses:
            readable.append(segment)
    yield from _check_batches(table, folder, readable, refs)
    expected = 0
    for ref in refs:
        if ref.first_row != expected:
            yield Finding(
                Kind.COUNT, str(folder), f"rows {expected} to {ref.first_row - 1} are missing", True, table.uid
            )
        expected = ref.first_row + ref.rows
    if expected != mark.rows:
        message = f"the mark says {mark.rows} rows and the batches hold {expected}"
        yield Finding(Kind.COUNT, str(folder), message, expected < mark.rows, table.uid)


def _check_file(table: MetricsTable, path: Path, segment: Segment) -> Finding | None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return Finding(Kind.MISSING, str(path), f"{segment.rows} rows are gone", segment.rows > 0, table.uid)
    if size < segment.length:
        message = f"it has {size} bytes and {segment.length} are committed"
        return Finding(Kind.SHORT, str(path), message, True, table.uid)
    if size > segment.length and not segment.sealed:
        message = f"{size - segment.length} bytes beyond the mark"
        return Finding(Kind.TAIL, str(path), message, False, table.uid)
    return None


def _check_batches(
    table: MetricsTable, folder: Path, segments: list[Segment], refs: list[BatchRef]
) -> Iterator[Finding]:
    numbers = {segment.number for segment in segments}
    reader = SegmentReader(folder, segments)
    try:
        for ref in refs:
            if ref.segment not in numbers:
                yield Finding(Kind.DAMAGED, str(folder), _rows(ref), True, table.uid, ref)
                continue
            try:
                for _ in reader.read([ref]):
                    pass
            except CorruptError as error:
                yield Finding(Kind.DAMAGED, str(folder), f"{_rows(ref)}: {error.message}", True, table.uid, ref)
    finally:
        reader.close()


def _rows(ref: BatchRef) -> str:
    return f"rows {ref.first_row} to {ref.first_row + ref.rows - 1} can't be read"


def _strays(snapshot: Snapshot, layout: Layout) -> Iterator[Finding]:
    """Run folders and segment files that no record names."""
    for folder in layout.root.glob("*/runs/*"):
        project, run_name = folder.parts[-3], folder.parts[-1]
        uid = snapshot.get(shelves.RUN_NAMES, keys.names(project, run_name))
        run = snapshot.get(shelves.RUNS, uid) if uid else None
        if run is None:
            yield Finding(Kind.STRAY, str(folder), "no run of the catalog has this folder")
            continue
        known = {
            layout.metrics_table(folder, state.table.name) / segment.file_name
            for state in tables_of(snapshot, run.uid)
            for _, segment in snapshot.scan(shelves.SEGMENTS, state.table.uid)
        }
        for path in folder.glob("metrics/*/*"):
            if path not in known:
                yield Finding(Kind.STRAY, str(path), "no segment of the catalog has this file")


def _cut_tail(catalog: Catalog, layout: Layout, finding: Finding) -> int:
    with catalog.snapshot() as snapshot:
        lengths = {
            segment.file_name: segment.length for _, segment in snapshot.scan(shelves.SEGMENTS, finding.table or b"")
        }
    path = Path(finding.path)
    return int(cut_back_file(path, lengths[path.name]) > 0) if path.is_relative_to(layout.root) else 0


def _set_aside(layout: Layout, path: Path) -> None:
    make_durable_folder(layout.trash)
    target = layout.trash / f"fsck-{'-'.join(path.relative_to(layout.root).parts)}"[:200]
    path.rename(target)


def _forget(change: Change, table: Uid, batch: BatchRef) -> None:
    """Takes a batch out of the catalog. Its rows keep their numbers: readers see a gap, not other rows."""
    change.delete(shelves.BATCHES, keys.batch(table, batch.first_row))
    mark = change.get(shelves.MARKS, table) or TableMark()
    change.put(shelves.MARKS, table, replace(mark, batches=mark.batches - 1))


def _home(layout: Layout, run: Run) -> Path:
    return layout.trashed(run.uid) if run.delete_time else layout.run(run.project, run.name)
