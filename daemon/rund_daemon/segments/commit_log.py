"""A metrics table's own account of its commits, beside its rows: which batches lie where, and how far each stream is.

The catalog is the truth as long as it is there. When it is lost, this says what the segments alone can't: the order of
rows in several of them, checksums, which bytes were never acknowledged, and the sequences that make resending safe.

One line a commit: 16 hexadecimal digits, the xxh3-64 of the rest; a space; JSON. It is written after the commit and
before the acknowledgement, and never synced: a kill can't take back a line of what was acknowledged, a loss of power
can.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xxhash

from rund_daemon.model import BatchRef, ColumnRange, Micros, StreamMark, TableMark

from .layout import make_durable_folder, write_durable_file

FORMAT = 1

# A line of a large group, and then some: where the last line is looked for first.
_TAIL_BYTES = 64 * 1024
_REFS_A_LINE = 256


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit did.

    Attributes:
        mark: how far the table is committed with it.
        boot: the boot of the host in which it was written.
        refs: batches that are new.
        streams: how far each stream is that has moved; its time is the mark's.
        sealed: numbers of sealed segments that are new.
        removed: numbers of segments that are gone, with all of their batches.
    """

    mark: TableMark
    boot: str = ""
    refs: Sequence[BatchRef] = ()
    streams: Mapping[str, StreamMark] = field(default_factory=dict)
    sealed: Sequence[int] = ()
    removed: Sequence[int] = ()


@dataclass(slots=True)
class Account:
    """All that a log says.

    Attributes:
        table: document of the table when the log was begun.
        mark: how far the table was committed.
        boot: the boot of the host at the last commit.
        refs: batches by first row.
        streams: how far each stream was.
        sealed: numbers of the segments that are sealed.
        whole: whether the log could be read to its end.
    """

    table: dict[str, object]
    mark: TableMark = field(default_factory=TableMark)
    boot: str = ""
    refs: dict[int, BatchRef] = field(default_factory=dict)
    streams: dict[str, StreamMark] = field(default_factory=dict)
    sealed: set[int] = field(default_factory=set)
    whole: bool = True

    def add(self, entry: Entry) -> None:
        """Carries an entry out."""
        self.mark, self.boot = entry.mark, entry.boot
        if entry.removed:
            gone = set(entry.removed)
            self.refs = {first: ref for first, ref in self.refs.items() if ref.segment not in gone}
            self.sealed -= gone
        self.refs.update((ref.first_row, ref) for ref in entry.refs)
        self.sealed.update(entry.sealed)
        self.streams.update(entry.streams)


class CommitLog:
    """The log of one table, open for its writer. Belongs to the writer's thread."""

    def __init__(self, path: Path, descriptor: int, boot: str) -> None:
        self._path = path
        self._descriptor = descriptor
        self._boot = boot

    @classmethod
    def reopen(cls, path: Path, mark: TableMark, boot: str) -> CommitLog | None:
        """Opens a log that says the same as the catalog, to go on; None if there is none."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError:
            return None
        if _last_mark(descriptor) == mark:
            return cls(path, descriptor, boot)
        os.close(descriptor)
        return None

    @classmethod
    def create(cls, path: Path, table: Mapping[str, object], account: Entry, boot: str) -> CommitLog:
        """Begins a log with all that was committed before, in place of an older one."""
        lines = [_line({"format": FORMAT, "table": table})]
        refs = account.refs
        for begin in range(0, max(len(refs), 1), _REFS_A_LINE):
            last = begin + _REFS_A_LINE >= len(refs)
            part = Entry(
                account.mark,
                boot,
                refs[begin : begin + _REFS_A_LINE],
                account.streams if last else {},
                account.sealed if last else (),
            )
            lines.append(_line(_document(part)))
        data = b"".join(lines)
        if account.mark == TableMark():
            # A table's first batch does not wait for another sync.
            make_durable_folder(path.parent)
            path.write_bytes(data)
        else:
            write_durable_file(path, data)
        return cls(path, os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC), boot)

    def append(self, entry: Entry) -> None:
        """Adds what was just committed.

        Raises:
            OSError: it could not be written. Then there is no log any more: none says less than a wrong one.
        """
        data = _line(_document(entry, self._boot))
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            self._path.unlink(missing_ok=True)
            raise

    @property
    def size(self) -> int:
        """Its bytes."""
        return os.fstat(self._descriptor).st_size

    def close(self) -> None:
        """Closes the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def read_account(path: Path) -> Account | None:
    """Reads a log up to the first line that is not whole; None if it has no begin."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    account: Account | None = None
    for line in data.splitlines(keepends=True):
        content = _content(line)
        try:
            if content is None:
                raise ValueError("the line is not whole")  # noqa: TRY301  # the same end as a line of another format
            if account is None:
                account = Account(dict(content["table"]))
            else:
                account.add(_entry(content))
        except (KeyError, TypeError, ValueError):
            if account is not None:
                account.whole = False
            break
    return account


def _last_mark(descriptor: int) -> TableMark | None:
    size = os.fstat(descriptor).st_size
    for reach in (_TAIL_BYTES, size):
        data = os.pread(descriptor, reach, max(size - reach, 0))
        lines = data.splitlines(keepends=True)
        if len(lines) > 1:
            break
    else:
        return None
    content = _content(lines[-1])
    try:
        return TableMark(*content["mark"]) if content else None
    except (KeyError, TypeError):
        return None


def _line(document: Mapping[str, object]) -> bytes:
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
    return b"%016x %b\n" % (xxhash.xxh3_64_intdigest(body), body)


def _content(line: bytes) -> dict[str, Any] | None:
    digest, _, body = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or digest != b"%016x" % xxhash.xxh3_64_intdigest(body):
        return None
    content: dict[str, Any] = json.loads(body)
    return content


def _document(entry: Entry, boot: str = "") -> dict[str, object]:
    document: dict[str, object] = {"mark": _mark_fields(entry.mark), "boot": entry.boot or boot}
    if entry.refs:
        document["refs"] = [_ref_fields(ref) for ref in entry.refs]
    if entry.streams:
        document["streams"] = {name: [mark.sequence, mark.position] for name, mark in entry.streams.items()}
    for key in ("sealed", "removed"):
        if value := getattr(entry, key):
            document[key] = value
    return document


def _mark_fields(mark: TableMark) -> tuple[int, ...]:
    return (mark.rows, mark.batches, mark.bytes, mark.commit_time, mark.next_segment)


def _ref_fields(ref: BatchRef) -> tuple[object, ...]:
    fields = (ref.segment, ref.offset, ref.length, ref.rows, ref.checksum, ref.first_row)
    if not ref.ranges and not ref.decoded_bytes:
        return fields
    ranges = [(item.column, item.least, item.greatest) for item in ref.ranges]
    return (*fields, ranges, ref.decoded_bytes) if ref.decoded_bytes else (*fields, ranges)


def _ref(fields: Sequence[Any]) -> BatchRef:
    segment, offset, length, rows, checksum, first_row, *more = fields
    ranges = tuple(ColumnRange(*item) for item in more[0]) if more else ()
    decoded_bytes = more[1] if more[1:] else 0
    return BatchRef(segment, offset, length, rows, checksum, first_row, ranges, decoded_bytes)


def _entry(content: Mapping[str, Any]) -> Entry:
    mark = TableMark(*content["mark"])
    time = Micros(mark.commit_time)
    return Entry(
        mark,
        content["boot"],
        [_ref(fields) for fields in content.get("refs", ())],
        {name: StreamMark(fields[0], time, fields[1]) for name, fields in content.get("streams", {}).items()},
        content.get("sealed", ()),
        content.get("removed", ()),
    )
