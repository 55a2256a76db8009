"""Single fields of runs, without decoding the rest: a list of runs is searched by a few fields of each.

A field is named by a path, such as `("parameters", "optimizer", "lr")`. What is not there is None, and so is null. A
path that ends at `parameters` or `outputs` gives their keys only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeAlias

from rund_pb.store.v1 import records_pb2 as pb

from rund_daemon.identity import uid_text
from rund_daemon.model import Uid, Value
from rund_daemon.values import read_value

from .shelves import LAST_OUTPUTS, RUNS, Shelf
from .transaction import Snapshot

Path: TypeAlias = tuple[str, ...]
FieldValues: TypeAlias = "list[Value]"
"""One value for each path that was asked for. Times are microseconds since 1970 UTC."""

OUTPUTS = "outputs"

# Records are decoded so many at a time: few, because users may put megabytes into one.
_PIECE = 500

_PLAIN_KINDS = frozenset(("double_value", "int_value", "string_value", "bool_value"))
_PLAIN: dict[str, Callable[[pb.Run], Value]] = {
    "name": lambda record: f"projects/{record.project}/runs/{record.name}",
    "project_name": lambda record: record.project,
    "run_name": lambda record: record.name,
    "uid": lambda record: uid_text(Uid(record.uid)),
    "description": lambda record: record.description,
    "status": lambda record: record.status,
    "create_time": lambda record: record.create_time,
    "update_time": lambda record: record.update_time,
    "end_time": lambda record: record.end_time or None,
    "delete_time": lambda record: record.delete_time or None,
}


class RunFields:
    """Reads some fields of runs."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Args: paths: which; the first part must be one that runs have."""
        self._of_runs = [(place, _reader(path)) for place, path in enumerate(paths) if path[0] != OUTPUTS]
        self._of_outputs = [(place, path[1:]) for place, path in enumerate(paths) if path[0] == OUTPUTS]
        self._count = len(paths)

    def of(self, snapshot: Snapshot, uid: Uid) -> FieldValues | None:
        """Gives the values of one run; None if there is no such run."""
        record = snapshot.get(_RUNS, uid)
        if record is None:
            return None
        values: FieldValues = [None] * self._count
        for place, read in self._of_runs:
            values[place] = read(record)
        outputs = snapshot.get(_OUTPUTS, uid) if self._of_outputs else None
        for place, path in self._of_outputs:
            values[place] = _at(outputs, path) if outputs is not None else None
        return values

    def of_all(self, snapshot: Snapshot) -> Iterator[tuple[list[Uid], Sequence[FieldValues]]]:
        """Gives uids and, for each path, as many values: piece by piece, in the order of the uids."""
        records, outputs = snapshot.scan(_RUNS), snapshot.scan(_OUTPUTS)
        following = next(outputs, None) if self._of_outputs else None
        while piece := list(islice(records, _PIECE)):
            columns: list[FieldValues] = [[] for _ in range(self._count)]
            for place, read in self._of_runs:
                columns[place] = [read(record) for _, record in piece]
            for uid, _ in piece if self._of_outputs else ():
                while following is not None and following[0] < uid:
                    following = next(outputs, None)
                last = following[1] if following is not None and following[0] == uid else None
                for place, path in self._of_outputs:
                    columns[place].append(_at(last, path) if last is not None else None)
            yield [Uid(uid) for uid, _ in piece], columns


def _unwritten(values: object) -> bytes:
    raise AssertionError(f"fields are read and never written, such as {values!r:.60}")


_RUNS: Shelf[pb.Run] = Shelf(RUNS.name, _unwritten, pb.Run.FromString)
_OUTPUTS: Shelf[pb.MapValue] = Shelf(LAST_OUTPUTS.name, _unwritten, pb.MapValue.FromString)


def _reader(path: Path) -> Callable[[pb.Run], Value]:
    name, *rest = path
    if name == "labels":
        return lambda record: _label(record, rest)
    if name == "parameters":
        return lambda record: _at(record.parameters, rest)
    return _PLAIN[name]


def _label(record: pb.Run, rest: Sequence[str]) -> Value:
    return record.labels.get(".".join(rest)) if rest else dict(record.labels)


def _at(values: Any, path: Sequence[str]) -> Value:
    """What lies at a path inside a map; a key that has dots itself is found by the joined names, too."""
    if not path:
        return {entry.key: None for entry in values.entries}
    entries = values.entries
    for length in range(1, len(path) + 1):
        key = path[0] if length == 1 else ".".join(path[:length])
        for entry in entries:
            if entry.key == key:
                return _inside(entry.value, path[length:])
    return None


def _inside(value: Any, path: Sequence[str]) -> Value:
    kind = value.WhichOneof("kind")
    if not path:
        plain: Value = getattr(value, kind) if kind in _PLAIN_KINDS else read_value(value, "value")
        return plain
    if kind == "map_value":
        return _at(value.map_value, path)
    if kind == "list_value":
        found = [_inside(item, path) for item in value.list_value.items]
        return [item for item in found if item is not None]
    return None
