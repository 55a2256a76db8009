"""`rund fsck`: compares the catalog with the files. Works on a root that no daemon owns; changes nothing by itself.

Everything that is committed is read: lengths, checksums, the numbering of rows, the rows of input tables. What the
catalog does not know is listed too. Rows that a repair has taken out leave a gap in the numbering, which is no fault.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import tables_of
from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, InputTable, MetricsTable, Run, Segment, TableMark
from rund_daemon.segments.layout import TABLE_DATA, Layout
from rund_daemon.segments.reader import SegmentReader
from rund_daemon.segments.table_data import content_hash_of

from .findings import Finding, Kind, Report
from .repairing import repair

__all__ = ["Finding", "Kind", "Report", "check", "repair"]


def check(catalog: Catalog, layout: Layout) -> Report:
    """Reads everything that is committed, and looks for what is not known."""
    runs = tables = segments = batches = size = inputs = 0
    findings: list[Finding] = []
    with catalog.snapshot() as snapshot:
        for _, run in snapshot.scan(shelves.RUNS):
            runs += 1
            files: set[Path] = set()
            for state in tables_of(snapshot, run.uid):
                if state.table.reference_url:
                    continue
                known = [segment for _, segment in snapshot.scan(shelves.SEGMENTS, state.table.uid)]
                refs = [ref for _, ref in snapshot.scan(shelves.BATCHES, state.table.uid)]
                folder = layout.metrics_table(_home(layout, run), state.table.name)
                files.update(folder / segment.file_name for segment in known)
                tables, segments, batches = tables + 1, segments + len(known), batches + len(refs)
                size += state.mark.bytes
                findings.extend(_check_table(state.table, state.mark, folder, known, refs))
            findings.extend(_stray_files(_home(layout, run), files))
        for _, table in snapshot.scan(shelves.INPUT_TABLES):
            inputs += 1
            findings.extend(_check_input_table(layout, table))
        findings.extend(_stray_folders(snapshot, layout))
    return Report(runs, tables, segments, batches, size, inputs, tuple(findings))


def _check_table(
    table: MetricsTable, mark: TableMark, folder: Path, segments: list[Segment], refs: list[BatchRef]
) -> Iterator[Finding]:
    readable: list[Segment] = []
    for segment in segments:
        finding = _check_file(table, folder / segment.file_name, segment)
        if finding is not None:
            yield finding
        if finding is None or finding.kind is not Kind.MISSING:
            readable.append(segment)
    yield from _check_batches(table, folder, readable, refs)
    yield from _check_count(table, mark, folder, refs)


def _check_count(table: MetricsTable, mark: TableMark, folder: Path, refs: list[BatchRef]) -> Iterator[Finding]:
    if len(refs) != mark.batches:
        message = f"the mark says {mark.batches} batches and the catalog has {len(refs)}"
        yield Finding(Kind.COUNT, str(folder), message, len(refs) < mark.batches, table.uid)
    expected = 0
    for ref in refs:
        if ref.first_row < expected:
            message = f"rows {ref.first_row} to {expected - 1} are there twice"
            yield Finding(Kind.COUNT, str(folder), message, False, table.uid)
        expected = ref.first_row + ref.rows
    if expected > mark.rows:
        message = f"the mark says {mark.rows} rows and the batches go up to {expected}"
        yield Finding(Kind.COUNT, str(folder), message, True, table.uid)


def _check_file(table: MetricsTable, path: Path, segment: Segment) -> Finding | None:
    try:
        size = path.stat().st_size
    except OSError as error:
        message = f"{segment.rows} rows are gone: {error.strerror}"
        return Finding(Kind.MISSING, str(path), message, segment.rows > 0, table.uid)
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
            except (CorruptError, OSError) as error:
                reason = error.message if isinstance(error, CorruptError) else str(error)
                yield Finding(Kind.DAMAGED, str(folder), f"{_rows(ref)}: {reason}", True, table.uid, ref)
    finally:
        reader.close()


def _rows(ref: BatchRef) -> str:
    return f"rows {ref.first_row} to {ref.first_row + ref.rows - 1} can't be read"


def _check_input_table(layout: Layout, table: InputTable) -> Iterator[Finding]:
    if table.registered_url:
        return  # its files are not ours, and may change
    path = layout.input_table(table.project, table.dataset, table.name) / TABLE_DATA
    try:
        size = path.stat().st_size
    except OSError as error:
        message = f"the {table.row_count} rows of an input table are gone: {error.strerror}"
        yield Finding(Kind.MISSING, str(path), message, loses=True)
        return
    if size < table.file_size:
        yield Finding(Kind.SHORT, str(path), f"it has {size} bytes of {table.file_size}", loses=True)
        return
    try:
        whole = content_hash_of(path) == table.content_hash
    except (OSError, ValueError, ArithmeticError) as error:
        yield Finding(Kind.DAMAGED, str(path), f"it can't be read: {str(error)[:200]}", loses=True)
        return
    if not whole:
        yield Finding(Kind.DAMAGED, str(path), "its rows do not match their checksum", loses=True)


def _stray_files(home: Path, known: set[Path]) -> Iterator[Finding]:
    for path in sorted(home.glob("metrics/*/*")):
        if path not in known:
            yield Finding(Kind.STRAY, str(path), "no segment of the catalog has this file")


def _stray_folders(snapshot: Snapshot, layout: Layout) -> Iterator[Finding]:
    for folder in sorted(layout.root.glob("*/runs/*")):
        project, run_name = folder.parts[-3], folder.parts[-1]
        if not snapshot.has(shelves.RUN_NAMES, keys.names(project, run_name)):
            yield Finding(Kind.STRAY, str(folder), "no run of the catalog has this folder")
    for folder in sorted(layout.root.glob("*/datasets/*/tables/*")):
        names = folder.parts[-5], folder.parts[-3], folder.parts[-1]
        if not snapshot.has(shelves.INPUT_TABLE_NAMES, keys.digest(*names)):
            yield Finding(Kind.STRAY, str(folder), "no input table of the catalog has this folder")


def _home(layout: Layout, run: Run) -> Path:
    return layout.trashed(run.uid) if run.delete_time else layout.run(run.project, run.name)
