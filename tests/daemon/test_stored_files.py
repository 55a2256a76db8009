"""Rows that a reader on the daemon's host takes from sealed files are those that it would have been sent."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rund._stored_rows import StoredRows
from rund._transport.read_stream import RowRequest, read_batches
from rund_daemon.errors import InvalidError
from rund_daemon.model import MetricsTable, Run
from rund_daemon.names import RunName
from rund_daemon.reading.scan import Piece, ScanRequest
from rund_daemon.segments import checked_segments
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.schemas import conform, unify
from rund_daemon.services.convert_pieces import piece_to_pb
from rund_pb.v1 import metrics_service_pb2 as ms

from tests.daemon.rooms import NO_REQUEST, Rooms, numbers, run_in

KINDS: tuple[Any, ...] = (
    pa.null(),
    pa.bool_(),
    pa.int8(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
)
LISTS: tuple[Any, ...] = (pa.list_(pa.float32(), 2), pa.list_(pa.float32(), 3), pa.list_(pa.int32()))


def some_rows(chance: random.Random, number: int) -> pa.RecordBatch:
    """A batch whose columns, types, order and length may be those of no other."""
    rows = chance.choice([1, 2, 30, 500, 3_000])
    columns: dict[str, Any] = {"step": pa.array([number * 10 + row % 10 for row in range(rows)], pa.int64())}
    if chance.random() < 0.8:
        columns["a"] = values(chance, chance.choice(KINDS), rows)
    if chance.random() < 0.5:
        columns["s"] = pa.array([chance.choice(["", "x" * 50, None]) for _ in range(rows)], pa.string())
    if chance.random() < 0.4:
        kind = chance.choice(LISTS)
        width = kind.list_size if pa.types.is_fixed_size_list(kind) else 4
        columns["v"] = pa.array([chance.choice([None, [1] * width]) for _ in range(rows)], kind)
    names = list(columns)
    chance.shuffle(names)
    return pa.record_batch({name: columns[name] for name in names})


FILTERS = (
    "",
    "",
    "step >= 30",
    "step < 20 OR step > 1e9",
    "NOT step = 13",
    "a > 0.25",
    "a <= 0",
    "a = nan",
    "a != nan",
    "NOT a > 0",
    "a = null",
    "a:*",
    "a = true",
    "a = 'abc'",
    "s = 'x*' AND step >= 10",
    "NOT s = ''",
    "v:*",
)


def some_filter(chance: random.Random, constants: dict[str, Any]) -> str:
    """A filter that may fit the table."""
    of_constants = ("n = 7", "n = 8 OR step < 15", "c = 'const*' AND a:*") if constants else ()
    return chance.choice([*FILTERS, *of_constants])


def values(chance: random.Random, kind: Any, rows: int) -> Any:
    if pa.types.is_null(kind):
        return pa.nulls(rows)
    plain: dict[Any, list[Any]] = {pa.bool_(): [True, False, None], pa.string(): ["1", "abc", None]}
    floats = [0.5, -1.25, float("nan"), None]
    choices = plain.get(kind, floats if pa.types.is_floating(kind) else [0, 1, -7, None])
    return pa.array([chance.choice(choices) for _ in range(rows)], kind)


@dataclass
class Reader:
    """What a client does, without a network: `disturb` is called before each file is opened."""

    rooms: Rooms
    table: MetricsTable
    loop: asyncio.AbstractEventLoop
    disturb: Callable[[], Any]
    files: int = 0
    asked: list[RowRequest] = field(default_factory=list)

    def ask(self, rest: RowRequest) -> Iterator[ms.ReadMetricsResponse]:
        self.asked.append(rest)
        bounds = {"start_row": rest.start_row, "row_limit": rest.row_limit, "stored_files": rest.stored_files}
        pieces = self.rooms.reader.read(self.table.uid, ScanRequest(rest.columns, rest.filter, **bounds))  # type: ignore[arg-type]
        while (piece := self._wait(anext(pieces, None))) is not None:
            self.files += len(piece.files)
            if piece.files and (work := self.disturb()) is not None:
                self._wait(work)
            yield piece_to_pb(piece)

    async def read(self, request: RowRequest) -> pa.Table:
        batches = await asyncio.to_thread(lambda: list(read_batches(self.ask, request, lambda: None)))
        return pa.Table.from_batches(batches)

    def _wait(self, work: Any) -> Piece | None:
        async def done() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self.loop).result(60)  # type: ignore[no-any-return]


async def same_rows(rooms: Rooms, table: MetricsTable, request: RowRequest, disturb: Callable[[], Any]) -> Reader:
    """Reads in both ways."""
    reader = Reader(rooms, table, asyncio.get_running_loop(), disturb)
    sent = await reader.read(request)
    assert reader.files == 0
    found = await reader.read(RowRequest(**{**fields_of(request), "stored_files": True}))
    assert found.schema.equals(sent.schema, check_metadata=True)
    assert found.num_rows == sent.num_rows
    assert without_nan(found).equals(without_nan(sent))
    found.validate(full=True)
    return reader


def without_nan(table: pa.Table) -> pa.Table:
    """NaN equals nothing, so it becomes a number that no test has."""
    for number, name in enumerate(table.schema.names):
        column: Any = table.column(name)
        if pa.types.is_floating(column.type):
            table = table.set_column(number, name, pc.if_else(pc.is_nan(column), 999.0, column.cast(pa.float64())))
    return table


def fields_of(request: RowRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in request.__slots__}


def nothing() -> None:
    return None


@pytest.mark.parametrize("seed", range(8))
def test_rows_of_files_are_those_that_are_sent(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    constants = {"c": "constant", "n": 7, "mixed": [1, "a"]} if seed % 2 else {}

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run, constants=constants)
        sequence, files = 1, 0
        for round_ in range(4):
            batches = [some_rows(chance, sequence + number) for number in range(chance.choice([1, 3, 12]))]
            await rooms.write(table, *batches, first=sequence)
            sequence += len(batches)
            if round_ < 3:
                await rooms.seal(table)
            rows = rooms.runs.get_table_by_uid(table.uid).mark.rows
            for _ in range(8):
                known = ["step", "a", *constants]
                columns = chance.choice([None, (), ("step",), tuple(chance.sample(known, 2))])
                start, limit = chance.randrange(rows), chance.choice([None, 0, 1, 700, rows])
                if columns and "a" in columns and b"a" not in rooms.runs.get_table_by_uid(table.uid).table.arrow_schema:
                    continue
                request = RowRequest(columns, some_filter(chance, constants), start_row=start, row_limit=limit)
                with contextlib.suppress(InvalidError):  # the filter compares a column with what it can't be
                    files += (await same_rows(rooms, table, request, nothing)).files
        assert files, "no file was ever named"

    run_in(tmp_path, work, compression=Compression.ZSTD if seed % 4 == 3 else Compression.NONE)


@pytest.mark.parametrize("seed", range(6))
def test_while_files_are_joined_and_runs_move(tmp_path: Path, seed: int) -> None:
    """Between the answer that names a file and its opening, all happens that may take the file away."""
    chance = random.Random(seed)

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        at = Place(rooms, run, table)
        for number in range(5):
            await at.write(some_rows(chance, number))
            await rooms.seal(table)

        def disturb() -> Any:
            change = chance.choice([at.rename, at.trash, at.seal, None])
            return change() if change else None

        for start in (0, 0, 3, 100):
            reader = await same_rows(rooms, table, RowRequest(start_row=start), disturb)
            await at.restore()
            assert len(reader.asked) < 60

    run_in(tmp_path, work)


@dataclass
class Place:
    """A run whose table is somewhere else each time."""

    rooms: Rooms
    run: Run
    table: MetricsTable
    moves: int = 0
    sequence: int = 0
    trashed: bool = False

    async def write(self, batch: pa.RecordBatch) -> None:
        self.sequence += 1
        await self.rooms.write(self.table, batch, first=self.sequence)

    async def rename(self) -> None:
        if not self.trashed:
            self.moves += 1
            self.run = await self.rooms.rename(self.run, f"run{self.moves}")

    async def trash(self) -> None:
        if self.trashed:
            await self.restore()
            return
        await self.rooms.runs.delete(RunName("p", self.run.name), "", NO_REQUEST)
        self.trashed = True

    async def restore(self) -> None:
        if self.trashed:
            await self.rooms.runs.undelete(RunName("p", self.run.name), self.run.uid, NO_REQUEST)
            self.trashed = False

    async def seal(self) -> None:
        await self.rooms.seal(self.table)


def test_files_are_compared_once_and_few_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However a file is read, in parts or whole, and however little is remembered, damage is found."""
    monkeypatch.setattr(checked_segments, "_MOST_FILES", 2)
    monkeypatch.setattr(checked_segments, "_MOST_BATCHES", 3)
    monkeypatch.setattr("rund_daemon.segments.seal.MERGED_ROWS", 1_000)

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        tables = [await rooms.new_table(run, name) for name in ("a", "b", "c")]
        for table in tables:
            await rooms.write(table, *(numbers(at, at + 1_000) for at in range(0, 5_000, 1_000)))
        await rooms.seal(*tables)
        for start, limit in ((0, 1_000), (1_500, 10), (0, None), (2_000, None)):
            for table in tables:
                reader = await same_rows(rooms, table, RowRequest(start_row=start, row_limit=limit), nothing)
                assert reader.files == 1
        checked = rooms.reader._checked
        assert len(checked._files) <= 2
        assert checked._batches == sum(len(known.offsets) for known in checked._files.values()) <= 3
        (path,) = rooms.folder(run, "b").glob("*.arrow")
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(bytes(500))
        with pytest.raises(Exception, match="does not match its checksum"):
            await Reader(rooms, tables[1], asyncio.get_running_loop(), nothing).read(RowRequest(stored_files=True))

    run_in(tmp_path, work)


def test_damage_is_found_before_a_file_is_named(tmp_path: Path) -> None:
    """Zeros are rows to Arrow: a file is compared with its checksums, and again when it was changed."""

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 10_000))
        await rooms.seal(table)
        reader = await same_rows(rooms, table, RowRequest(), nothing)
        assert reader.files == 1
        (path,) = rooms.folder(run).glob("*.arrow")
        with path.open("r+b") as file:
            file.seek(20_000)
            file.write(bytes(100))
        with pytest.raises(Exception, match="does not match its checksum"):
            await reader.read(RowRequest(stored_files=True))

    run_in(tmp_path, work)


@pytest.mark.parametrize("change", ["gone", "another", "as large"])
def test_a_file_that_is_another_one_is_not_taken(tmp_path: Path, change: str) -> None:
    """As on a host that sees other files under the same path: the rows are sent then."""

    async def work(rooms: Rooms) -> None:
        run = await rooms.new_run()
        table = await rooms.new_table(run)
        await rooms.write(table, numbers(0, 1_000), numbers(1_000, 2_000))
        await rooms.seal(table)
        (path,) = rooms.folder(run).glob("*.arrow")
        aside = path.with_suffix(".aside")

        class Elsewhere(Reader):
            def ask(self, rest: RowRequest) -> Iterator[ms.ReadMetricsResponse]:
                for answer in super().ask(rest):
                    if answer.stored_files:
                        path.rename(aside)
                        if change != "gone":
                            content = aside.read_bytes()
                            path.write_bytes(content if change == "as large" else content + b"more")
                            os.utime(path, ns=(0, path.stat().st_mtime_ns))
                    yield answer
                    if aside.exists():
                        aside.rename(path)

            def _wait(self, work: Any) -> Piece | None:
                if aside.exists():
                    aside.rename(path)
                return super()._wait(work)

        reader = Elsewhere(rooms, table, asyncio.get_running_loop(), nothing)
        found = await reader.read(RowRequest(stored_files=True))
        assert found["x"].to_pylist() == list(range(2_000))
        assert [request.stored_files for request in reader.asked] == [True, True, False]

    run_in(tmp_path, work)


def test_columns_of_other_types_become_what_the_daemon_makes_of_them() -> None:
    """As a bundle's reader meets them: large files are not joined, and each keeps the types that it came with."""
    columns = [
        pa.array([True, None]),
        pa.array([1, None], pa.int8()),
        pa.array([2**60 + 1, None]),
        pa.array([0.1, None], pa.float16()),
        pa.array([0.1, None], pa.float32()),
        pa.array([1e300, None]),
        pa.array(["x", None]),
        pa.array([1, None], pa.date32()),
        pa.array([1500, None], pa.duration("ms")),
        pa.array([[1, 2], None], pa.list_(pa.float32(), 2)),
        pa.array([[1], None], pa.list_(pa.int32())),
    ]
    cast = 0
    for one, other in itertools.permutations(columns, 2):
        batches = [pa.record_batch({"x": one}), pa.record_batch({"y": other, "x": other})]
        with contextlib.suppress(InvalidError):  # a list and a number of one name
            schema = unify(batches[0].schema, batches[1].schema)
            found = list(StoredRows.of(schema, schema, {}, "").take(batches))
            assert found == [conform(batch, schema) for batch in batches]
            cast += 1
    assert cast > 60
