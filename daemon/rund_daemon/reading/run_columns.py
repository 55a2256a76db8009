"""One field of every run in memory: a code for each run, and what each code stands for.

A filter asks each distinct value once and each run not at all. A value that is long is not kept; the run is asked for
it when it matters, so that a column is bounded whatever users put into their runs.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rund_daemon.model import Micros, Value

from .filters import Timestamp
from .order_by import value_key

Rows: TypeAlias = "npt.NDArray[np.int64]"
"""Places of runs in the order of their uids."""
Mask: TypeAlias = "npt.NDArray[np.bool_]"
"""For each run, whether it is meant."""

CUT = 256
"""Longer texts and bytes are ordered by so many of their first characters; longer lists and maps come first."""

# So many distinct values are looked up; a column with more has few that repeat.
_KNOWN = 10_000
_LONG_BYTES = 1024
_FULL_BYTES = 24 * 1024 * 1024
_ATOMS = frozenset((str, int, float, bool, type(None)))


@dataclass(frozen=True, slots=True)
class Long:
    """Stands for a value that is too long to be kept; `cut` is what it is ordered by."""

    cut: Value


Kept: TypeAlias = "Value | Timestamp | Long"


class Column:
    """One field of every run."""

    def __init__(self, *, times: bool = False) -> None:
        """Args: times: whether its integers are microseconds since 1970 UTC."""
        self._times = times
        self._codes = array("i")
        self._values: list[Kept] = []
        self._known: dict[Hashable, int] = {}
        self._long = 0
        self.size_bytes = 0

    def extend(self, values: Iterable[Value]) -> None:
        """Adds runs behind all others."""
        known, append = self._known, self._codes.append
        for value in values:
            key = (value.__class__, value) if value.__class__ in _ATOMS else _key(value)
            append(known[key] if key in known else self._add(key, value))

    def insert(self, row: int, value: Value) -> None:
        """Adds a run."""
        self._codes.insert(row, self._code(value))

    def replace(self, row: int, value: Value) -> None:
        """Changes the value of a run."""
        self._codes[row] = self._code(value)
        if len(self._values) > 2 * len(self._codes) + _KNOWN:
            self._forget_unused()

    def remove(self, row: int) -> None:
        """Takes a run out."""
        del self._codes[row]

    def holds(self, test: Callable[[Any], bool], far: Callable[[int], Value]) -> Mask:
        """Says for which runs a test holds; `far` gives the value of a run that is too long to be kept."""
        truth = np.fromiter(
            (not isinstance(value, Long) and test(value) for value in self._values), np.bool_, len(self._values)
        )
        codes = self._view()
        mask: Mask = truth[codes] if len(truth) else np.zeros(0, np.bool_)
        if self._long:
            unknown = np.fromiter((isinstance(value, Long) for value in self._values), np.bool_, len(self._values))
            for row in np.flatnonzero(unknown[codes]):
                mask[row] = test(far(int(row)))
        return mask

    def value(self, row: int) -> Any:
        """What a run is ordered by."""
        value = self._values[self._codes[row]]
        return value.cut if isinstance(value, Long) else value

    def ranks(self, rows: Rows, *, descending: bool) -> Rows:
        """Gives a number for each of the rows, by which they are ordered. What is missing comes last either way."""
        used, places = np.unique(self._view()[rows], return_inverse=True)
        values = [_cut(self._values[code]) for code in used]
        there = [place for place, value in enumerate(values) if value is not None]
        keys = _comparable([values[place] for place in there])
        ranks = np.full(len(values), len(values))
        rank, before = 0, None
        for index in sorted(range(len(there)), key=keys.__getitem__):
            if before is not None and keys[index] != before:
                rank += 1
            before = keys[index]
            ranks[there[index]] = -rank if descending else rank
        return ranks[places]

    def _view(self) -> npt.NDArray[np.int32]:
        # It must not outlive the call that takes it: an array can't grow while it is looked at.
        return np.frombuffer(self._codes, np.int32) if self._codes else np.zeros(0, np.int32)

    def _code(self, value: Value) -> int:
        key = _key(value)
        return self._known[key] if key in self._known else self._add(key, value)

    def _add(self, key: Hashable | None, value: Value) -> int:
        """Keeps a value that is not known, and gives its code."""
        code, size = len(self._values), _size(value)
        if size > (_LONG_BYTES if self.size_bytes < _FULL_BYTES else 2 * CUT):
            cut: Value = value[:CUT] if isinstance(value, (str, bytes)) else type(value)()  # type: ignore[misc]  # numbers are short
            self._values.append(Long(cut))
            self._long += 1
            self.size_bytes += 12 + _size(cut)
            return code
        self._values.append(Timestamp(Micros(value)) if self._times and isinstance(value, int) else value)
        self.size_bytes += 12 + size
        if key is not None and len(self._known) < _KNOWN:
            self._known[key] = code
        return code

    def _forget_unused(self) -> None:
        used, places = np.unique(self._view(), return_inverse=True)
        kept = [self._values[code] for code in used]
        codes = array("i")
        codes.frombytes(places.astype(np.int32).tobytes())
        self._codes, self._values, self._known = codes, kept, {}
        self._long = sum(isinstance(value, Long) for value in kept)
        self.size_bytes = sum(12 + _size(_plain(_cut(value))) for value in kept)


def _comparable(values: list[Any]) -> list[Any]:
    """Keys by which values are sorted. Tuples of kind and value are slow to compare: only mixed kinds need them."""
    kinds = {type(value) for value in values}
    if kinds == {Timestamp}:
        return [value.micros for value in values]
    numbers = kinds <= {int, float} and all(value == value for value in values)  # noqa: PLR0124  # NaN
    return values if kinds == {str} or numbers else [value_key(value) for value in values]


def _cut(value: Kept) -> Any:
    return value.cut if isinstance(value, Long) else value


def _plain(value: Any) -> Value:
    plain: Value = value.micros if isinstance(value, Timestamp) else value
    return plain


def _key(value: Value) -> Hashable | None:
    """Finds a value among those that are known; None if it is not worth it."""
    if isinstance(value, dict):
        try:
            key = (dict, tuple(value.items()))
            hash(key)
            return key
        except TypeError:
            return None
    return None if isinstance(value, (list, bytes)) else (type(value), value)


def _size(value: Value) -> int:
    """Roughly how many bytes of memory a value takes."""
    if value.__class__ in _ATOMS:
        return sys.getsizeof(value)
    if isinstance(value, dict):
        return sys.getsizeof(value) + _sizes(value.keys()) + _sizes(value.values())
    return sys.getsizeof(value) + (_sizes(value) if isinstance(value, list) else 0)


def _sizes(values: Iterable[Value]) -> int:
    return sum(map(_size, values))
