"""Single fields of runs, without decoding the rest: a list of runs is searched by a few fields of each.

A field is named by a path, such as `("parameters", "optimizer", "lr")`. What is not there is None, and so is null. A
path that ends at `parameters` or `outputs` gives their keys only.

The values of a map stay bytes until one is wanted, and what was decoded once is known by its bytes: among a hundred
thousand runs there are few learning rates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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

LABELS, PARAMETERS, OUTPUTS = "labels", "parameters", "outputs"

# Records are decoded so many at a time: few, because users may put megabytes into one.
_PIECE = 500
# So many values are known by their bytes, none of them long.
_KNOWN = 10_000
_KNOWN_BYTES = 256

_Entries: TypeAlias = Mapping[str, Any]
"""Of labels the texts, of other maps the bytes of the values."""
_PLAIN_KINDS = frozenset(("double_value", "int_value", "string_value", "bool_value"))
_PLAIN: dict[str, Callable[[pb.RunParts], Value]] = {
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
_MAPS: dict[str, Callable[[pb.RunParts], _Entries]] = {
    LABELS: lambda record: record.labels,
    PARAMETERS: lambda record: pb.MapParts.FromString(record.parameters).entries,
}


class RunFields:
    """Reads some fields of runs."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """Args: paths: which; the first part must be one that runs have."""
        self._plain = [(place, _PLAIN[path[0]]) for place, path in enumerate(paths) if path[0] in _PLAIN]
        self._in_maps = {
            name: [(place, _reader(path)) for place, path in enumerate(paths) if path[0] == name]
            for name in (LABELS, PARAMETERS, OUTPUTS)
        }
        self._of_outputs = self._in_maps.pop(OUTPUTS)
        self._count = len(paths)

    def of(self, snapshot: Snapshot, uid: Uid) -> FieldValues | None:
        """Gives the values of one run; None if there is no such run."""
        record = snapshot.get(_RUNS, uid)
        if record is None:
            return None
        last = snapshot.get(_OUTPUTS, uid) if self._of_outputs else None
        return [column[0] for column in self._columns([record], [_entries(last)])]

    def of_all(self, snapshot: Snapshot) -> Iterator[tuple[list[Uid], Sequence[FieldValues]]]:
        """Gives uids and, for each path, as many values: piece by piece, in the order of the uids."""
        records, outputs = snapshot.scan(_RUNS), snapshot.scan(_OUTPUTS)
        following = next(outputs, None) if self._of_outputs else None
        while piece := list(islice(records, _PIECE)):
            lasts: list[_Entries] = []
            for uid, _ in piece if self._of_outputs else ():
                while following is not None and following[0] < uid:
                    following = next(outputs, None)
                lasts.append(_entries(following[1] if following is not None and following[0] == uid else None))
            yield [Uid(uid) for uid, _ in piece], self._columns([record for _, record in piece], lasts)

    def _columns(self, records: Sequence[pb.RunParts], lasts: Sequence[_Entries]) -> list[FieldValues]:
        columns: list[FieldValues] = [[] for _ in range(self._count)]
        for place, read in self._plain:
            columns[place] = [read(record) for record in records]
        for name, readers in self._in_maps.items():
            found = [(columns[place].append, read) for place, read in readers]
            for record in records if found else ():
                entries = _MAPS[name](record)
                for append, value_of in found:
                    append(value_of(entries))
        for place, value_of in self._of_outputs:
            columns[place] = [value_of(entries) for entries in lasts]
        return columns


def _entries(values: pb.MapParts | None) -> _Entries:
    return {} if values is None else values.entries


def _unwritten(values: object) -> bytes:
    raise AssertionError(f"fields are read and never written, such as {values!r:.60}")


_RUNS: Shelf[pb.RunParts] = Shelf(RUNS.name, _unwritten, pb.RunParts.FromString)
_OUTPUTS: Shelf[pb.MapParts] = Shelf(LAST_OUTPUTS.name, _unwritten, pb.MapParts.FromString)


def _reader(path: Path) -> Callable[[_Entries], Value]:
    name, *rest = path
    if name == LABELS:
        key = ".".join(rest)
        return (lambda labels: labels.get(key)) if rest else dict
    return _value_at(rest) if rest else dict.fromkeys


def _value_at(path: Sequence[str]) -> Callable[[_Entries], Value]:
    """What lies at a path: at its first key that is there. A key that has dots itself is found by joined names, too."""
    (key, *rest), known = path, dict[bytes, Value]()
    joined = _value_at([f"{key}.{rest[0]}", *rest[1:]]) if rest else None

    def found(entries: _Entries) -> Value:
        data = entries.get(key)
        if data in known:
            return known[data]
        if data is None:
            return joined(entries) if joined else None
        value = _inside(pb.Value.FromString(data), rest)
        if len(known) < _KNOWN and len(data) <= _KNOWN_BYTES:
            known[data] = value
        return value

    return found


def _at(entries: Any, path: Sequence[str]) -> Value:
    for length in range(1, len(path) + 1):
        key = ".".join(path[:length])
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
        return _at(value.map_value.entries, path)
    if kind == "list_value":
        found = [_inside(item, path) for item in value.list_value.items]
        return [item for item in found if item is not None]
    return None
