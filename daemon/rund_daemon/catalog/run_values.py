"""Inputs and outputs of a run, and beside them the last value of each output key, by which runs are found."""

from __future__ import annotations

from itertools import groupby

from rund_daemon.model import Uid, Values

from . import keys, shelves
from .lookup import OUTPUT
from .transaction import Change, Snapshot

MAX_LAST_OUTPUTS_BYTES = 64 * 1024
"""How large the record of the last outputs may be; keys that were not set for the longest time go first."""

_UID_BYTES = 16


def put_value(change: Change, run: Uid, kind: bytes, number: int, value: Values) -> None:
    """Puts an input or output under its number."""
    change.put(shelves.VALUES, keys.value(run, kind, number), value)
    if kind == OUTPUT:
        last = change.get(shelves.LAST_OUTPUTS, run) or {}
        change.put(shelves.LAST_OUTPUTS, run, _bounded(_merged(last, value)))


def lacks_last_outputs(snapshot: Snapshot) -> bool:
    """Whether the catalog is of a version that did not keep them, or was made anew from files."""
    return snapshot.count(shelves.LAST_OUTPUTS) == 0 and snapshot.count(shelves.VALUES) > 0


def fill_last_outputs(change: Change) -> None:
    """Makes them of the outputs that are there."""
    values = change.scan(shelves.VALUES)
    for run, entries in groupby(values, key=lambda entry: entry[0][:_UID_BYTES]):
        last: Values = {}
        for key, value in entries:
            if key[_UID_BYTES : _UID_BYTES + 1] == OUTPUT:
                last = _merged(last, value)
        change.put(shelves.LAST_OUTPUTS, run, _bounded(last))


def _merged(last: Values, value: Values) -> Values:
    return {key: kept for key, kept in last.items() if key not in value} | value


def _bounded(last: Values) -> Values:
    while len(last) > 1 and len(shelves.LAST_OUTPUTS.encode(last)) > MAX_LAST_OUTPUTS_BYTES:
        last = dict(list(last.items())[len(last) // 8 + 1 :])
    return last
