"""Makes the records of one metrics table again: from its commit log if there is one, else from its segments alone.

With a log, the table is what was acknowledged: the order of its rows, the checksums, the sequences of its streams.
Bytes beyond the last line were never acknowledged if the host has not been started anew since; their writer sends them
again, and storing them would double them. After a new start of the host (a loss of power takes back lines, not rows),
or when the log itself is damaged, whole batches beyond it are kept: a row too many can be seen, a lost one can't.

Without a log every whole batch is kept, segment by segment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from pathlib import Path

from rund_daemon.errors import RundError
from rund_daemon.model import HISTORY_TABLE, BatchRef, MetricsTable, Micros, Segment, StreamMark, TableMark
from rund_daemon.segments.commit_log import Account
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.salvage import Salvage, salvage_segment
from rund_daemon.segments.schemas import unify
from rund_daemon.segments.spare_numbers import NUMBERS_A_SEGMENT

from .notes import Note


@dataclass(frozen=True, slots=True)
class TableFolder:
    """A metrics table's files: segments by number, apart by whether they are sealed."""

    path: Path
    sealed: Mapping[int, Path]
    open: Mapping[int, Path]

    @classmethod
    def of(cls, path: Path) -> TableFolder:
        """Looks into a folder, which need not be there."""
        sealed: dict[int, Path] = {}
        opened: dict[int, Path] = {}
        for file in sorted(path.glob("*.arrow*")):
            if file.stem.isascii() and file.stem.isdecimal() and file.is_file():
                kind = {".arrow": sealed, ".arrows": opened}.get(file.suffix)
                if kind is not None:
                    kind[int(file.stem)] = file
        return cls(path, sealed, opened)


@dataclass(slots=True)
class RebuiltTable:
    """The records of a table."""

    table: MetricsTable
    mark: TableMark
    segments: list[Segment] = field(default_factory=list)
    refs: list[BatchRef] = field(default_factory=list)
    streams: dict[str, StreamMark] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)


def rebuild_table(
    table: MetricsTable, folder: TableFolder, account: Account | None, streams: Mapping[str, StreamMark], boot: str
) -> RebuiltTable:
    """Makes a table's records.

    Args:
        table: its record, by `run.json` or the log.
        folder: its files.
        account: what its commit log says.
        streams: how far its streams were when `run.json` was written.
        boot: this boot of the host.
    """
    built = RebuiltTable(table, account.mark if account else TableMark())
    if account is not None and not _is_stale(account, folder):
        _take_account(built, folder, account)
        if not account.whole or account.boot != boot:
            _take_beyond(built, folder, account)
    else:
        _take_files(built, folder)
    built.streams = _later(streams, account.streams if account else {})
    built.mark = _mark(built, folder)
    built.table = _with_schema(built)
    return built


def _is_stale(account: Account, folder: TableFolder) -> bool:
    """Whether the log has lost the line of a seal: files it names were removed, and one it does not name is there."""
    named = {ref.segment for ref in account.refs.values()}
    gone = [number for number in named if number not in (folder.sealed if number in account.sealed else folder.open)]
    return bool(gone) and any(number not in account.sealed for number in folder.sealed)


def _take_account(built: RebuiltTable, folder: TableFolder, account: Account) -> None:
    by_segment: dict[int, list[BatchRef]] = {number: [] for number in account.sealed}
    for ref in account.refs.values():
        by_segment.setdefault(ref.segment, []).append(ref)
    for number, refs in sorted(by_segment.items()):
        sealed = number in account.sealed
        path = (folder.sealed if sealed else folder.open).get(number)
        end = max((ref.offset + ref.length for ref in refs), default=0)
        head, size = b"", 0
        if path is not None:
            salvage = salvage_segment(path, number, limit=0)
            head, size = salvage.head, salvage.size
        length = max(size if sealed else end, end, len(head) if not refs else 0)
        rows = sum(ref.rows for ref in refs)
        built.segments.append(Segment(number, sealed, length, rows, head or built.table.arrow_schema, len(refs)))
    built.refs = sorted(account.refs.values(), key=lambda ref: ref.first_row)


def _take_beyond(built: RebuiltTable, folder: TableFolder, account: Account) -> None:
    """Keeps whole batches that the log does not know."""
    known = {segment.number: segment for segment in built.segments}
    rows = max([account.mark.rows, *(ref.first_row + ref.rows for ref in built.refs)])
    for number, path, sealed in _unknown_files(folder, account):
        segment = known.get(number)
        salvage = salvage_segment(path, number, start=segment.length if segment else 0)
        if not salvage.head or not salvage.refs:
            continue
        rows = _append(built, salvage, number, rows, sealed=sealed, segment=segment)
        message = f"{salvage.rows} rows are kept that may not have been acknowledged; who sends them again doubles them"
        built.notes.append(Note(str(path), message))


def _unknown_files(folder: TableFolder, account: Account) -> Iterator[tuple[int, Path, bool]]:
    for number, path in folder.open.items():
        if number not in account.sealed:
            yield number, path, False
    for number, path in folder.sealed.items():
        # One with a lower number is a seal that was not carried out: its rows are in other files.
        if number not in account.sealed and number >= account.mark.next_segment:
            yield number, path, True


def _take_files(built: RebuiltTable, folder: TableFolder) -> None:
    """Keeps what every file proves, in the order of their numbers."""
    rows = 0
    for number, path, sealed in _without_doubles(folder, built.notes):
        salvage = salvage_segment(path, number)
        if salvage.problem:
            lost = f"{salvage.size - salvage.end} bytes from {salvage.end} on can't be read: {salvage.problem}"
            built.notes.append(Note(str(path), lost, loses=True))
        if salvage.head:
            rows = _append(built, salvage, number, rows, sealed=sealed, segment=None)


def _without_doubles(folder: TableFolder, notes: list[Note]) -> Iterator[tuple[int, Path, bool]]:
    """All files but those whose rows are in another: a seal that was not finished leaves both."""
    covered: set[int] = set()
    given_up: set[int] = set()
    for number in sorted(folder.sealed.keys() & folder.open.keys()):
        sealed_rows = salvage_segment(folder.sealed[number], number).rows
        rest = {other: salvage_segment(path, other).rows for other, path in folder.open.items() if other >= number}
        if sealed_rows <= sum(rest.values()):
            given_up.add(number)
            notes.append(Note(str(folder.sealed[number]), "left out: its rows are in the open segments beside it"))
            continue
        covered |= rest.keys()
        notes.extend(Note(str(folder.open[other]), "left out: its rows are in a sealed segment") for other in rest)
    for number in sorted(folder.sealed.keys() | folder.open.keys()):
        if number in folder.sealed and number not in given_up:
            yield number, folder.sealed[number], True
        if number in folder.open and number not in covered:
            yield number, folder.open[number], False


def _append(
    built: RebuiltTable, salvage: Salvage, number: int, rows: int, *, sealed: bool, segment: Segment | None
) -> int:
    built.refs.extend(replace(ref, first_row=ref.first_row + rows) for ref in salvage.refs)
    length = salvage.size if sealed else salvage.end
    if segment is None:
        built.segments.append(Segment(number, sealed, length, salvage.rows, salvage.head, len(salvage.refs)))
    else:
        built.segments.remove(segment)
        built.segments.append(
            replace(
                segment,
                length=length,
                rows=segment.rows + salvage.rows,
                batches=segment.batches + len(salvage.refs),
            )
        )
    return rows + salvage.rows


def _later(*accounts: Mapping[str, StreamMark]) -> dict[str, StreamMark]:
    """The furthest of each stream: to go back would store again what was acknowledged, and is in the table."""
    latest: dict[str, StreamMark] = {}
    for stream_id, mark in ((name, mark) for account in accounts for name, mark in account.items()):
        if stream_id not in latest or latest[stream_id].sequence < mark.sequence:
            latest[stream_id] = mark
    return latest


def _mark(built: RebuiltTable, folder: TableFolder) -> TableMark:
    numbers = [segment.number + NUMBERS_A_SEGMENT for segment in built.segments]
    files = [number + NUMBERS_A_SEGMENT for number in (*folder.sealed, *folder.open)]
    return TableMark(
        rows=max([built.mark.rows, *(ref.first_row + ref.rows for ref in built.refs)]),
        batches=len(built.refs),
        bytes=sum(segment.length for segment in built.segments),
        commit_time=Micros(built.mark.commit_time or _written(folder)),
        # A number that a file has is not given to another.
        next_segment=max([built.mark.next_segment, *numbers, *files]),
    )


def _written(folder: TableFolder) -> int:
    paths: Iterable[Path] = (*folder.sealed.values(), *folder.open.values())
    return max((path.stat().st_mtime_ns // 1_000 for path in paths), default=0)


def _with_schema(built: RebuiltTable) -> MetricsTable:
    table = built.table
    heads: Sequence[bytes] = [segment.arrow_schema for segment in sorted(built.segments, key=lambda s: s.number)]
    try:
        said = read_head(table.arrow_schema)
        join = partial(unify, mixes=table.name == HISTORY_TABLE)
        schema = reduce(join, (read_head(head) for head in heads if head), said)
        if table.arrow_schema and schema == said:
            return table
        tables = {table.input_table_id: table.foreign_table_url} if table.foreign_table_url else {}
        return replace(table, arrow_schema=segment_head(schema, table.columns, tables) if heads else b"")
    except (RundError, ValueError, OSError) as error:
        built.notes.append(Note(table.url, f"its columns do not go together: {error}", loses=True))
        return table
