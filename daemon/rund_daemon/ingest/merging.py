"""Decides which segments of a table are written as one file. Looks at records only.

A file holds rows that follow each other. So what may be joined are segments that are adjacent in the order of rows:
open ones that were closed, whose rows may lie among each other, and small sealed ones. A large sealed file stays as it
is, and nothing is joined across it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rund_daemon.model import BatchRef, Segment
from rund_daemon.segments.spare_numbers import spare_of

CLOSED = b"closed"
"""State of a segment that takes no more batches and waits to be sealed."""

SMALL_BYTES = 32 * 1024 * 1024
"""Neighbours are joined while they have no more than this together, so that files grow to a useful size."""
FULL_BYTES = 8 * 1024 * 1024
"""A sealed file of this size is a useful one and stays as it is: to write it again costs more than it is worth."""

# While rows still come, a file is written again only with neighbours that have at least this share of its rows: sizes
# then grow in steps, and a row is written about as often as the number of files can be halved.
_WORTHWHILE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Merge:
    """Segments that become one sealed file, and their batches in the order of rows.

    Attributes:
        segments: what is replaced.
        refs: their batches.
        number: number of the new segment. No file `<number>.arrow` was ever a table's before.
        spare: another such number, for a later merge; None if there is none.
    """

    segments: tuple[Segment, ...]
    refs: tuple[BatchRef, ...]
    number: int
    spare: int | None = None


@dataclass(slots=True)
class _Block:
    """One sealed segment, or closed ones whose rows lie side by side."""

    closed: bool
    segments: dict[int, Segment] = field(default_factory=dict)
    refs: list[BatchRef] = field(default_factory=list)

    @property
    def size(self) -> int:
        return sum(segment.length for segment in self.segments.values())

    @property
    def full(self) -> bool:
        return not self.closed and self.size >= FULL_BYTES

    @property
    def rows(self) -> int:
        return sum(segment.rows for segment in self.segments.values())


def plan_merges(
    segments: Mapping[int, Segment], states: Mapping[int, bytes], refs: Iterable[BatchRef], *, last: bool
) -> tuple[Merge, ...]:
    """Gives the merges of a table, in the order of rows.

    Args:
        segments: all of the table's, by number.
        states: of those that are not sealed, or have a spare number, by number.
        refs: all of the table's batches, in the order of rows.
        last: whether no more rows are expected, so that all small neighbours are worth joining.
    """
    known = list(refs)
    blocks = list(_blocks(segments, states, known))
    _add_empty(blocks, segments, states)
    batches = Counter(ref.segment for ref in known)
    groups = (group if last else _worthwhile(group) for group in _gather(blocks))
    merges = (_merge(group, states, segments.keys()) for group in groups)
    # Whatever the records say: no file is given up while a batch in it stays behind.
    return tuple(merge for merge in merges if merge is not None and _is_whole(merge, batches))


def _blocks(segments: Mapping[int, Segment], states: Mapping[int, bytes], refs: Iterable[BatchRef]) -> Iterator[_Block]:
    block: _Block | None = None
    for ref in refs:
        segment = segments.get(ref.segment)
        if segment is None or not (segment.sealed or states.get(segment.number) == CLOSED):
            break  # here begin the rows of segments that still grow
        same = block is not None and (segment.number in block.segments or (block.closed and not segment.sealed))
        if block is None or not same:
            if block is not None:
                yield block
            block = _Block(closed=not segment.sealed)
        block.segments[segment.number] = segment
        block.refs.append(ref)
    if block is not None:
        yield block


def _add_empty(blocks: list[_Block], segments: Mapping[int, Segment], states: Mapping[int, bytes]) -> None:
    """Closed segments whose rows a repair has taken out go with others."""
    known = {number for block in blocks for number in block.segments}
    empty = {number: segments[number] for number, state in states.items() if state == CLOSED and number not in known}
    if not empty:
        return
    last = next((block for block in reversed(blocks) if block.closed), None)
    if last is None:
        blocks.append(last := _Block(closed=True))
    last.segments.update(empty)


def _gather(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Groups neighbours from the newest on, so that the newest always find those before them."""
    groups: list[list[_Block]] = []
    size = 0
    for block in reversed(blocks):
        if not groups or block.full or size + block.size > SMALL_BYTES:
            groups.append([])
            size = 0
        groups[-1].append(block)
        size += SMALL_BYTES if block.full else block.size
    return [group[::-1] for group in reversed(groups)]


def _worthwhile(blocks: list[_Block]) -> list[_Block]:
    """The end of a group that has grown enough: what is closed, and before it files that are not much larger."""
    begin = next((number for number, block in enumerate(blocks) if block.closed), len(blocks) - 1)
    rows = sum(block.rows for block in blocks[begin:])
    while begin and rows >= _WORTHWHILE_SHARE * blocks[begin - 1].rows:
        begin -= 1
        rows += blocks[begin].rows
    return blocks[begin:]


def _merge(blocks: Sequence[_Block], states: Mapping[int, bytes], taken: Collection[int]) -> Merge | None:
    segments = {number: segment for block in blocks for number, segment in block.segments.items()}
    # There is no `.arrow` of an open segment's number yet.
    closed = sorted(number for number, segment in segments.items() if not segment.sealed)
    kept = [number + 1 for number in closed] + [spare_of(states.get(number)) for number in segments]
    spares = sorted(number for number in kept if number is not None and number not in taken)
    if not closed and (len(blocks) < 2 or not spares):
        return None
    refs = tuple(ref for block in blocks for ref in block.refs)
    number, *rest = *closed, *spares
    return Merge(tuple(segments.values()), refs, number, next(iter(rest), None))


def _is_whole(merge: Merge, batches: Mapping[int, int]) -> bool:
    return len(merge.refs) == sum(batches.get(segment.number, 0) for segment in merge.segments)
