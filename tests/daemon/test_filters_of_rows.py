"""The filter language on columns: which rows it keeps, what it refuses, and that it agrees with itself on runs."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros
from rund_daemon.reading.filters import (
    Found,
    Timestamp,
    filter_columns,
    matches,
    parse_filter,
    to_expression,
)
from rund_rows.filter_grammar import leaves


def utc(*parts: int) -> dt.datetime:
    return dt.datetime(*parts, tzinfo=dt.UTC)  # type: ignore[misc]


TABLE = pa.table(
    {
        "step": [0, 1, 2, None],
        "tiny": pa.array([-128, 0, 127, None], pa.int8()),
        "big": pa.array([0, 2**63, 2**64 - 1, None], pa.uint64()),
        "loss": [0.5, math.nan, math.inf, None],
        "loss32": pa.array([0.1, math.nan, -math.inf, None], pa.float32()),
        "loss16": pa.array(np.array([0.1, math.nan, 2.0, 0], np.float16), mask=np.array([0, 0, 0, 1], bool)),
        "money": pa.array([Decimal("1.50"), Decimal("-2.25"), Decimal(0), None], pa.decimal128(10, 2)),
        "ok": [True, False, True, None],
        "name": ["vit-large", "ViT", "", None],
        "note": pa.array(["a*b", 'say "hi"', "ß", None], pa.large_string()),
        "time": pa.array([utc(2026, 11, 1), utc(2026, 11, 2, 12), utc(1970, 1, 1), None], pa.timestamp("us", "UTC")),
        "seconds": pa.array([0, 1, 2, None], pa.timestamp("s")),
        "day": [dt.date(2026, 11, 1), dt.date(2026, 11, 2), dt.date(1970, 1, 1), None],
        "day64": pa.array([0, 86_400_000, 2 * 86_400_000, None], pa.date64()),
        "clock": pa.array([0, 3_600, 86_399, None], pa.time32("s")),
        "took": pa.array([1_500, 0, -1, None], pa.duration("ms")),
        "nothing": pa.nulls(4),
        "vector": pa.array([[1.0, 2.0]] * 3 + [None], pa.list_(pa.float32(), 2)),
        "raw": pa.array([b"a", b"b", b"", None]),
        "point": pa.array([{"x": 1, "in.ner": {"y": "a"}}, {"x": None}, None, None],
                          pa.struct([("x", pa.int8()), ("in.ner", pa.struct([("y", pa.string())]))])),
        "tags": pa.array([[("k", 1)], [("l", 2)], [], None], pa.map_(pa.string(), pa.int64())),
        "val.loss": [1, 2, 3, 4],
        "weird name": [1, 2, 3, 4],
    }
)  # fmt: skip


def kept(text: str, table: pa.Table = TABLE) -> list[int]:
    """The rows that a filter keeps, in a table and in a batch of it alike."""
    expression = to_expression(parse_filter(text), table.schema)
    numbered = table.append_column("row", pa.array(range(len(table)), pa.int64()))
    (batch,) = numbered.to_batches()
    found: list[int] = numbered.filter(expression)["row"].to_pylist()
    assert batch.filter(expression).column("row").to_pylist() == found
    return found


class TestColumns:
    @pytest.mark.parametrize(
        ("text", "rows"),
        [
            ("", [0, 1, 2, 3]),
            ("step = 1", [1]),
            ("step != 1", [0, 2]),
            ("NOT step = 1", [0, 2, 3]),
            ("step >= 1 AND step < 2", [1]),
            ("step = 0 OR step = 2", [0, 2]),
            ("step < 1.5", [0, 1]),
            ("step <= 1.5", [0, 1]),
            ("step > 1.5", [2]),
            ("step = 1.5", []),
            ("step != 1.5", [0, 1, 2]),
            ("step = 1e0", [1]),
            ("step < inf", [0, 1, 2]),
            ("step > -inf", [0, 1, 2]),
            ("step > inf", []),
            ("step != nan", [0, 1, 2]),
            ("step < nan", []),
            ("step < 99999999999999999999999", [0, 1, 2]),
            ("step = 99999999999999999999999", []),
            ("step != 99999999999999999999999", [0, 1, 2]),
            ("NOT step = 99999999999999999999999", [0, 1, 2, 3]),
            ("step : 1", [1]),
            ("step:*", [0, 1, 2]),
            ("-step:*", [3]),
            ("step = null", [3]),
            ("step != null", [0, 1, 2]),
            ("tiny < 128", [0, 1, 2]),
            ("tiny >= -128", [0, 1, 2]),
            ("tiny > 127", []),
            ("tiny > -1000", [0, 1, 2]),
            ("big >= 9223372036854775808", [1, 2]),
            ("big = 18446744073709551615", [2]),
            ("big > -1", [0, 1, 2]),
            ("big < -1", []),
            ("loss < 1", [0]),
            ("loss = nan", [1]),
            ("loss != nan", [0, 2]),
            ("loss != 0.5", [1, 2]),
            ("NOT loss < 1", [1, 2, 3]),
            ("loss = inf", [2]),
            ("loss < nan", []),
            ("loss32 = 0.1", [0]),
            ("loss32 < 1e300", [0, 2]),
            ("loss16 = 0.1", [0]),
            ("loss16 > 1", [2]),
            ("loss16 = nan", [1]),
            ("loss16:*", [0, 1, 2]),
            ("money = 1.5", [0]),
            ("money > -2.251", [0, 1, 2]),
            ("money < 1e30", [0, 1, 2]),
            ("ok = true", [0, 2]),
            ("ok != true", [1]),
            ("ok: false", [1]),
            ('name = "vit-large"', [0]),
            ("name = vit*", [0]),
            ("name = *large", [0]),
            ("name = *i*", [0, 1]),
            ("name != vit*", [1, 2]),
            ("name = *", [0, 1, 2]),
            ("name : vit", [0, 1]),
            ("name : vit*", [0, 1]),
            ("name : *T", [1]),
            ("name > a", [0]),
            (r'note = "a\*b"', [0]),
            ('note : "\\"HI\\""', [1]),
            ("note = ß", [2]),
            ("time >= 2026-11-01 AND time < 2026-11-02", [0]),
            ('time = "2026-11-02T13:00:00+01:00"', [1]),
            ("time > 1960-01-01", [0, 1, 2]),
            ("seconds > 1970-01-01T00:00:00.5Z", [1, 2]),
            ("seconds = 1970-01-01T00:00:01Z", [1]),
            ("seconds < 9999-12-31", [0, 1, 2]),
            ("day = 2026-11-01", [0]),
            ("day < 2026-11-01T12:00:00Z", [0, 2]),
            ("day64 > 1970-01-01T12:00Z", [1, 2]),
            ('clock >= "01:00:00"', [1, 2]),
            ('clock = "23:59:59"', [2]),
            ("took >= 1.5s", [0]),
            ("took < 0s", [2]),
            ("nothing = 1", []),
            ("nothing:*", []),
            ("NOT nothing = 1", [0, 1, 2, 3]),
            ("vector:*", [0, 1, 2]),
            ("raw:*", [0, 1, 2]),
            ("point.x = 1", [0]),
            ("point.x:*", [0]),
            ("NOT point.x = 1", [1, 2, 3]),
            ("point.in.ner.y = a", [0]),
            ('point."in.ner".y = a', [0]),
            ("tags.k = 1", [0]),
            ("tags.l > 1", [1]),
            ("tags.k:*", [0]),
            ("val.loss > 2", [2, 3]),
            ('"val.loss" > 2', [2, 3]),
            ('"weird name" = 4', [3]),
        ],
    )
    def test_rows(self, text: str, rows: list[int]) -> None:
        assert kept(text) == rows

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            ("los < 1", 1, "there is no column 'los'; known are: step, tiny"),
            ("step = 1 AND los.x < 1", 14, "there is no column 'los.x'"),
            ("step = one", 8, "'step' has type int64 and is compared with 'one'; use a number without quotes"),
            ('step = "1"', 8, "without quotes"),
            ("step = *", 8, "use a number"),
            ("loss < x", 8, "use a number"),
            ("ok = 1", 6, "use true or false"),
            ("ok < true", 6, "with = or !="),
            ("time > yesterday", 8, "use a time such as"),
            ("clock > 5", 9, "use a time of day"),
            ('clock > "24:00:00"', 9, "use a time of day"),
            ("took > 5", 8, "use seconds with an s"),
            ("money = x", 9, "digits"),
            ("money = 1e999999999", 9, "digits"),
            ("money = nan", 9, "digits"),
            ("vector = 1", 1, "it can only be asked whether it has a value, vector:*"),
            ("raw = a", 1, "it can only be asked"),
            ("point = 1", 1, "it can only be asked"),
            ("point.z = 1", 1, "'point' has no field 'z'; it has x, in.ner"),
            ("step.x = 1", 1, "which has no parts"),
            ("loss", 1, "'loss' is compared with nothing"),
            ("step = 1 loss", 10, "'loss' is compared with nothing"),
        ],
    )
    def test_mistakes(self, text: str, column: int, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            to_expression(parse_filter(text), TABLE.schema)
        assert (caught.value.field, caught.value.reason) == ("filter", Reason.INVALID_FILTER)
        assert caught.value.metadata == {"position": str(column)}

    def test_columns_that_a_filter_looks_at(self) -> None:
        tree = parse_filter("step > 1 AND (point.x = 1 OR NOT val.loss:*)")
        assert filter_columns(tree, TABLE.schema) == {"step", "point", "val.loss"}
        assert filter_columns(parse_filter(""), TABLE.schema) == frozenset()
        assert len(list(leaves(tree))) == 3

    def test_many_columns_are_not_all_named(self) -> None:
        schema = pa.schema([(f"a column with a long name {n}" * 5, pa.int8()) for n in range(1000)])
        with pytest.raises(InvalidError, match="…") as caught:
            to_expression(parse_filter("x = 1"), schema)
        assert len(caught.value.message) < 1000


NUMBERS = st.one_of(
    st.integers(-3, 3).map(str),
    st.sampled_from(
        ["0.5", "-1.5", "1e0", "inf", "-inf", "nan", "9223372036854775807", "9223372036854775808", "-1e30"]
    ),
)
TEXTS = st.sampled_from(["a", '"a*"', '"*b"', "*", '""', "AB", '"a b"', '"null"'])
TIMES = st.sampled_from(["1970-01-01", "1970-01-01T00:00:00.000001Z", '"1970-01-01T00:00:00.0000005Z"', "1969-12-31"])
COMPARATORS = st.sampled_from(["=", "!=", "<", "<=", ">", ">=", ":"])


@st.composite
def comparisons(draw: st.DrawFn) -> str:
    """A comparison that goes with the columns of `rows`."""
    column = draw(st.sampled_from("ifbst"))
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([f"{column}:*", f"{column} = null", f"{column} != null"]))
    comparator = draw(COMPARATORS)
    values = {"i": NUMBERS, "f": NUMBERS, "b": st.sampled_from(["true", "false"]), "s": TEXTS, "t": TIMES}
    value = draw(values[column])
    if "*" in value or column == "b":
        comparator = draw(st.sampled_from(["=", "!=", ":"]))
    return f"{column} {comparator} {value}"


FILTERS = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from([" AND ", " OR ", " "]), inner).map(lambda parts: f"({''.join(parts)})"),
        inner.map(lambda text: f"NOT ({text})"),
    ),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries(
    {
        "i": st.one_of(st.none(), st.integers(-3, 3), st.sampled_from([2**63 - 1, -(2**63)])),
        "f": st.one_of(st.none(), st.sampled_from([0.0, 0.5, -1.5, 1.0, math.nan, math.inf, -math.inf])),
        "b": st.one_of(st.none(), st.booleans()),
        "s": st.one_of(st.none(), st.sampled_from(["", "a", "ab", "b", "AB", "a b", "null"])),
        "t": st.one_of(st.none(), st.integers(-2, 2)),
    }
)


@given(FILTERS, st.lists(ROWS, min_size=1, max_size=8))
def test_both_evaluators_agree(text: str, rows: list[dict[str, Any]]) -> None:
    schema = pa.schema(
        [
            ("i", pa.int64()),
            ("f", pa.float64()),
            ("b", pa.bool_()),
            ("s", pa.string()),
            ("t", pa.timestamp("us", "UTC")),
        ]
    )
    tree = parse_filter(text)

    def holds_for(row: dict[str, Any]) -> bool:
        def lookup(path: tuple[str, ...]) -> Found:
            value = row[path[0]]
            return Timestamp(Micros(value)) if path == ("t",) and value is not None else value

        return matches(tree, lookup)

    table = pa.table({name: pa.array([row[name] for row in rows], schema.field(name).type) for name in schema.names})
    assert kept(text, table) == [number for number, row in enumerate(rows) if holds_for(row)]
