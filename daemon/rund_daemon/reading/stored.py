"""Names rows of sealed files to readers on this host, who then map them: nothing of them is sent or copied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, Segment, Uid
from rund_daemon.segments.checked_segments import CheckedSegments, FileState

from .projection import Projection

STORED_BYTES = 64 * 1024 * 1024
"""What is named at a time: a reader that filters holds as much at once, and is told of progress in between."""


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """Rows of a batch in a file: how many of its first are skipped, and how many follow."""

    offset: int
    length: int
    skipped_rows: int
    rows: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A sealed file and the batches of it that are wanted."""

    path: Path
    state: FileState
    batches: tuple[StoredBatch, ...]


@dataclass(frozen=True, slots=True)
class Candidates:
    """Batches one after the other, with their segments and the folder of their table."""

    table: Uid
    folder: Path
    segments: Iterable[Segment]
    refs: tuple[BatchRef, ...]


def name_files(
    candidates: Candidates, projection: Projection, checked: CheckedSegments, begin: int, end: int
) -> tuple[list[StoredFile], int]:
    """Names as many of the first batches as lie in sealed files, with the types that the reader sees, and whole.

    What is not named is for whoever sends rows: it knows what to do with files that are gone or damaged.

    Args:
        candidates: the batches.
        projection: what the reader wants.
        checked: files that were found whole.
        begin: the first row that is wanted.
        end: the row after the last.

    Returns:
        the files, and how many batches they stand for.
    """
    fitting = {
        segment.number: segment
        for segment in candidates.segments
        if segment.sealed and projection.fits(segment.arrow_schema)
    }
    files: list[StoredFile] = []
    count = 0
    for number, group in groupby(candidates.refs, lambda ref: ref.segment):
        segment, refs = fitting.get(number), tuple(group)
        if segment is None:
            break
        try:
            state = checked.check(candidates.table, candidates.folder, segment, refs)
        except (OSError, CorruptError):
            break
        path = candidates.folder / segment.file_name
        files.append(StoredFile(path, state, tuple(_cut(refs, begin, end))))
        count += len(refs)
    return files, count


def _cut(refs: Iterable[BatchRef], begin: int, end: int) -> Iterator[StoredBatch]:
    for ref in refs:
        first, last = max(begin, ref.first_row), min(end, ref.first_row + ref.rows)
        yield StoredBatch(ref.offset, ref.length, first - ref.first_row, last - first)
