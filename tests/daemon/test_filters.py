"""The filter language: what it parses to, which values and which rows it holds for, and how it says no."""

from __future__ import annotations

import datetime as dt
import math
import time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros, RunStatus, Value
from rund_daemon.reading.filters import (
    RUN_FIELDS,
    Filter,
    Found,
    Missing,
    Timestamp,
    check_fields,
    descend,
    filter_columns,
    matches,
    parse_filter,
    to_expression,
)
from rund_rows.filter_grammar import MAX_DEPTH, MAX_LENGTH, And, Comparison, Not, Word, leaves

MISSING = Missing.MISSING


def shape(tree: Filter) -> str:
    """A filter as one text with all its parentheses."""
    if isinstance(tree, Comparison):
        return f"{'.'.join(tree.path)}{tree.operator}{tree.literal.text}"
    if isinstance(tree, Word):
        return tree.literal.text
    if isinstance(tree, Not):
        return f"!{shape(tree.operand)}"
    joint = " & " if isinstance(tree, And) else " | "
    return f"({joint.join(shape(operand) for operand in tree.operands)})"


class TestGrammar:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", "()"),
            ("  ", "()"),
            ("a = 1", "a=1"),
            ("a=1", "a=1"),
            ("a  >=  1", "a>=1"),
            ("a = 1 AND b = 2", "(a=1 & b=2)"),
            ("a = 1 b = 2", "(a=1 & b=2)"),
            ("a = 1 OR b = 2 AND c = 3", "((a=1 | b=2) & c=3)"),
            ("a = 1 AND b = 2 OR c = 3", "(a=1 & (b=2 | c=3))"),
            ("a b AND c AND d", "((a & b) & c & d)"),
            ("New York Giants OR Yankees", "(New & York & (Giants | Yankees))"),
            ("(a AND b) OR c", "((a & b) | c)"),
            ("NOT a = 1", "!a=1"),
            ("NOT (a OR b)", "!(a | b)"),
            ("NOT(a)", "!a"),
            ("-a:1", "!a:1"),
            ('-"a"', "!a"),
            ("a = -3", "a=-3"),
            ("a-b = c-d", "a-b=c-d"),
            ("a.b.c = 1", "a.b.c=1"),
            ("NOTE = 1 AND ORDER = 2 AND ANDY = 3", "(NOTE=1 & ORDER=2 & ANDY=3)"),
            ("a.NOT = 1", "a.NOT=1"),
            ("train/loss < 0.5", "train/loss<0.5"),
            ("t > 2026-11-01T10:00:00.5+02:00", "t>2026-11-01T10:00:00.5+02:00"),
            ("t > 2026-11-01", "t>2026-11-01"),
            ("(t > 2026-11-01T10:00Z)", "t>2026-11-01T10:00Z"),
            ("0.1", "0.1"),
            ("größe = 損失", "größe=損失"),
            ("a:*", "a:"),
            ("((((a))))", "a"),
        ],
    )
    def test_trees(self, text: str, expected: str) -> None:
        assert shape(parse_filter(text)) == expected

    @pytest.mark.parametrize(
        ("text", "path", "value"),
        [
            ('parameters."weird key".x = 1', ("parameters", "weird key", "x"), "1"),
            ("parameters.'a.b' = 1", ("parameters", "a.b"), "1"),
            ('"a b" = "c d"', ("a b",), "c d"),
            (r'a = "say \"hi\" \\ \n\t é \' \*"', ("a",), 'say "hi" \\ \n\t é \' *'),
            (r"a = 'it\'s'", ("a",), "it's"),
            ('a = ""', ("a",), ""),
            ('a."" = 1', ("a", ""), "1"),
        ],
    )
    def test_quotes(self, text: str, path: tuple[str, ...], value: str) -> None:
        tree = parse_filter(text)
        assert isinstance(tree, Comparison)
        assert (tree.path, tree.literal.text) == (path, value)

    @pytest.mark.parametrize(
        ("text", "stars"),
        [
            ('a = "x*"', (False, True, "x")),
            ("a = *x", (True, False, "x")),
            ("a = *x*", (True, True, "x")),
            ("a = x*y", (False, False, "x*y")),
            ("a = *", (True, True, "")),
            ("a = **", (True, True, "")),
            (r'a = "x\*"', (False, False, "x*")),
            (r'a = "\**"', (False, True, "*")),
        ],
    )
    def test_stars(self, text: str, stars: tuple[bool, bool, str]) -> None:
        literal = parse_filter(text).literal
        assert (literal.open_start, literal.open_end, literal.text) == stars

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            ("a =", 4, "a value must follow ="),
            ("a = AND b = 1", 5, "a value must follow ="),
            ("= 1", 1, "a comparison is missing before '='"),
            ("a = 1 AND", 10, "a comparison is missing at the end"),
            ("AND a", 1, "a comparison is missing before 'AND'"),
            ("a OR OR b", 6, "a comparison is missing before 'OR'"),
            ("a = 1 and b = 2", 7, "write AND for and"),
            ("a || b", 3, r"write OR for \|\|"),
            ("not a", 1, "write NOT for not"),
            ("(a = 1", 1, "never closed"),
            ("a = 1)", 6, "never opened"),
            ("()", 2, "a comparison is missing before '\\)'"),
            ("a == 1", 3, "== is not a comparator; use ="),
            ("a <> 1", 3, "<> is not a comparator; use !="),
            ("a =~ x", 3, "=~ is not a comparator"),
            ('a = "x', 5, "no end"),
            (r'a = "\q"', 5, r"unknown escape \\q"),
            (r'a = "\ud800"', 5, "unknown escape"),
            ("a = http://x", 9, "put the whole value in quotes"),
            ('a = "x"y', 8, "put the whole value in quotes"),
            ("a = (b OR c)", 5, "a value is one word"),
            ("f(x) = 1", 1, "functions are not known"),
            ("a. = 1", 3, "a name must follow the dot"),
            ("a < x*", 5, r"\* goes with =, != and : only"),
            ("a,b", 2, "',' is not expected"),
            ("NOT NOT a", 5, "before 'NOT'"),
        ],
    )
    def test_mistakes(self, text: str, column: int, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            parse_filter(text)
        assert (caught.value.field, caught.value.reason) == ("filter", Reason.INVALID_FILTER)
        assert caught.value.metadata == {"position": str(column)}
        assert caught.value.message.startswith(f"filter: column {column}: ")

    def test_hostile_depth_and_length(self) -> None:
        parse_filter("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
        for text in ("(" * 4000 + "a" + ")" * 4000, "NOT (" * 1000 + "a" + ")" * 1000, "-(" * 2000 + "a" + ")" * 2000):
            with pytest.raises(InvalidError, match="nest deeper than"):
                parse_filter(text)
        with pytest.raises(InvalidError, match="characters and the limit"):
            parse_filter("a" * (MAX_LENGTH + 1))
        wide = " OR ".join(["a=1"] * (MAX_LENGTH // 7))
        assert not matches(parse_filter(wide), lambda _path: 2)
        assert to_expression(parse_filter(wide), pa.schema([("a", pa.int64())])) is not None

    def test_hostile_lengths_take_no_time(self) -> None:
        begin = time.perf_counter()
        for text in ('"' + "\\\\" * 4000, "a" * 8000, "a." * 4000, "-" * 8000, "a=" + "1" * 8000, "a=" + "*" * 8000):
            check_place(text)
        assert time.perf_counter() - begin < 1

    @given(st.text(max_size=40))
    @example('a = "\\')
    def test_any_text_parses_or_is_refused_with_its_place(self, text: str) -> None:
        check_place(text)

    @given(st.lists(st.sampled_from([*'ab"\\.*()=<>!:,- ', "AND", "OR", "NOT", " ", "1"]), max_size=25).map("".join))
    def test_any_tokens_parse_or_are_refused_with_their_place(self, text: str) -> None:
        check_place(text)


def refusal(text: str) -> InvalidError | None:
    try:
        matches(parse_filter(text), lambda _path: MISSING)
    except InvalidError as error:
        return error
    return None


def check_place(text: str) -> None:
    """If a text is refused, then with a place that lies in it."""
    if error := refusal(text):
        assert 1 <= int(error.metadata["position"]) <= len(text) + 1
        assert len(error.message) < 600


def holds(text: str, **fields: Found) -> bool:
    def lookup(path: tuple[str, ...]) -> Found:
        value = fields.get(path[0], MISSING)
        return value if isinstance(value, Timestamp) else descend(value, path[1:])

    return matches(parse_filter(text), lookup)


class TestValues:
    @pytest.mark.parametrize(
        ("text", "value", "expected"),
        [
            ("x = 1", 1, True),
            ("x = 1.0", 1, True),
            ("x = 1", 1.0, True),
            ("x = 1e3", 1000, True),
            ("x = 1", True, False),
            ("x = true", True, True),
            ("x = TRUE", True, True),
            ("x = true", 1, False),
            ('x = "1"', 1, False),
            ("x = 1", "1", True),
            ("x != 1", 2, True),
            ("x != 1", "one", True),
            ("x != 1", [1], True),
            ("x < 0.1", 0.05, True),
            ("x < 0.1", "0.05", True),
            ("x < 1", True, False),
            ("x >= 9007199254740993", 9007199254740992, False),
            ("x > 1e400", 10**400, False),
            ("x < inf", 10**400, True),
            ("x = nan", math.nan, True),
            ("x != nan", math.nan, False),
            ("x != 1", math.nan, True),
            ("x < 1", math.nan, False),
            ("x = vit", "vit", True),
            ("x = VIT", "vit", False),
            ('x = "vit-*"', "vit-large", True),
            ('x = "*-large"', "vit-large", True),
            ('x = "*it*"', "vit-large", True),
            ('x = "v*e"', "vit-large", False),
            (r'x = "v\*"', "v*", True),
            (r'x = "v\*"', "vit", False),
            ('x != "vit-*"', "vit-large", False),
            ("x = *", "", True),
            ("x : LARGE", "vit-large", True),
            ("x : vit*", "ViT-large", True),
            ("x : large*", "vit-large", False),
            ("x > b", "c", True),
            ("x = 2026-11-01T00:00:00Z", Timestamp(Micros(1_793_491_200_000_000)), True),
            ("x = 2026-11-01", Timestamp(Micros(1_793_491_200_000_000)), True),
            ('x > "2026-10-31T23:59:59.999999Z"', Timestamp(Micros(1_793_491_200_000_000)), True),
            ("x = 2026-11-01T02:00:00+02:00", Timestamp(Micros(1_793_491_200_000_000)), True),
            ("x < 2026-11-01T00:00:00.000000001Z", Timestamp(Micros(1_793_491_200_000_000)), True),
            ("x = 5", Timestamp(Micros(5)), False),
            ("x > yesterday", Timestamp(Micros(5)), False),
            ("x = 2026-13-01", Timestamp(Micros(5)), False),
            ("x : 2", [1, 2], True),
            ("x : 3", [1, 2], False),
            ("x : b", ["a", "b"], True),
            ("x : b", ["ab"], False),
            ("x = 1", [1], False),
            ("x : key", {"key": None}, True),
            ("x : other", {"key": 1}, False),
            ("x.key : *", {"key": 1}, True),
            ("x.key : *", {"key": None}, False),
            ("x.key = 1", {"key": 1}, True),
            ("x.a.b = 1", {"a": {"b": 1}}, True),
            ("x.a.b = 1", {"a.b": 1}, True),
            ('x."a.b" = 1', {"a.b": 1}, True),
            ("x.a.b.c = 1", {"a": {"b.c": 1}}, True),
            ("x.a : 2", [{"a": 1}, {"a": 2}, {}, 5], True),
            ("x = 1", {"x": 1}, False),
            ("x = a", b"a", False),
            ("x : *", b"a", True),
            ("x : *", 0, True),
            ("x : *", "", True),
            ("status = RUNNING", None, False),
        ],
    )
    def test_comparisons(self, text: str, value: Found, expected: bool) -> None:
        assert holds(text, x=value) is expected

    @pytest.mark.parametrize("value", [None, MISSING])
    def test_what_is_missing_compares_false(self, value: Found) -> None:
        for comparator in ("=", "!=", "<", "<=", ">", ">=", ":"):
            assert not holds(f"x {comparator} 1", x=value)
            assert holds(f"NOT x {comparator} 1", x=value)
        assert not holds("x:*", x=value)
        assert holds("x = null", x=value)
        assert not holds("x != null", x=value)
        assert holds("x != null", x=1)
        assert not holds('x = "null"', x=value)
        assert holds('x = "null"', x="null")

    def test_enumerations_compare_by_name(self) -> None:
        assert holds("status = RUNNING", status=RunStatus.RUNNING)
        assert holds("status = RUNNING OR status = FAILED", status=str(RunStatus.FAILED))
        assert not holds('status = "RUN"', status=RunStatus.RUNNING)

    def test_words_are_looked_for_anywhere(self) -> None:
        run: dict[str, Value] = {"run_name": "vit-large", "description": "the second Try", "labels": {"team": "Vision"}}
        assert holds("large", **run)
        assert holds("try LARGE", **run)
        assert holds('"second try"', **run)
        assert holds("vit*", **run)
        assert holds("vision", **run)
        assert not holds("large*", **run)
        assert not holds("small", **run)
        assert holds("-small", **run)

    def test_the_example_of_the_contract(self) -> None:
        text = 'run_name = "vit-*" AND parameters.lr < 0.1'
        assert holds(text, run_name="vit-3", parameters={"lr": 0.05})
        assert not holds(text, run_name="vit-3", parameters={"lr": 0.1})
        assert not holds(text, run_name="vit-3", parameters={})


class TestFields:
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "vit large",
            'run_name = "vit-*" AND NOT status = RUNNING',
            "status : RUN",
            'status = "C*"',
            "create_time > 2026-11-01 OR update_time:*",
            "labels:team labels.team = x",
            "parameters.a.b.c != 3",
            "create_time = null",
        ],
    )
    def test_taken(self, text: str) -> None:
        check_fields(parse_filter(text), RUN_FIELDS)

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            ("naem = x", 1, "there is no field 'naem'; known are name, project_name"),
            ("name = x AND (y OR NOT naem:1)", 24, "there is no field 'naem'"),
            ("name.x = 1", 1, "name has no parts"),
            ("labels = 1", 1, "labels is a map"),
            ("status = running", 10, "status is one of EMPTY, RUNNING"),
            ("status > RUNNING", 10, "use = or !="),
            ("create_time > yesterday", 15, "create_time is a time"),
            ("create_time = 2026-*", 15, "create_time is a time"),
        ],
    )
    def test_refused(self, text: str, column: int, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            check_fields(parse_filter(text), RUN_FIELDS)
        assert caught.value.reason is Reason.INVALID_FILTER
        assert caught.value.metadata == {"position": str(column)}


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
