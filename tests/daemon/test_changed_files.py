"""Files that are written into while the daemon takes them: refused or taken, and never a fault of the daemon."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rund_daemon.checking import check
from rund_daemon.errors import CorruptError, InvalidError, Reason, RundError
from rund_daemon.limits import Limits
from rund_daemon.segments.file_format import PREAMBLE, Block
from rund_daemon.segments.staged_file import IncomingFile

from tests.daemon.rooms import Rooms, numbers, run_in
from tests.daemon.test_staging import SCHEMA, Writer, column, prepared

Change = Callable[[Path], object]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(numbers(0, 10).serialize().to_pybytes())


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(bytes(100))


CHANGES = [truncate, empty, grow, overwrite]


def body(count: int = 20) -> bytes:
    return b"".join([PREAMBLE, SCHEMA, *(numbers(at, at + 50).serialize().to_pybytes() for at in range(count))])


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_two_batches_is_noticed(tmp_path: Path, change: Change) -> None:
    path = tmp_path / "1.arrow"
    path.write_bytes(body())
    a_while_ago(path)
    with IncomingFile(path) as file, pytest.raises(InvalidError) as refused:
        take(file, lambda number: change(path) if number == 3 else None)
    assert refused.value.reason is Reason.INVALID_ARROW


def take(file: IncomingFile, after_batch: Callable[[int], object]) -> None:
    blocks = []
    for number, (offset, _, data) in enumerate(file.messages(SCHEMA)):
        blocks.append(Block.of(offset, data))
        after_batch(number)
    file.finish(SCHEMA, blocks)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_behind_the_last_batch_is_noticed(tmp_path: Path, change: Change) -> None:
    path = tmp_path / "1.arrow"
    path.write_bytes(body())
    a_while_ago(path)
    with IncomingFile(path) as file:
        blocks = [Block.of(offset, data) for offset, _, data in file.messages(SCHEMA)]
        change(path)
        with pytest.raises(InvalidError, match="was changed"):
            file.finish(SCHEMA, blocks)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_check_and_commit_is_refused_and_others_go_on(tmp_path: Path, change: Change) -> None:
    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        careless, other = Writer(rooms, table, "careless"), Writer(rooms, table, "other")
        async with rooms.one_group():
            await other.hand_over(numbers(0, 10))
            await careless.hand_over(numbers(0, 100))
            await other.send(numbers(10, 20))
            while careless.stream.files.running:
                await asyncio.sleep(0.001)
            (path,) = careless.folder.path.iterdir()
            change(path)
            a_while_ago(path)
        await other.close()
        with pytest.raises(InvalidError, match="was changed"):
            await careless.close()
        assert await column(rooms, table) == list(range(20))
        assert check(rooms.catalog, rooms.layout).findings == ()
        assert not list((tmp_path / "trash" / "new").iterdir())

    run_in(tmp_path, work)
    assert not list((tmp_path / "incoming").iterdir())


@pytest.mark.parametrize("change", [truncate, empty, overwrite])
def test_a_change_after_the_commit_is_told_to_who_reads_it(tmp_path: Path, change: Change) -> None:
    async def work(rooms: Rooms) -> None:
        run, table = await prepared(rooms)
        other = await rooms.new_table(run, "other")
        await rooms.write(other, numbers(0, 10))
        writer = Writer(rooms, table)
        await writer.hand_over(numbers(0, 100), numbers(100, 200))
        await writer.close()
        (path,) = rooms.folder(run).iterdir()
        # What lies behind the batches is not needed by the daemon; so the change comes into the middle.
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2 + 300])
        change(path)
        with pytest.raises(CorruptError):
            await column(rooms, table)
        await rooms.write(table, numbers(200, 210), stream_id="later")
        assert (await rooms.read(table.uid, start_row=200)).column("x").to_pylist() == list(range(200, 210))
        assert await column(rooms, other) == list(range(10))
        assert not check(rooms.catalog, rooms.layout).sound

    run_in(tmp_path, work)


@pytest.mark.parametrize("rounds", [40, pytest.param(2_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_a_file_that_changes_all_the_time(tmp_path: Path, rounds: int) -> None:
    """Somebody writes into it while it is checked: an answer or a refusal, and nothing else."""
    chance, done = random.Random(7), threading.Event()
    whole, outcomes = body(200), set[bool]()

    async def work(rooms: Rooms) -> None:
        _, table = await prepared(rooms)
        writer = Writer(rooms, table)
        path = writer.folder.path / "1.arrow"
        path.write_bytes(whole)
        meddler = threading.Thread(target=meddle, args=(path, whole, chance, done))
        meddler.start()
        try:
            for _ in range(rounds):
                if chance.random() < 0.3:
                    path.write_bytes(whole)
                outcomes.add(is_taken(writer, rooms.limits))
        finally:
            done.set()
            meddler.join()
        writer.stream.close()

    run_in(tmp_path, work)
    assert False in outcomes


def is_taken(writer: Writer, limits: Limits) -> bool:
    try:
        writer.folder.check("1.arrow", 200, writer.head, None, limits)
    except RundError:
        return False
    return True


def meddle(path: Path, whole: bytes, chance: random.Random, done: threading.Event) -> None:
    while not done.is_set():
        at = chance.randrange(len(whole))
        match chance.randrange(3):
            case 0:
                os.truncate(path, at)
            case 1:
                os.truncate(path, len(whole))
            case 2:
                with path.open("r+b") as file:
                    file.seek(at)
                    file.write(chance.randbytes(64))


def a_while_ago(path: Path) -> None:
    """Sets the time of its last change back, so that a change in the same tick of the clock is one."""
    os.utime(path, (time.time() - 1, time.time() - 1))
