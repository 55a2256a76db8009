"""Which segments are joined: neighbours in the order of rows, and nothing across a large file."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund_daemon.ingest.merging import CLOSED, FULL_BYTES, SMALL_BYTES, Merge, plan_merges
from rund_daemon.model import BatchRef, Segment
from rund_daemon.segments.spare_numbers import spare_state

OPEN = b""
MIB = 1024 * 1024


class Table:
    """Segments and their batches, given in the order of rows."""

    def __init__(self) -> None:
        self.segments: dict[int, Segment] = {}
        self.states: dict[int, bytes] = {}
        self.refs: list[BatchRef] = []

    def add(self, number: int, size: int, *, state: bytes | None = None, spare: int | None = None) -> Table:
        """Adds a batch; without a state its segment is a sealed one, which may have a number to spare."""
        sealed = state is None
        state = state if spare is None else spare_state(spare)
        old = self.segments.get(number, Segment(number, sealed, 0, 0, b""))
        self.segments[number] = Segment(number, sealed, old.length + size, old.rows + 1, b"")
        if state is not None:
            self.states[number] = state
        self.refs.append(BatchRef(number, old.length, size, 1, 0, len(self.refs)))
        return self

    def plan(self, *, last: bool = True) -> tuple[Merge, ...]:
        return plan_merges(self.segments, self.states, self.refs, last=last)

    def planned(self) -> list[tuple[list[int], int]]:
        return [(sorted(segment.number for segment in merge.segments), merge.number) for merge in self.plan()]


def test_closed_segments_whose_rows_lie_among_each_other_become_one() -> None:
    table = Table().add(0, 8, state=CLOSED).add(1, 8, state=CLOSED).add(0, 8, state=CLOSED).add(2, 8, state=OPEN)
    assert table.planned() == [([0, 1], 0)]
    assert [ref.first_row for ref in table.plan()[0].refs] == [0, 1, 2]


def test_small_sealed_neighbours_on_both_sides_are_joined() -> None:
    table = Table().add(0, MIB).add(2, MIB, state=CLOSED).add(4, MIB, spare=5).add(6, MIB, state=OPEN)
    assert table.planned() == [([0, 2, 4], 2)]


def test_nothing_is_joined_across_a_large_file() -> None:
    table = Table().add(0, MIB, state=CLOSED).add(2, SMALL_BYTES).add(3, MIB, state=CLOSED)
    assert table.planned() == [([0], 0), ([3], 3)]


def test_a_file_of_a_useful_size_is_not_written_again() -> None:
    table = Table().add(0, MIB, spare=1).add(2, FULL_BYTES, spare=3).add(4, MIB, spare=5).add(6, MIB, spare=7)
    assert [segments for segments, _ in table.planned()] == [[4, 6]]
    assert Table().add(0, FULL_BYTES, state=CLOSED).add(1, FULL_BYTES, state=CLOSED).planned() == [([0, 1], 0)]


def test_what_is_together_too_large_stays_apart() -> None:
    table = Table().add(0, 20 * MIB).add(1, 20 * MIB, state=CLOSED).add(2, 20 * MIB, state=CLOSED)
    assert table.planned() == [([1, 2], 1)]


def test_small_sealed_files_are_joined_under_a_number_kept_for_them() -> None:
    table = Table().add(0, MIB, spare=1).add(2, MIB, spare=3).add(4, SMALL_BYTES, spare=5).add(6, MIB, spare=7)
    assert table.planned() == [([0, 2], 1)]
    assert table.plan()[0].spare == 3


def test_sealed_files_without_such_a_number_are_left() -> None:
    assert Table().add(0, MIB).add(1, MIB).planned() == []
    assert Table().add(0, MIB).add(2, MIB, spare=3).planned() == [([0, 2], 3)]
    assert Table().add(0, MIB).add(2, MIB, spare=3).plan()[0].spare is None


def test_a_number_that_a_segment_has_is_not_free() -> None:
    """Segments of a rebuilt catalog, or of one that was made before there were numbers to spare."""
    table = Table().add(0, 8, state=CLOSED).add(1, 8, state=OPEN)
    assert [(merge.number, merge.spare) for merge in table.plan()] == [(0, None)]
    assert Table().add(0, MIB, spare=1).add(1, MIB).planned() == []


def test_a_single_file_is_not_written_again() -> None:
    assert Table().add(0, MIB, spare=1).add(2, 8, state=OPEN).planned() == []


def test_closed_segments_without_batches_are_cleared_away() -> None:
    table = Table().add(0, 8, state=CLOSED).add(1, 8, state=CLOSED)
    table.refs.pop()
    assert table.planned() == [([0, 1], 0)]
    table.refs.clear()
    assert table.planned() == [([0, 1], 0)]


def test_a_file_of_which_a_batch_would_stay_behind_is_left() -> None:
    table = Table().add(0, 8, state=CLOSED).add(1, SMALL_BYTES).add(0, 8, state=CLOSED).add(2, 8, state=CLOSED)
    assert table.planned() == []


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_every_closed_segment_goes_once_and_rows_keep_their_order(seed: int, count: int) -> None:
    chance, table, number = random.Random(seed), Table(), 0
    while len(table.refs) < count:
        kind = chance.choice(["closed", "small", "large"])
        if kind == "closed":
            several = range(number, number + 2 * chance.randint(1, 3), 2)
            for _ in range(chance.randint(1, 6)):
                table.add(chance.choice(several), chance.choice([8, MIB]), state=CLOSED)
            number = several.stop
        else:
            table.add(number, MIB if kind == "small" else SMALL_BYTES, spare=number + 1)
            number += 2
    merges = table.plan()
    gone = [segment.number for merge in merges for segment in merge.segments]
    assert len(gone) == len(set(gone))
    assert {number for number, state in table.states.items() if state == CLOSED} <= set(gone)
    for merge in merges:
        assert [ref.first_row for ref in merge.refs] == list(
            range(merge.refs[0].first_row, merge.refs[-1].first_row + 1)
        )
    # The order of numbers is the order of rows before and after.
    rows = {ref.first_row: ref.segment for ref in table.refs}
    rows |= {ref.first_row: merge.number for merge in merges for ref in merge.refs}
    blocks = list(dict.fromkeys(rows[row] for row in sorted(rows)))
    assert all(a < b for a, b in pairwise(blocks))


def test_a_much_larger_neighbour_waits_for_others_until_the_end() -> None:
    table = Table()
    for _ in range(7):
        table.add(0, 8)
    table.add(1, 8, state=CLOSED)
    assert [segment.number for segment in table.plan(last=False)[0].segments] == [1]
    assert [segment.number for segment in table.plan(last=True)[0].segments] == [0, 1]
    table.add(1, 8, state=CLOSED).add(1, 8, state=CLOSED).add(1, 8, state=CLOSED)
    assert [segment.number for segment in table.plan(last=False)[0].segments] == [0, 1]


@pytest.mark.parametrize("size", [16, 1_000, MIB])
def test_rows_that_come_for_ever_are_written_a_few_times_and_lie_in_few_files(size: int) -> None:
    rounds, files, written = 2_000, [], 0
    for number in range(rounds):
        segments = {index: Segment(index, True, rows * size, rows, b"") for index, rows in enumerate(files)}
        segments[number] = Segment(number, False, 8 * size, 1, b"")
        refs = [BatchRef(index, 0, 1, segment.rows, 0, index) for index, segment in segments.items()]
        (merge,) = plan_merges(segments, {number: CLOSED}, refs, last=False)
        rows = sum(segment.rows for segment in merge.segments)
        files = [*files[: len(segments) - len(merge.segments)], rows]
        written += rows
    assert sum(files) == rounds
    assert len(files) <= rounds * size / (SMALL_BYTES / 4) + math.log2(rounds)
    assert written <= rounds * (1 + math.log2(rounds))


@pytest.mark.parametrize("seed", range(20))
def test_however_it_came_about_all_small_neighbours_are_one_file_in_the_end(seed: int) -> None:
    """Seals while rows come, files of writers, and then the end, with something open or nothing."""
    chance, table, number, used = random.Random(seed), Table(), 0, set[int]()
    for _ in range(60):
        kind = chance.choice(["closed", "closed", "small"])
        table.add(number, MIB // 64, **({"state": CLOSED} if kind == "closed" else {"spare": number + 1}))  # type: ignore[arg-type]
        used |= {number} if kind == "small" else set()
        number += 2
        if chance.random() < 0.7:
            exchange(table, table.plan(last=False), used)
    exchange(table, table.plan(last=True), used)
    assert len(table.segments) == 1


def exchange(table: Table, merges: tuple[Merge, ...], used: set[int]) -> None:
    """Does what the sealer does; numbers of files are never used twice."""
    for merge in merges:
        assert merge.number not in used
        assert merge.spare not in used
        used.add(merge.number)
        for segment in merge.segments:
            del table.segments[segment.number]
            table.states.pop(segment.number, None)
        size = sum(segment.length for segment in merge.segments)
        table.segments[merge.number] = Segment(merge.number, True, size, len(merge.refs), b"")
        if merge.spare is not None:
            table.states[merge.number] = spare_state(merge.spare)
        rows = {ref.first_row for ref in merge.refs}
        table.refs = [replace(ref, segment=merge.number) if ref.first_row in rows else ref for ref in table.refs]
