"""Finds runs among a hundred thousand: the fields that filters and orders name, as columns in memory.

Nothing is read before it is asked for. A column is made by one pass over the catalog, and kept up to date by the events
of the root; the columns that were not used for the longest time are dropped when all together pass a bound.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from rund_rows.filter_grammar import And, Comparison, Filter, Not, Or, leaves

from rund_daemon.catalog import Snapshot, keys, shelves
from rund_daemon.catalog.run_fields import Path, RunFields
from rund_daemon.model import Revision, Uid, Value

from .filters import RUN_TEXTS, comparer, has_word
from .order_by import OrderBy, sort_key
from .positions import Position
from .run_columns import Column, Mask, Rows

TIMES = ("create_time", "update_time", "end_time", "delete_time")
MAX_BYTES = 64 * 1024 * 1024

_DELETED: Path = ("delete_time",)
_PROJECT: Path = ("project_name",)
# Beyond so many changes it is faster to begin anew.
_MAX_CHANGES = 20_000


class RunIndex:
    """The columns of one root. For one thread at a time; what it gives is true for the snapshot that it was given."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._revision = Revision(-1)
        self._uids: list[Uid] = []
        self._columns: dict[Path, Column] = {}

    @property
    def size_bytes(self) -> int:
        """Roughly how much memory the columns take."""
        return sum(column.size_bytes for column in self._columns.values()) + 4 * len(self._columns) * len(self._uids)

    def find(
        self, snapshot: Snapshot, tree: Filter, order: OrderBy, *, project: str = "", deleted: bool = False
    ) -> FoundRuns:
        """Gives the runs for which a filter holds, in an order; the newest come first among equals.

        Args:
            snapshot: the catalog at one moment, not older than those of earlier calls.
            tree: the filter.
            order: what they are sorted by; empty: the newest come first.
            project: which project; empty means all.
            deleted: whether runs in trash are meant too.
        """
        paths = {path for path, _ in order}
        for leaf in leaves(tree):
            paths.update(RUN_TEXTS if not isinstance(leaf, Comparison) else [leaf.path])
        wanted = [*([_PROJECT] if project else []), *([] if deleted else [_DELETED]), *sorted(paths)]
        self._refresh(snapshot)
        self._load(snapshot, wanted)
        evaluation = _Evaluation(snapshot, self._uids, self._columns)
        mask = evaluation.mask(tree)
        if not deleted:
            mask &= evaluation.holds(_DELETED, lambda time: time is None)
        if project:
            mask &= evaluation.holds(_PROJECT, lambda name: name == project)
        rows = np.flatnonzero(mask)[::-1]
        terms = [(self._columns[path], descending) for path, descending in order]
        if terms and len(rows):
            # The last key decides first; equal ones stay as they are, the newest first.
            ranks = [column.ranks(rows, descending=descending) for column, descending in terms]
            rows = rows[np.lexsort(ranks[::-1])]
        return FoundRuns(rows, self._uids, order, [column for column, _ in terms])

    def _refresh(self, snapshot: Snapshot) -> None:
        revision = snapshot.revision
        if revision != self._revision and not self._catch_up(snapshot, revision):
            self._columns.clear()
        if snapshot.count(shelves.RUNS) != len(self._uids):
            # Collected runs leave without an event.
            self._columns.clear()
        self._revision = revision

    def _catch_up(self, snapshot: Snapshot, revision: Revision) -> bool:
        """Takes in what has changed, if it is known and little enough to be worth it."""
        behind = revision - self._revision
        if not self._columns or not 0 < behind <= _MAX_CHANGES:
            return False
        events = islice(snapshot.scan(shelves.EVENTS, start=keys.u64(self._revision + 1)), behind)
        changes = {event.revision: event.run_uid for _, event in events}
        if len(changes) != behind:
            return False
        fields = RunFields(list(self._columns))
        for uid in dict.fromkeys(changes.values()):
            self._put(uid, fields.of(snapshot, uid))
        return True

    def _put(self, uid: Uid, values: Sequence[Value] | None) -> None:
        row = bisect_left(self._uids, uid)
        known = row < len(self._uids) and self._uids[row] == uid
        if values is None:
            if known:
                del self._uids[row]
                for column in self._columns.values():
                    column.remove(row)
            return
        if not known:
            self._uids.insert(row, uid)
        for column, value in zip(self._columns.values(), values, strict=True):
            if known:
                column.replace(row, value)
            else:
                column.insert(row, value)

    def _load(self, snapshot: Snapshot, wanted: Sequence[Path]) -> None:
        # Used last, dropped last.
        for path in wanted:
            if path in self._columns:
                self._columns[path] = self._columns.pop(path)
        missing = [path for path in dict.fromkeys(wanted) if path not in self._columns]
        if not missing:
            return
        columns = [Column(times=path[0] in TIMES) for path in missing]
        uids: list[Uid] = []
        for piece, values in RunFields(missing).of_all(snapshot):
            uids += piece
            for column, some in zip(columns, values, strict=True):
                column.extend(some)
        self._uids = uids
        self._columns.update(zip(missing, columns, strict=True))
        for path in list(self._columns)[: -len(set(wanted))]:
            if self.size_bytes > self._max_bytes:
                del self._columns[path]


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """Carries out a filter over columns that are there."""

    snapshot: Snapshot
    uids: Sequence[Uid]
    columns: Mapping[Path, Column]

    def mask(self, tree: Filter) -> Mask:
        if isinstance(tree, Comparison):
            return self.holds(tree.path, comparer(tree.operator, tree.literal))
        if isinstance(tree, And):
            return self._all(tree.operands, np.ones(len(self.uids), np.bool_), np.logical_and)
        if isinstance(tree, Or):
            return self._all(tree.operands, np.zeros(len(self.uids), np.bool_), np.logical_or)
        if isinstance(tree, Not):
            return ~self.mask(tree.operand)
        mask = np.zeros(len(self.uids), np.bool_)
        for path in RUN_TEXTS:
            mask |= self.holds(path, lambda value: has_word(value, tree.literal))
        return mask

    def holds(self, path: Path, test: Callable[[Any], bool]) -> Mask:
        fields = RunFields([path])

        def far(row: int) -> Value:
            values = fields.of(self.snapshot, self.uids[row])
            return values[0] if values else None

        return self.columns[path].holds(test, far)

    def _all(self, operands: Sequence[Filter], mask: Mask, join: Callable[[Mask, Mask], Mask]) -> Mask:
        for operand in operands:
            mask = join(mask, self.mask(operand))
        return mask


class FoundRuns:
    """Runs that were found, in order. Good until the index is asked again."""

    def __init__(self, rows: Rows, uids: Sequence[Uid], order: OrderBy, columns: Sequence[Column]) -> None:
        self._rows = rows
        self._uids = uids
        self._order = order
        self._columns = columns

    def after(self, position: Position | None, count: int) -> tuple[list[Uid], Position | None]:
        """Gives some runs from a position on, and the position behind them if there are more.

        A position is a place in the order and no run: the run that it was taken from may have moved or be gone.
        """
        begin = 0 if position is None else bisect_right(self._rows, self._place(position), key=self._place_of)
        rows = self._rows[begin : begin + count]
        more = begin + count < len(self._rows) and len(rows) > 0
        return [self._uids[row] for row in rows], self._position(rows[-1]) if more else None

    def _position(self, row: int) -> Position:
        return Position(self._uids[row], tuple(column.value(row) for column in self._columns))

    def _place_of(self, row: int) -> tuple[object, ...]:
        return self._place(self._position(row))

    def _place(self, position: Position) -> tuple[object, ...]:
        values = dict(zip((path for path, _ in self._order), position.values, strict=True))
        # Newest first among equals: uids sort by their making.
        return (*sort_key(self._order, values.__getitem__), -int.from_bytes(position.uid, "big"))
