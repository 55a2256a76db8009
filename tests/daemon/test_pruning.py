"""A read that skips batches by their ranges gives what a read of everything gives, whatever rows and filter are."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rund_daemon.catalog import keys, shelves
from rund_daemon.model import BatchRef, ColumnRange, MetricsTable
from rund_daemon.reading import scan
from rund_daemon.segments.ranges import column_ranges

from tests.daemon.rooms import Rooms, run_in

KINDS: tuple[Any, ...] = (
    pa.int8(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint64(),
    pa.float16(),
    pa.float32(),
    pa.float64(),
    pa.bool_(),
    pa.string(),
)
EDGES = (0, 1, -1, 127, 2**24 + 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64 - 1)
LITERALS = ("0", "3.5", "-1", "0.1", "nan", "inf", "-inf", "1e300", *(str(edge) for edge in EDGES))
OPERATORS = ("<", "<=", ">", ">=", "=", "!=", ":")


def test_ranges_leave_out_nulls_and_nans_and_what_counts_nothing() -> None:
    batch = pa.record_batch(
        {
            "step": pa.array([3, None, -7]),
            "epoch": pa.array([math.nan, 2.5, None]),
            "iteration": pa.array([2**63, 1, 2], pa.uint64()),
            "loss": [1.0, 2.0, 3.0],
        }
    )
    assert column_ranges(batch) == (ColumnRange("step", -7, 3), ColumnRange("epoch", 2.5, 2.5))
    assert column_ranges(pa.record_batch({"step": pa.array([None], pa.int64()), "epoch": [math.nan]})) == ()
    assert column_ranges(pa.record_batch({"step": pa.array([], pa.int64()), "epoch": pa.array([], pa.string())})) == ()
    assert column_ranges(batch.slice(2, 1)) == (ColumnRange("step", -7, -7), ColumnRange("iteration", 2, 2))


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_ranges_of_integers_are_those_of_the_rows_that_are_there(name: str) -> None:
    kind = getattr(pa, name)()
    batch = pa.record_batch({"step": pa.array([100, 3, 5, 4, 1], kind)})
    assert column_ranges(batch.slice(1, 3)) == (ColumnRange("step", 3, 5),)


@pytest.mark.parametrize("seed", range(12))
def test_a_pruned_read_is_the_whole_read(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)

    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run(), constants={"epoch": 4} if seed % 3 == 0 else {})
        kinds = {name: _related_kinds(chance) for name in ("step", "epoch", "iteration")}
        batches = [_batch(chance, kinds, number) for number in range(30)]
        await rooms.write(table, *batches[:20])
        if seed % 2:
            await rooms.seal(table)
        await rooms.write(table, *batches[20:], stream_id="other")
        known = (await rooms.read(table.uid)).schema
        texts = [text for text in (_filter(chance, known) for _ in range(40)) if text]
        pruned = [await _read(rooms, table, text) for text in texts]
        with monkeypatch.context() as patch:
            patch.setattr("rund_daemon.reading.projection.Pruning.of", lambda _tree, _stored: None)
            for text, found in zip(texts, pruned, strict=True):
                assert found == await _read(rooms, table, text), text

    run_in(tmp_path, work)


def test_batches_outside_a_filter_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[BatchRef] = []
    parts = scan._parts

    def watched(projection: Any, batch: Any, begin: int, end: int) -> Any:
        read.append(batch.ref)
        return parts(projection, batch, begin, end)

    monkeypatch.setattr(scan, "_parts", watched)

    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        await rooms.write(table, *(_steps(begin, begin + 70_000) for begin in range(0, 700_000, 70_000)))
        for _ in ("open", "sealed"):
            read.clear()
            found = await rooms.read(
                table.uid, filter="step >= 150000 AND step < 160000 AND loss >= 0", columns=("step",)
            )
            assert found.column("step").to_pylist() == list(range(150_000, 160_000))
            assert {ref.first_row for ref in read} == {140_000}
            read.clear()
            assert (await rooms.read(table.uid, filter="step > 700000 OR step = -1")).num_rows == 0
            assert read == []
            await rooms.seal(table)

    run_in(tmp_path, work)


def test_a_filter_for_nan_finds_it_beside_numbers(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        mixed = pa.record_batch({"epoch": [1.0, math.nan, 2.0], "row": [0, 1, 2]})
        await rooms.write(table, mixed, pa.record_batch({"epoch": [3.0], "row": [3]}))
        for _ in ("open", "sealed"):
            for text, found in (("epoch = nan", [1]), ("epoch = nan OR epoch = 3", [1, 3]), ("epoch <= nan", [])):
                rows = await rooms.read(table.uid, filter=text, columns=("row",))
                assert rows.column("row").to_pylist() == found, text
            await rooms.seal(table)

    run_in(tmp_path, work)


def test_batches_of_older_catalogs_are_read(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        await rooms.write(table, _steps(0, 100), _steps(100, 200))
        await rooms.catalog.submit(
            lambda change: [
                change.put(shelves.BATCHES, keys.batch(table.uid, ref.first_row), replace(ref, ranges=()))
                for _, ref in list(change.scan(shelves.BATCHES, table.uid))
            ]
        )
        found = await rooms.read(table.uid, filter="step >= 150", columns=("step",))
        assert found.column("step").to_pylist() == list(range(150, 200))

    run_in(tmp_path, work)


async def _read(rooms: Rooms, table: MetricsTable, text: str) -> str:
    # As text, because NaN is not equal to itself.
    return str((await rooms.read(table.uid, filter=text)).to_pylist())


def _steps(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"step": pa.array(range(begin, end), pa.int64()), "loss": np.zeros(end - begin)})


def _related_kinds(chance: random.Random) -> list[Any]:
    return chance.sample(KINDS[:-2] if chance.random() < 0.8 else KINDS, chance.randint(1, 3))


def _batch(chance: random.Random, kinds: dict[str, list[Any]], number: int) -> pa.RecordBatch:
    rows = chance.choice((1, 2, 9))
    columns: dict[str, Any] = {"row": pa.array(range(rows), pa.int64())}
    for name, choices in kinds.items():
        if chance.random() < 0.8:
            kind = chance.choice(choices)
            columns[name] = pa.array([_value(chance, kind, number) for _ in range(rows)], kind)
    return pa.record_batch(columns)


def _value(chance: random.Random, kind: Any, number: int) -> Any:
    if chance.random() < 0.1:
        return None
    if pa.types.is_boolean(kind):
        return chance.random() < 0.5
    if pa.types.is_string(kind):
        return str(number)
    if pa.types.is_floating(kind):
        special = (math.nan, math.inf, -math.inf, -0.0)
        value = chance.choice(special) if chance.random() < 0.1 else number + chance.choice((0.0, 0.1, 0.5))
        return np.float16(value) if pa.types.is_float16(kind) else value
    value = chance.choice(EDGES) if chance.random() < 0.2 else number + chance.randint(0, 2)
    least, greatest = _bounds(kind)
    return min(max(value, least), greatest)


def _bounds(kind: Any) -> tuple[int, int]:
    bits = kind.bit_width
    return (0, 2**bits - 1) if pa.types.is_unsigned_integer(kind) else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _filter(chance: random.Random, schema: pa.Schema) -> str:
    names = [field.name for field in schema if field.name != "row"]
    parts = []
    for _ in range(chance.randint(1, 3)):
        name = chance.choice(names)
        text = pa.types.is_string(schema.field(name).type)
        literal = chance.choice(LITERALS) if chance.random() < 0.3 else str(chance.randint(0, 32))
        if pa.types.is_boolean(schema.field(name).type):
            continue
        comparison = f"{name}{chance.choice(OPERATORS)}{repr(literal) if text else literal}"
        parts.append(f"NOT {comparison}" if chance.random() < 0.15 else comparison)
    return chance.choice((" AND ", " OR ")).join(parts)
