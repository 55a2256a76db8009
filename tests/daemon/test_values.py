"""Free-form values through the wire's messages and the catalog's, and pages, and errors as they are told."""

from __future__ import annotations

import base64
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund_daemon.errors import InvalidError, Reason, RundError
from rund_daemon.model import Values
from rund_daemon.reading.pages import DEFAULT_PAGE_SIZE, check_page_size, make_token, read_token
from rund_daemon.services.status import CODES, domain_error, status_of
from rund_daemon.values import MAX_DEPTH, fill_map, read_map
from rund_pb.store.v1 import records_pb2
from rund_pb.v1 import error_reason_pb2, value_pb2

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.binary(max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=5), inner, max_size=4)),
    max_leaves=20,
)


def round_trip(values: Values, message_type: type = value_pb2.MapValue) -> Values:
    message = message_type()
    fill_map(message, values)
    return read_map(message_type.FromString(message.SerializeToString()), "field")


def same(a: Any, b: Any) -> bool:
    """Equal in type, order and bits: 1 is not 1.0, True is not 1, NaN is NaN, -0.0 is not 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return math.copysign(1, a) == math.copysign(1, b) and (a == b or (math.isnan(a) and math.isnan(b)))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return a == b


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=10), VALUES, max_size=6))
@pytest.mark.parametrize("message_type", [value_pb2.MapValue, records_pb2.MapValue])
def test_values_come_back_as_they_went_in(message_type: type, values: Values) -> None:
    assert same(round_trip(values, message_type), values)


def test_order_and_empty_things_are_kept() -> None:
    values: Values = {"z": {}, "a": [], "": None, "m": {"": [None, {}, []]}}
    assert list(round_trip(values)) == ["z", "a", "", "m"]
    assert same(round_trip(values), values)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, -(2**63) - 1, 10**4000, 0])
def test_integers_of_any_size_stay_integers(number: int) -> None:
    assert round_trip({"n": number}) == {"n": number}


def nested(depth: int, *, in_lists: bool) -> Values:
    value: object = 1
    for _ in range(depth - 1):
        value = [value] if in_lists else {"k": value}
    return {"k": value}  # type: ignore[dict-item]


@pytest.mark.parametrize("in_lists", [False, True])
def test_nesting_is_bounded(in_lists: bool) -> None:
    deepest = nested(MAX_DEPTH, in_lists=in_lists)
    assert round_trip(deepest) == deepest
    with pytest.raises(InvalidError) as refused:
        round_trip(nested(MAX_DEPTH + 1, in_lists=in_lists))
    assert refused.value.reason is Reason.INVALID_VALUE


def test_the_deepest_value_fits_protobuf_wherever_it_is_sent() -> None:
    """protobuf gives up at 100 levels, and an operation holds a run that holds parameters."""
    from rund_pb.v1 import operation_pb2, operation_service_pb2, run_pb2

    operation = operation_pb2.Operation(run=run_pb2.Run())
    fill_map(operation.run.parameters, nested(MAX_DEPTH, in_lists=False))
    answer = operation_service_pb2.GetOperationResponse(operation=operation)
    assert type(answer).FromString(answer.SerializeToString()) == answer


@pytest.mark.parametrize("digits", ["", "-", "+5", " 5", "5.0", "0x5", "1_0", "٥", "9" * 4301, "--5", "nan"])
def test_a_big_integer_is_digits(digits: str) -> None:
    message = value_pb2.MapValue(entries=[value_pb2.MapEntry(key="n", value=value_pb2.Value(big_int_value=digits))])
    with pytest.raises(InvalidError) as refused:
        read_map(message, "parameters")
    assert (refused.value.reason, refused.value.field) == (Reason.INVALID_VALUE, "parameters.n")


def test_a_key_appears_once() -> None:
    entry = value_pb2.MapEntry(key="lr", value=value_pb2.Value(double_value=0.1))
    inner = value_pb2.Value(map_value=value_pb2.MapValue(entries=[entry, entry]))
    with pytest.raises(InvalidError) as refused:
        read_map(value_pb2.MapValue(entries=[value_pb2.MapEntry(key="optimizer", value=inner)]), "parameters")
    assert refused.value.field == "parameters.optimizer.lr"


# --- pages ---


def test_a_token_goes_on_where_its_query_ended() -> None:
    token = make_token(("p", "filter"), "position ü")
    assert read_token(token, ("p", "filter")) == "position ü"
    assert read_token("", "anything") == ""


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "====",
        make_token("other query", "position"),
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b":").decode(),
        base64.urlsafe_b64encode(b"\xff\xfe").decode(),
        base64.urlsafe_b64encode(b"[" * 5_000).decode(),
    ],
    ids=lambda token: token[:12],
)
def test_what_is_no_token_of_this_query(token: str) -> None:
    with pytest.raises(InvalidError) as refused:
        read_token(token, "query")
    assert (refused.value.reason, refused.value.field) == (Reason.INVALID_PAGE_TOKEN, "page_token")


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_no_text_is_more_than_an_invalid_token(token: str) -> None:
    try:
        assert read_token(token, "query") == ""
    except InvalidError as refused:
        assert refused.reason is Reason.INVALID_PAGE_TOKEN  # noqa: PT017  # whether it raises is chance


def test_page_sizes() -> None:
    assert [check_page_size(size, 1000) for size in (0, 1, 1000, 1001, 2**31 - 1)] == [
        DEFAULT_PAGE_SIZE,
        1,
        1000,
        1000,
        1000,
    ]
    with pytest.raises(InvalidError):
        check_page_size(-1, 1000)


# --- errors ---


def test_every_reason_is_on_the_wire_with_a_code() -> None:
    wire = {name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name} - {
        "UNSPECIFIED"
    }
    assert {str(reason) for reason in Reason} == wire
    assert set(CODES) == set(Reason)


@settings(max_examples=100, deadline=None)
@given(message=st.text(max_size=5_000), field=st.text(max_size=2_000), fact=st.text(max_size=2_000))
def test_an_error_fits_the_trailer_whatever_it_says(message: str, field: str, fact: str) -> None:
    error = RundError(Reason.INVALID_NAME, message, field=field, retry_after_seconds=1.5, a=fact, b=fact)
    status = status_of(error)
    assert len(status.SerializeToString()) < 4_096
    # gRPC writes the message as a header too, with three bytes for each that is not ASCII, and the status in base64.
    header = sum(1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3 for byte in status.message.encode())
    assert header + len(status.SerializeToString()) * 4 / 3 < 8_000
    info = error_reason_pb2.ErrorInfo.FromString(status.details[0].value)
    assert (info.reason, info.domain) == ("INVALID_NAME", "rund")


def test_a_fault_of_ours_tells_nothing_but_its_incident(caplog: pytest.LogCaptureFixture) -> None:
    told = domain_error(RuntimeError("/secret/path"), "/rund.v1.RunService/GetRun")
    assert told.reason is Reason.INTERNAL
    assert "secret" not in str(status_of(told))
    (line,) = caplog.records
    assert line.incident == told.metadata["incident"]  # type: ignore[attr-defined]
    assert line.exc_info is not None


def test_a_full_disk_is_an_answer() -> None:
    told = domain_error(OSError(28, "No space left on device"), "/rund.v1.TableService/WriteTable")
    assert told.reason is Reason.NO_SPACE
    assert told.retry_after_seconds is not None
