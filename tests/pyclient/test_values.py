"""Free-form values come back as they went in, over the wire's bytes; what could not is refused by name."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import pathlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund import InvalidValueError
from rund._transport.values import MAX_DEPTH, map_from_pb, map_to_pb
from rund_pb.v1 import run_service_pb2, value_pb2

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(2**200), max_value=2**200)
    | st.floats(allow_nan=False)
    | TEXT
    | st.binary(max_size=20)
)
VALUES = st.recursive(
    SCALARS,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(TEXT, children, max_size=4),
    max_leaves=20,
)


def round_trip(values: dict[str, Any]) -> dict[str, Any]:
    return map_from_pb(value_pb2.MapValue.FromString(map_to_pb(values, "parameters").SerializeToString()))


def exact(value: Any) -> Any:
    """A value with its types and the order of its keys, so that 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return [(key, exact(item)) for key, item in value.items()]
    if isinstance(value, list):
        return [exact(item) for item in value]
    return type(value), value


@given(st.dictionaries(TEXT, VALUES, max_size=6))
def test_what_goes_in_comes_back(values: dict[str, Any]) -> None:
    assert exact(round_trip(values)) == exact(values)


def test_floats_that_are_no_numbers_are_kept() -> None:
    back = round_trip({"nan": math.nan, "inf": math.inf, "minf": -math.inf, "zero": -0.0})
    assert math.isnan(back["nan"])
    assert back["inf"] == math.inf
    assert back["minf"] == -math.inf
    assert math.copysign(1, back["zero"]) == -1


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**4000, 0])
def test_integers_of_any_size_stay_integers(value: int) -> None:
    assert exact(round_trip({"n": value})) == exact({"n": value})


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float32(0.5), 0.5),
        (np.float64(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.float16(0.5), 0.5),
        (np.int8(-3), -3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.bytes_(b"x"), b"x"),
        ((1, (2.0,)), [1, [2.0]]),
        (bytearray(b"x"), b"x"),
        (Color.RED, "red"),
        (Level.HIGH, 3),
    ],
)
def test_what_is_like_a_value_becomes_one(given: object, kept: object) -> None:
    assert exact(round_trip({"v": given})) == exact({"v": kept})


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"optim": {"lr": {1, 2}}}, "parameters['optim']['lr'] is a set"),
        ({"a": [1, [object()]]}, "parameters['a'][1][0] is a object"),
        ({"a": np.zeros(2)}, "parameters['a'] is a ndarray, which can't be kept; use .tolist()"),
        ({"a": dt.date(2020, 1, 1)}, "isoformat"),
        ({"a": np.datetime64(1, "ns")}, "parameters['a'] is a datetime64"),
        ({"a": np.timedelta64(1, "ns")}, "parameters['a'] is a timedelta64"),
        ({"a": decimal.Decimal(1)}, "float(...)"),
        ({"a": pathlib.Path("/x")}, "str(...)"),
        ({"a": 1j}, "parameters['a'] is a complex"),
        ({"a": {1: 2}}, "parameters['a'] has the key 1, a int"),
        ({"a": "\ud800"}, "parameters['a'] holds a lone surrogate"),
        ({"a": {"\udfff": 1}}, "lone surrogate"),
        ({"a": 10**5000}, "parameters['a'] is an integer of more than 4300 digits"),
        ([1], "parameters is a list"),
    ],
)
def test_what_could_not_come_back_is_refused_by_its_path(values: Any, path: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        map_to_pb(values, "parameters")
    assert path in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "INVALID_ARGUMENT"


def nested(levels: int, container: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if container is list else {"a": value}
    return value


@pytest.mark.parametrize("container", [list, dict])
def test_nesting_is_bounded_and_the_bound_fits_into_a_request(container: type) -> None:
    deepest = {"a": nested(MAX_DEPTH - 1, container)}
    request = run_service_pb2.CreateRunRequest()
    request.run.parameters.CopyFrom(map_to_pb(deepest, "parameters"))
    listed = run_service_pb2.ListRunsResponse()
    listed.runs.add().parameters.CopyFrom(request.run.parameters)
    back = run_service_pb2.ListRunsResponse.FromString(listed.SerializeToString())
    assert map_from_pb(back.runs[0].parameters) == deepest
    with pytest.raises(InvalidValueError, match="nests more than 32 levels"):
        map_to_pb({"a": nested(MAX_DEPTH, container)}, "parameters")


def test_a_value_that_holds_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidValueError, match="nests more than"):
        map_to_pb({"a": loop}, "parameters")
