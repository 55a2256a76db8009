"""Reads rows out of data files, many at a time.

Rows of one shape are gathered by where they begin, a stretch of them in one step, and NumPy takes their
columns from where they lie, so that a reader costs the trainer little of the interpreter's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ._journal_files import DataFile
from ._journal_format import DATA_HEAD_BYTES
from ._journal_records import (
    CODE_END,
    CODE_ROW,
    CODE_SHAPE,
    FIRST_SHAPE_CODE,
    WORD,
    LooseRow,
    Shape,
    unpack_row,
    unpack_shape,
)

MAX_BATCH_ROWS = 64 * 1024
MAX_BATCH_BYTES = 1024 * 1024
"""Arrow bytes of a batch, counted as if no value were missing. Far below what any daemon takes."""

_ROW_BYTES = 20
_VALUE_BYTES = 8
_LOW = 0xFFFFFFFF
_NUMPY_CODES = ("", "?", "<i8", "<f8")

Records: TypeAlias = "npt.NDArray[np.void]"
"""Rows of one shape: fields ``step``, ``time``, and the values named ``0`` and so on."""


@dataclass(slots=True)
class Group:
    """Rows of one shape in one file, as stretches that lie side by side.

    Attributes:
        words: The file's words.
        shape: The rows' shape.
        dtype: The same for NumPy.
        size: Bytes of each row.
        begins: Where the stretches begin in the file.
        counts: How many rows each has.
        places: The place of its first row among the rows of the batch.
    """

    words: npt.NDArray[np.uint64]
    shape: Shape
    dtype: np.dtype[np.void]
    size: int
    begins: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def row_places(self) -> npt.NDArray[np.int64]:
        """The place of each row in the batch."""
        return self._spread(self.places, 1)

    def records(self) -> Records:
        """The rows."""
        if len(self.begins) == 1:
            return np.frombuffer(self.words, self.dtype, self.counts[0], self.begins[0])
        firsts = self._spread(self.begins, self.size) >> 3
        gathered: Records = self.words[firsts[:, None] + np.arange(self.size >> 3)].view(self.dtype)[:, 0]
        return gathered

    def _spread(self, firsts: list[int], stride: int) -> npt.NDArray[np.int64]:
        counts = np.array(self.counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        spread: npt.NDArray[np.int64] = np.repeat(np.array(firsts), counts) + within * stride
        return spread


@dataclass(slots=True)
class Rows:
    """What one batch is made of: the rows from one position of the journal to another.

    Attributes:
        begin: Position where the batch before it ended.
        end: Position after the last row.
        count: Rows.
        limit: How many rows it may have, with the columns that it has so far.
        groups: Rows of fixed size.
        loose: Rows that carry their keys, with their places.
        until: Position where the batch ends, however large it is; None: where it is full.
    """

    begin: int
    until: int | None = None
    end: int = 0
    count: int = 0
    limit: int = MAX_BATCH_ROWS
    groups: list[Group] = field(default_factory=list)
    loose: list[tuple[int, LooseRow]] = field(default_factory=list)
    _keys: set[str] = field(default_factory=set)
    _room: int = MAX_BATCH_BYTES

    def admit(self, keys: tuple[str, ...], extra_bytes: int) -> bool:
        """Makes room for rows with these keys; False when none of them fits."""
        self._keys.update(keys)
        self._room -= extra_bytes
        if self.until is not None:
            return True
        self.limit = min(MAX_BATCH_ROWS, self._room // (_ROW_BYTES + _VALUE_BYTES * len(self._keys)))
        # A row that is too large for any batch goes alone.
        self.limit = max(self.limit, 0 if self.count else 1)
        return self.count < self.limit


class FileRecords:
    """The complete records of one file, one after the other."""

    def __init__(self, file: DataFile) -> None:
        self.file = file
        self.offset = DATA_HEAD_BYTES
        self.ended = False
        self._words = np.frombuffer(file.memory, np.uint64)
        self._lows = self._words.view(np.uint32)[::2]
        self._shapes: dict[int, tuple[Shape, np.dtype[np.void]]] = {}

    def gather(self, rows: Rows) -> bool:
        """Adds rows until the batch is full (False) or all that is complete was taken."""
        stop, words, groups = self._stop(rows), self.file.words, dict[int, Group]()
        while self.offset < stop:
            begin = self.offset
            low = words[begin >> 3] & _LOW
            group = groups.get(low) or self._group(low, rows)
            if rows.count >= rows.limit:
                return False
            if group is None:
                continue
            groups[low] = group
            size, count = group.size, 1
            following = begin + size
            if following < stop and words[following >> 3] & _LOW == low:
                most = min((stop - begin) // size, rows.limit - rows.count)
                count = self._count_same(low, begin, size, most)
            group.begins.append(begin)
            group.counts.append(count)
            group.places.append(rows.count)
            rows.count += count
            self.offset = begin + count * size
        return True

    def _stop(self, rows: Rows) -> int:
        tail = self.file.tail
        return tail if rows.until is None else min(tail, rows.until - self.file.position(0))

    def _group(self, low: int, rows: Rows) -> Group | None:
        """A group for rows with that word; None when it is a record of another kind, which is taken here."""
        code, size = low >> 16, (low & 0xFFFF) * WORD
        if code >= FIRST_SHAPE_CODE:
            shape, dtype = self._shapes[code]
            if not rows.admit(shape.keys, 0):
                return None
            group = Group(self._words, shape, dtype, size)
            rows.groups.append(group)
            return group
        body = bytes(self.file.memory[self.offset + WORD : self.offset + size])
        if code == CODE_ROW:
            row = unpack_row(body)
            if not rows.admit(row.keys, size):
                return None
            rows.loose.append((rows.count, row))
            rows.count += 1
        elif code == CODE_SHAPE:
            shape = unpack_shape(body)
            self._shapes[shape.code] = (shape, _dtype(shape))
        self.ended = code == CODE_END
        self.offset += size
        return None

    def _count_same(self, low: int, begin: int, size: int, most: int) -> int:
        # Looks a little further each time, so that short stretches cost little and long ones few steps.
        step, first, known, span = size >> 3, begin >> 3, 1, 8
        while known < most:
            upto = min(most, known + span)
            same = self._lows[first + known * step : first + (upto - 1) * step + 1 : step] == low
            if not same.all():
                return known + int(same.argmin())
            known, span = upto, span * 8
        return known


class JournalReader:
    """Takes the rows of a journal, batch by batch, in the order in which they were logged.

    Args:
        files: The journal's files, in order. Those that were read may be taken off, and new ones be added.

    Attributes:
        position: Everything before it was taken.
    """

    def __init__(self, files: Sequence[DataFile]) -> None:
        self._files = files
        self._records: FileRecords | None = None
        self._cut_end = 0
        self.position = 0

    def take(self, until: int | None = None) -> Rows | None:
        """Takes the rows of the next batch; None when there are none.

        Args:
            until: Position where the batch ends, if that was settled before: the end of a cut.
        """
        rows = Rows(self._cut_end, until)
        if until is not None:
            rows.limit = sys.maxsize
        while (records := self._current()) is not None:
            complete = records.gather(rows)
            self.position = records.file.position(records.offset)
            if not (complete and records.ended):
                break
        if rows.count == 0:
            self._cut_end = until or self._cut_end
            return None
        rows.end = self._cut_end = self.position
        return rows

    def _current(self) -> FileRecords | None:
        records = self._records
        if records is not None and not records.ended:
            return records
        files = self._files
        if not files:
            return None
        place = 0 if records is None else records.file.number + 1 - files[0].number
        if place >= len(files):
            return None
        self._records = FileRecords(files[place])
        return self._records


def _dtype(shape: Shape) -> np.dtype[np.void]:
    names, formats, offsets, at = ["step", "time"], ["<i8", "<i8"], [8, 16], 24
    for place, kind in enumerate(shape.kinds):
        if code := _NUMPY_CODES[kind]:
            names.append(str(place))
            formats.append(code)
            offsets.append(at)
            at += np.dtype(code).itemsize
    spec = {"names": names, "formats": formats, "offsets": offsets, "itemsize": shape.row_bytes()}
    return np.dtype(spec)  # type: ignore[call-overload, no-any-return]  # the stubs want literal keys
