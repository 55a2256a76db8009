"""Orders: what they parse to, how they sort values of any kinds, and how they say no."""

from __future__ import annotations

import math
from functools import cmp_to_key
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import Micros
from rund_daemon.reading.filters import Found, Missing, Timestamp
from rund_daemon.reading.order_by import MAX_LENGTH, RUN_ORDER_FIELDS, OrderBy, parse_order_by, sort_key


def refusal(text: str) -> InvalidError | None:
    try:
        parse_order_by(text)
    except InvalidError as error:
        return error
    return None


class TestGrammar:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("", ()),
            ("   ", ()),
            ("create_time", ((("create_time",), False),)),
            ("create_time desc", ((("create_time",), True),)),
            ("  a  ,  b   desc ,c", ((("a",), False), (("b",), True), (("c",), False))),
            ("a,b desc,c", ((("a",), False), (("b",), True), (("c",), False))),
            ("parameters.lr.max desc", ((("parameters", "lr", "max"), True),)),
            ('parameters."weird, key" desc', ((("parameters", "weird, key"), True),)),
            ("desc desc", ((("desc",), True),)),
            ("parameters.train/loss", ((("parameters", "train/loss"), False),)),
        ],
    )
    def test_taken(self, text: str, expected: OrderBy) -> None:
        assert parse_order_by(text) == expected

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            (",", 1, "a field is missing"),
            ("a,", 3, "a field is missing"),
            ("a,,b", 3, "a field is missing"),
            ("a asc", 3, "leave it out, ascending is the default"),
            ("a DESC", 3, "use `desc` or a comma"),
            ("a b", 3, "use `desc` or a comma"),
            ("a desc b", 8, "a comma must follow"),
            ("a.", 3, "a name must follow the dot"),
            ('"a', 1, "no end"),
            ("a = 1", 3, "'=' is not expected here"),
        ],
    )
    def test_refused(self, text: str, column: int, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            parse_order_by(text)
        assert (caught.value.field, caught.value.reason) == ("order_by", Reason.INVALID_ORDER_BY)
        assert caught.value.metadata == {"position": str(column)}

    @pytest.mark.parametrize(
        ("text", "column", "message"),
        [
            ("naem", 1, "there is no field 'naem' to sort by; known are create_time"),
            ("run_name, uid desc", 11, "there is no field 'uid'"),
            ("run_name.x", 1, "run_name has no parts"),
            ("labels", 1, "labels is a map"),
        ],
    )
    def test_unknown_fields(self, text: str, column: int, message: str) -> None:
        with pytest.raises(InvalidError, match=message) as caught:
            parse_order_by(text, RUN_ORDER_FIELDS)
        assert caught.value.metadata == {"position": str(column)}
        parse_order_by("status, labels.team desc, parameters.a.b, create_time desc", RUN_ORDER_FIELDS)

    def test_hostile_lengths(self) -> None:
        with pytest.raises(InvalidError, match="characters and the limit"):
            parse_order_by("a" * (MAX_LENGTH + 1))

    @given(st.text(alphabet='ab., "\\desc', max_size=20))
    def test_any_text_parses_or_is_refused_with_its_place(self, text: str) -> None:
        error = refusal(text)
        assert error is None or 1 <= int(error.metadata["position"]) <= len(text) + 1


VALUES: list[Any] = [
    False,
    True,
    -math.inf,
    -(10**400),
    -1,
    0.5,
    1,
    9007199254740993,
    10**400,
    math.inf,
    math.nan,
    Timestamp(Micros(1)),
    Timestamp(Micros(2)),
    "",
    "B",
    "a",
    "ß",
    b"",
    b"a",
    [],
    [1],
    [1, "a"],
    ["a"],
    {},
    {"a": 1},
    {"a": "x"},
    {"b": 0},
]
"""In ascending order."""

ANY_VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=2), st.binary(max_size=2)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=1), inner, max_size=2)),
    max_leaves=5,
)


def key(value: Found, direction: str = "") -> Any:
    return sort_key(parse_order_by(f"x {direction}"), lambda _path: value)


class TestOrder:
    def test_kinds(self) -> None:
        mixed = [*VALUES[::2], None, *VALUES[1::2], Missing.MISSING]
        assert [id(value) for value in sorted(mixed, key=key)] == [id(v) for v in [*VALUES, None, Missing.MISSING]]
        backwards = sorted(mixed, key=lambda value: key(value, "desc"))
        assert [id(value) for value in backwards] == [id(v) for v in [*VALUES[::-1], None, Missing.MISSING]]

    def test_several_terms(self) -> None:
        rows = [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}, {"a": 1, "b": "z"}, {"b": "w"}, {"a": 2}]
        order = parse_order_by("a desc, b")
        found = sorted(rows, key=lambda row: sort_key(order, lambda path: row.get(path[0], Missing.MISSING)))
        assert found == [{"a": 2, "b": "y"}, {"a": 2}, {"a": 1, "b": "x"}, {"a": 1, "b": "z"}, {"b": "w"}]

    def test_equal_values_keep_their_order(self) -> None:
        rows = [(1, 0), (1.0, 1), (True, 2), (1, 3)]
        assert [n for _, n in sorted(rows, key=lambda row: key(row[0]))] == [2, 0, 1, 3]
        assert [n for _, n in sorted(rows, key=lambda row: key(row[0], "desc"))] == [0, 1, 3, 2]

    @given(ANY_VALUE, ANY_VALUE, ANY_VALUE, st.sampled_from(["", "desc"]))
    def test_the_order_is_total(self, a: Any, b: Any, c: Any, direction: str) -> None:
        x, y, z = key(a, direction), key(b, direction), key(c, direction)
        assert (x < y) + (y < x) + (x == y) == 1
        assert x < z or not x < y or not y < z
        assert sorted([x, y, z]) == sorted([z, y, x], key=cmp_to_key(lambda p, q: (q < p) - (p < q)))
