"""Sealed files that readers on this host may read themselves: batches are compared with their checksums once.

Arrow takes zeros for rows, and a client that maps a file checks nothing. So a batch is read and compared before its
file is named, and again only if the file is no longer the one that was read.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, Segment, Uid

from .reader import SegmentReader

_MOST_FILES = 4096
"""So many are remembered, those that were asked for last: of most only that they are whole."""
_MOST_BATCHES = 131_072
"""So many batches are remembered of files that were not read whole: some ten megabytes."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from another that stands at its path: it changes when its content does."""

    inode: int
    size: int
    modify_time_ns: int


@dataclass(slots=True)
class _Known:
    """What was compared of a file: the offsets of batches, or all of it."""

    state: FileState
    offsets: set[int]
    whole: bool = False


class CheckedSegments:
    """Which batches of which files were found whole. Used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[tuple[Uid, int], _Known] = OrderedDict()
        self._batches = 0

    def check(self, table: Uid, folder: Path, segment: Segment, refs: Sequence[BatchRef]) -> FileState:
        """Checks batches of a sealed segment, unless they were checked before, and tells its file.

        Raises:
            FileNotFoundError: the file is not there any more.
            CorruptError: it is not what was written.
        """
        reader = SegmentReader(folder, (segment,))
        try:
            found = reader.state(segment.number)
            state = FileState(found.st_ino, found.st_size, found.st_mtime_ns)
            if state.size != segment.length:
                raise CorruptError(f"segment {segment.file_name} has {state.size} bytes, of {segment.length} committed")
            missing = self._unknown(table, segment, state, refs)
            for _ in reader.read(missing):
                pass  # it has compared it
        finally:
            reader.close()
        if missing:
            self._remember(table, segment, state, missing)
        return state

    def _unknown(self, table: Uid, segment: Segment, state: FileState, refs: Sequence[BatchRef]) -> list[BatchRef]:
        with self._lock:
            known = self._files.get((table, segment.number))
            if known is None or known.state != state:
                return list(refs)
            return [] if known.whole else [ref for ref in refs if ref.offset not in known.offsets]

    def _remember(self, table: Uid, segment: Segment, state: FileState, refs: Sequence[BatchRef]) -> None:
        key = (table, segment.number)
        with self._lock:
            known = self._files.pop(key, None)
            self._batches -= len(known.offsets) if known else 0
            if known is None or known.state != state:
                known = _Known(state, set())
            known.offsets.update(ref.offset for ref in refs)
            if len(known.offsets) == segment.batches:
                known.whole, known.offsets = True, set()
            self._files[key] = known
            self._batches += len(known.offsets)
            while len(self._files) > _MOST_FILES or self._batches > _MOST_BATCHES:
                _, oldest = self._files.popitem(last=False)
                self._batches -= len(oldest.offsets)
