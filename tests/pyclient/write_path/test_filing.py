"""Which queued batches go as one file, and how long they wait for others."""

from __future__ import annotations

import pyarrow as pa
import pytest
from rund._transport.filing import LEAST_FILE_BYTES, Filing
from rund._transport.parcels import FILE_BYTES, Bundle, Parcel

MIB = 1 << 20


class Folder:
    """Takes batches of one schema."""

    def takes(self, schema: bytes) -> bool:
        return schema == b"schema"


class Queue:
    """Batches as an outbox has them."""

    def __init__(self, filing: Filing) -> None:
        self.filing = filing
        self.parcels: dict[int, Parcel] = {}

    def add(self, size: int, schema: bytes = b"schema") -> bool:
        number = len(self.parcels) + 1
        self.parcels[number] = Parcel(number, schema, pa.py_buffer(bytes(size)))
        return self.filing.add(self.parcels[number])

    def pause(self, first: int) -> float | None:
        return self.filing.pause(self.parcels[first])

    def take(self, first: int) -> list[int]:
        """The sequences of what goes next; of a file negative ones."""
        taken = self.filing.take(self.parcels[first], self.parcels)
        return [-parcel.sequence for parcel in taken.parcels] if isinstance(taken, Bundle) else [taken.sequence]


@pytest.fixture
def queue() -> Queue:
    filing = Filing()
    filing.begin(Folder(), 0)
    return Queue(filing)


def test_without_a_folder_nothing_waits() -> None:
    queue = Queue(Filing())
    assert queue.add(8 * MIB)
    assert queue.add(8)
    assert queue.pause(1) == 0.0
    assert [queue.take(1), queue.take(2)] == [[1], [2]]


def test_a_small_batch_waits_a_moment_and_goes_alone(queue: Queue) -> None:
    assert queue.add(100)
    pause = queue.pause(1)
    assert pause is not None
    assert 0 < pause < 0.01
    assert queue.take(1) == [1]


def test_enough_for_a_file_goes_at_once(queue: Queue) -> None:
    assert [queue.add(MIB) for _ in range(5)] == [True, False, False, True, False]
    assert queue.pause(1) == 0.0
    assert queue.take(1) == [-1, -2, -3, -4, -5]


def test_batches_gather_while_a_file_is_under_way(queue: Queue) -> None:
    queue.add(4 * MIB)
    queue.take(1)
    assert [queue.add(MIB) for _ in range(FILE_BYTES // MIB)] == [True] + [False] * 14 + [True]
    assert queue.pause(2) == 0.0
    assert queue.take(2) == list(range(-2, -18, -1))


def test_a_fourth_file_waits_for_an_ack(queue: Queue) -> None:
    for number in (1, 2, 3, 4):
        queue.add(FILE_BYTES)
        if number < 4:
            assert queue.pause(number) == 0.0
            queue.take(number)
    assert queue.pause(4) is None
    assert not queue.filing.acked(0)
    assert queue.filing.acked(1)
    assert queue.pause(4) == 0.0


def test_a_file_holds_batches_of_one_schema_and_no_more_than_fits(queue: Queue) -> None:
    queue.add(15 * MIB)
    queue.add(2 * MIB)
    queue.add(2 * MIB, b"another")
    assert queue.take(1) == [-1]
    assert queue.take(2) == [-2]
    assert queue.pause(3) == 0.0, "what can't be put into a file waits for none"
    assert queue.take(3) == [3]


def test_what_is_not_worth_a_file_goes_over_the_socket(queue: Queue) -> None:
    queue.add(LEAST_FILE_BYTES // 2)
    queue.add(LEAST_FILE_BYTES, b"another")
    assert queue.take(1) == [1]


def test_a_new_call_begins_with_all_that_is_not_durable(queue: Queue) -> None:
    queue.add(FILE_BYTES)
    queue.take(1)
    queue.filing.begin(Folder(), FILE_BYTES)
    assert queue.pause(1) == 0.0
    assert queue.take(1) == [-1]
