"""Reads of any range, filter and columns give what pyarrow gives, and go on exactly where they were broken off."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rund_daemon.errors import DrainingError, InvalidError, Reason
from rund_daemon.model import MetricsTable, RunStatus
from rund_daemon.names import RunName
from rund_daemon.reading import scan
from rund_daemon.reading.pieces import PIECE_BYTES, cut, join
from rund_daemon.reading.scan import Piece, ScanRequest
from rund_daemon.runs import RunUpdate

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in, send


def wide(begin: int, end: int) -> pa.RecordBatch:
    """Rows of half a kilobyte."""
    vectors = np.arange(begin * 128, end * 128, dtype=np.float32)
    return pa.record_batch(
        {"x": pa.array(range(begin, end)), "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 128)}
    )


def texts(begin: int, end: int) -> pa.RecordBatch:
    """Rows of very different sizes."""
    return pa.record_batch({"x": range(begin, end), "s": ["t" * (row % 997) * (row % 3) for row in range(begin, end)]})


BATCHES = [
    numbers(0, 1),
    numbers(1, 100),
    texts(100, 4_000),
    numbers(4_000, 4_500),
    wide(4_500, 12_000),
    *(numbers(row, row + 1) for row in range(12_000, 12_100)),
    texts(12_100, 12_110),
    pa.record_batch({"x": pa.array(np.arange(12_110, 13_000) + 0.5)}),
]
ROWS = 13_000


async def prepared(rooms: Rooms) -> MetricsTable:
    table = await rooms.new_table(await rooms.new_run(), constants={"c": "constant", "n": 7})
    await rooms.write(table, *BATCHES)
    return table


def expected() -> pa.Table:
    parts = [pa.table(batch) for batch in BATCHES]
    whole = pa.concat_tables(parts, promote_options="permissive")
    whole = whole.set_column(0, "x", whole.column("x").cast(pa.float64()))
    return whole.append_column("c", pa.repeat("constant", ROWS)).append_column("n", pa.repeat(7, ROWS))


async def pieces(rooms: Rooms, table: MetricsTable, request: ScanRequest) -> list[Piece]:
    return [piece async for piece in rooms.reader.read(table.uid, request)]


def table_of(found: list[Piece], head: bytes = b"") -> pa.Table:
    return pa.ipc.open_stream((head or found[0].schema) + b"".join(piece.data for piece in found)).read_all()


FILTERS = {
    "": None,
    "x >= 4400 AND x < 4700": (pc.field("x") >= 4400) & (pc.field("x") < 4700),
    "s = 'tt*'": pc.starts_with(pc.field("s"), "tt"),
    "x > 999999": pc.field("x") > 999999,
}
RANGES = [
    (0, None),
    (0, 0),
    (50, 1),
    (99, 3),
    (3_990, 20),
    (4_499, 2),
    (5_000, 3_000),
    (11_999, 500),
    (12_995, 99),
    (20_000, 5),
]


def test_any_range_filter_and_columns(tmp_path: Path) -> None:
    whole = expected()

    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        for seal in (False, True):
            if seal:
                await rooms.seal(table)
            for start, limit in RANGES:
                for text, expression in FILTERS.items():
                    for columns in (None, (), ("x",), ("n", "s", "x")):
                        found = table_of(
                            await pieces(rooms, table, ScanRequest(columns, text, start_row=start, row_limit=limit))
                        )
                        wanted = whole.slice(start, limit)
                        wanted = wanted if expression is None else wanted.filter(expression)
                        assert found.num_rows == wanted.num_rows
                        names = whole.schema.names if columns is None else list(columns)
                        assert found.schema.names == names
                        assert found.to_pydict() == wanted.select(names).to_pydict() if names else True

    run_in(tmp_path, work)


@pytest.mark.parametrize("text", ["", "x >= 100 AND x < 12105"])
def test_a_read_goes_on_from_any_piece_without_losing_or_doubling_a_row(tmp_path: Path, text: str) -> None:
    async def work(rooms: Rooms) -> None:
        table = await prepared(rooms)
        found = await pieces(rooms, table, ScanRequest(filter=text))
        whole = table_of(found)
        assert len(found) > 6
        assert all(len(piece.data) <= PIECE_BYTES * 1.1 for piece in found)
        assert [piece.next_row for piece in found] == sorted(piece.next_row for piece in found)
        assert found[-1].next_row == ROWS
        for broken_at in range(len(found)):
            rest = await pieces(rooms, table, ScanRequest(filter=text, start_row=found[broken_at].next_row))
            before = table_of(found[: broken_at + 1])
            assert pa.concat_tables([before, table_of(rest)]).equals(whole)

    run_in(tmp_path, work)


def test_a_long_column_that_others_lack_does_not_take_room_for_all_of_them_at_once(tmp_path: Path) -> None:
    """A million narrow rows are read with the 500 columns that came later: 4 GB, if they were made in one go."""

    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        await rooms.write(table, numbers(0, 1_000_000), pa.record_batch({f"late{n}": [float(n)] for n in range(500)}))
        seen = 0
        peak = pa.default_memory_pool().bytes_allocated()
        async for piece in rooms.reader.read(table.uid, ScanRequest(row_limit=20_000)):
            assert len(piece.data) < 2 * PIECE_BYTES
            seen = piece.next_row
            peak = max(peak, pa.default_memory_pool().bytes_allocated())
        assert seen == 20_000
        assert peak < 500 << 20

    run_in(tmp_path, work)


def test_cutting_keeps_every_row_in_its_place() -> None:
    chance = random.Random(1)
    texts_ = ["x" * chance.choice([0, 10, 1_000, 100_000, 3_000_000]) for _ in range(60)]
    rows = pa.record_batch({"s": texts_})
    parts = list(cut(rows, 1_000, rows.schema, lambda part: [part]))
    row = 1_000
    for data, following in parts:
        (batch,) = pa.ipc.open_stream(rows.schema.serialize().to_pybytes() + bytes(data)).read_all().to_batches()
        assert batch.column("s").to_pylist() == texts_[row - 1_000 : following - 1_000]
        assert batch.nbytes <= PIECE_BYTES or batch.num_rows == 1
        row = following
    assert row == 1_060
    joined = join(parts)
    assert b"".join(data for data, _ in joined) == b"".join(data for data, _ in parts)
    assert joined[-1][1] == 1_060
    assert join([]) == []


def test_bad_ranges_columns_and_filters(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        await rooms.write(table, numbers(0, 10))
        for request, reason in (
            (ScanRequest(start_row=-1), Reason.INVALID_FIELD),
            (ScanRequest(row_limit=-1), Reason.INVALID_FIELD),
            (ScanRequest(("y",)), Reason.INVALID_COLUMN),
            (ScanRequest(("x", "x")), Reason.INVALID_COLUMN),
            (ScanRequest(filter="y = 1"), Reason.INVALID_FILTER),
            (ScanRequest(filter="x ="), Reason.INVALID_FILTER),
        ):
            with pytest.raises(InvalidError) as refused:
                await pieces(rooms, table, request)
            assert refused.value.reason is reason

    run_in(tmp_path, work)


def test_following_gives_rows_as_they_are_committed_until_the_table_is_sealed(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        await rooms.write(table, numbers(0, 3))
        found: list[Piece] = []

        async def follow() -> None:
            async for piece in rooms.reader.read(table.uid, ScanRequest(follow=True)):
                found.append(piece)  # noqa: PERF401  # what was found is looked at meanwhile

        following = asyncio.ensure_future(follow())
        while not found:  # it has seen the table without the new column
            await asyncio.sleep(0.001)
        stream = rooms.ingest.open(table, "w")
        await send(stream, 2, numbers(3, 6))
        await send(stream, 3, pa.record_batch({"x": [6], "new": ["column"]}))
        await stream.drain()
        while found[-1].next_row < 7:
            await asyncio.sleep(0.01)
        assert not following.done()
        await rooms.runs.seal_table(table)
        await asyncio.wait_for(following, 30)
        heads = [number for number, piece in enumerate(found) if piece.schema]
        assert len(heads) == 2, "a new column begins a new stream"
        last = table_of(found[heads[1] :])
        assert last.schema.names == ["x", "new"]
        first = table_of(found[: heads[1]])
        assert first.column("x").to_pylist() + last.column("x").to_pylist() == list(range(7))

    run_in(tmp_path, work)


def test_following_ends_after_the_run_and_what_its_writers_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_at_the_end(seconds: float) -> None:
        monkeypatch.setattr(scan, "_ENDED_SECONDS", seconds)

    async def work(rooms: Rooms) -> None:
        wait_at_the_end(0.2)
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 3))
        following = asyncio.ensure_future(pieces(rooms, table, ScanRequest(follow=True)))
        await asyncio.sleep(0.5)
        await rooms.rename(run, "other")
        assert not following.done(), "without rows and while others change, as long as the run goes on"
        name = RunName(run.project, "other")
        # How long is looked up when the waiting begins: however slow the machine is, the rows come in time.
        wait_at_the_end(60.0)
        await rooms.runs.update(name, RunUpdate(status=RunStatus.FAILED), "", NO_REQUEST)
        await asyncio.sleep(0.2)
        wait_at_the_end(0.2)
        await rooms.write(table, numbers(3, 6), first=2)
        found = await asyncio.wait_for(following, 30)
        assert table_of(found).column("x").to_pylist() == list(range(6))
        wait_at_the_end(60.0)
        again = asyncio.ensure_future(pieces(rooms, table, ScanRequest(follow=True, start_row=6)))
        await asyncio.sleep(0.2)
        wait_at_the_end(0.2)
        await rooms.runs.update(name, RunUpdate(status=RunStatus.RUNNING), "", NO_REQUEST)
        await asyncio.sleep(0.5)
        await rooms.write(table, numbers(6, 7), first=3)
        await rooms.runs.seal_table(table)
        assert table_of(await asyncio.wait_for(again, 30)).column("x").to_pylist() == [6], "it was resumed in time"

    run_in(tmp_path, work)


def test_a_reader_that_follows_is_told_when_the_daemon_stops(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        following = asyncio.ensure_future(pieces(rooms, table, ScanRequest(follow=True)))
        await asyncio.sleep(0.05)
        rooms.feed.close(DrainingError())
        with pytest.raises(DrainingError):
            await asyncio.wait_for(following, 30)

    run_in(tmp_path, work)
