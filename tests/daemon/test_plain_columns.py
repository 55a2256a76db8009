"""Columns and scalars of callers without Arrow, and the bound on what waits."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.ingest.budget import ByteBudget
from rund_daemon.ingest.plain_columns import HistoryRow, PlainColumn, batch_of_columns, batch_of_history
from rund_daemon.model import Micros, Values

ints = pa.int64()


def column(
    name: str, values: list[object], kind: pa.DataType = ints, width: int = 0, nulls: tuple[int, ...] = ()
) -> PlainColumn:
    return PlainColumn(name, kind, values, width, nulls)


def test_columns_of_all_kinds() -> None:
    batch = batch_of_columns(
        [
            column("i", [1, 2, 3], nulls=(1,)),
            column("f", [0.5, 1, 2], pa.float64()),
            column("b", [True, False, True], pa.bool_()),
            column("s", ["a", "", "ü"], pa.string(), nulls=(0, 2)),
            column("v", [1, 2, 3, 4, 5, 6], pa.float32(), width=2, nulls=(2,)),
        ],
        "field",
    )
    batch.validate(full=True)
    assert batch.schema.field("v").type == pa.list_(pa.float32(), 2)
    assert batch.to_pylist() == [
        {"i": 1, "f": 0.5, "b": True, "s": None, "v": [1.0, 2.0]},
        {"i": None, "f": 1.0, "b": False, "s": "", "v": [3.0, 4.0]},
        {"i": 3, "f": 2.0, "b": True, "s": None, "v": None},
    ]


def test_columns_without_rows() -> None:
    batch = batch_of_columns([column("i", []), column("v", [], pa.float32(), width=5)], "field")
    assert (batch.num_rows, batch.schema.names) == (0, ["i", "v"])
    assert batch_of_columns([], "field").num_rows == 0


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ([column("a", [1]), column("b", [1, 2])], Reason.COLUMN_LENGTH_MISMATCH),
        ([column("a", [1]), column("a", [1, 2])], Reason.COLUMN_LENGTH_MISMATCH),
        ([column("v", [1, 2, 3], pa.float32(), width=2)], Reason.INVALID_COLUMN),
        ([column("v", [], pa.float32(), width=2**32 - 1)], Reason.INVALID_COLUMN),
        ([column("v", [1], pa.float32(), width=2**32 - 1)], Reason.INVALID_COLUMN),
        ([column("a", [1, 2], nulls=(2,))], Reason.INVALID_COLUMN),
        ([column("v", [1, 2], pa.float32(), width=2, nulls=(1,))], Reason.INVALID_COLUMN),
    ],
)
def test_columns_that_do_not_fit(columns: list[PlainColumn], reason: Reason) -> None:
    with pytest.raises(InvalidError) as refused:
        batch_of_columns(columns, "batch.columns")
    assert (refused.value.reason, refused.value.field) == (reason, "batch.columns")


def history(*values: Values) -> pa.RecordBatch:
    return batch_of_history([HistoryRow(step, Micros(5), 0, value) for step, value in enumerate(values)], "rows")


@pytest.mark.parametrize(
    ("values", "kind", "stored"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([1, 0.5], pa.float64(), [1.0, 0.5]),
        ([True, False], pa.bool_(), [True, False]),
        (["a", None], pa.string(), ["a", None]),
        ([b"a", b""], pa.binary(), [b"a", b""]),
        ([None, None], pa.null(), [None, None]),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([True, 1], pa.string(), ["True", "1"]),
        ([2**63, 1], pa.string(), [str(2**63), "1"]),
        ([2**63, 0.5], pa.float64(), [2.0**63, 0.5]),
    ],
)
def test_the_type_of_a_key_holds_all_its_values(values: list[object], kind: pa.DataType, stored: list[object]) -> None:
    batch = history(*({"k": value} for value in values))  # type: ignore[dict-item]
    assert batch.schema.names == ["step", "time", "rank", "k"]
    assert batch.schema.field("k").type == kind
    assert batch.column("k").to_pylist() == stored


def test_keys_that_are_absent_are_null() -> None:
    batch = history({"b": 1}, {"a": 2}, {})
    assert batch.schema.names[3:] == ["a", "b"]
    assert batch.column("a").to_pylist() == [None, 2, None]


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"step": 1}, Reason.INVALID_COLUMN), ({"k": [1]}, Reason.INVALID_VALUE), ({"k": {}}, Reason.INVALID_VALUE)],
)
def test_scalars_that_are_none(values: Values, reason: Reason) -> None:
    with pytest.raises(InvalidError) as refused:
        history(values)
    assert refused.value.reason is reason


def test_an_integer_too_large_for_a_float_is_kept_as_text() -> None:
    assert history({"k": 10**400}, {"k": 0.5}).column("k").to_pylist() == [str(10**400), "0.5"]


# --- the bound ---


def test_bytes_wait_in_the_order_of_their_coming() -> None:
    async def main() -> list[str]:
        budget, order = ByteBudget(10), []

        async def take(name: str, size: int) -> None:
            await budget.take(size)
            order.append(name)

        await budget.take(6)
        waiting = [asyncio.ensure_future(take(name, size)) for name, size in (("big", 8), ("small", 1), ("giant", 50))]
        await asyncio.sleep(0)
        assert order == [], "the small one does not overtake"
        budget.give_back(6)
        await asyncio.sleep(0)
        assert order == ["big", "small"]
        budget.give_back(8)
        await asyncio.sleep(0)
        assert order == ["big", "small"], "a giant goes alone"
        budget.give_back(1)
        await asyncio.gather(*waiting)
        return order

    assert asyncio.run(main()) == ["big", "small", "giant"]


def test_who_gives_up_waiting_does_not_hold_the_others() -> None:
    async def main() -> None:
        budget = ByteBudget(10)
        await budget.take(10)
        first, second = asyncio.ensure_future(budget.take(5)), asyncio.ensure_future(budget.take(5))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        budget.give_back(10)
        await asyncio.wait_for(second, 1)
        # Cancelled in the moment in which it is let in: it gives back what it took.
        third = asyncio.ensure_future(budget.take(6))
        await asyncio.sleep(0)
        budget.give_back(5)
        third.cancel()
        await asyncio.gather(third, return_exceptions=True)
        await asyncio.wait_for(budget.take(10), 1)

    asyncio.run(main())
