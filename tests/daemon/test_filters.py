"""The filter language: what it parses to, which values it holds for, and how it says no."""

from __future__ import annotations

import math
import time

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
    matches,
    parse_filter,
    to_expression,
)
from rund_rows.filter_grammar import MAX_DEPTH, MAX_LENGTH, And, Comparison, Not, Word

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
