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
"""So many are remembered, those that were asked for last: with their batches they take a few megabytes."""


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells a file from another that stands at its path: it changes when its content does."""

    inode: int
    size: int
    modify_time_ns: int


class CheckedSegments:
    """Which batches of which files were found whole. Used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._whole: OrderedDict[tuple[Uid, int], tuple[FileState, set[int]]] = OrderedDict()

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
            known = self._known(table, segment, state)
            missing = [ref for ref in refs if ref.offset not in known]
            for _ in reader.read(missing):
                pass  # it has compared it
        finally:
            reader.close()
        with self._lock:
            known.update(ref.offset for ref in missing)
        return state

    def _known(self, table: Uid, segment: Segment, state: FileState) -> set[int]:
        key = (table, segment.number)
        with self._lock:
            before, known = self._whole.get(key, (state, set[int]()))
            if before != state:
                known = set()
            self._whole[key] = (state, known)
            self._whole.move_to_end(key)
            if len(self._whole) > _MOST_FILES:
                self._whole.popitem(last=False)
            return known
