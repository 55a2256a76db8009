"""The exceptions are complete, are the builtins that they promise to be, and survive pickling."""

from __future__ import annotations

import pickle
import re

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from rund import _errors as errors
from rund._transport.status import CLASS_OF_CODE, CLASS_OF_REASON, error_from_rpc, error_from_status
from rund_pb.v1 import error_reason_pb2 as pb

REASONS = {
    name.removeprefix("ERROR_REASON_") for name, _ in pb.ErrorReason.items() if not name.endswith("_UNSPECIFIED")
}

# The codes as error_reason.proto says them in the comment above each reason.
CODES_AND_BUILTINS = {
    "INVALID_ARGUMENT": ValueError,
    "NOT_FOUND": FileNotFoundError,
    "ALREADY_EXISTS": FileExistsError,
    "ABORTED": RuntimeError,
    "FAILED_PRECONDITION": RuntimeError,
    "OUT_OF_RANGE": RuntimeError,
    "RESOURCE_EXHAUSTED": OSError,
    "DATA_LOSS": OSError,
    "UNAUTHENTICATED": PermissionError,
    "PERMISSION_DENIED": PermissionError,
    "UNAVAILABLE": ConnectionError,
    "DEADLINE_EXCEEDED": TimeoutError,
    "UNIMPLEMENTED": NotImplementedError,
    "CANCELLED": RuntimeError,
    "INTERNAL": RuntimeError,
}


def classes() -> list[type[errors.RundError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.RundError)]


def status(reason: str, **fields: object) -> pb.ErrorStatus:
    info = pb.ErrorInfo(reason=reason, domain="rund", metadata={"limit": "3"})
    packed = Any(type_url="type.googleapis.com/google.rpc.ErrorInfo", value=info.SerializeToString())
    return pb.ErrorStatus(message="no", details=[packed], **fields)  # type: ignore[arg-type]  # a test's shorthand


def test_every_reason_has_a_class_of_its_own() -> None:
    assert set(CLASS_OF_REASON) == REASONS
    assert len(set(CLASS_OF_REASON.values())) == len(REASONS)


@pytest.mark.parametrize("reason", sorted(REASONS))
def test_a_reason_becomes_its_class_which_is_the_builtin_of_its_code(reason: str) -> None:
    kind = CLASS_OF_REASON[reason]
    error = error_from_status(status(reason), kind.default_code)
    assert type(error) is kind
    assert (error.reason, error.code, error.details) == (reason, kind.default_code, {"limit": "3"})
    assert isinstance(error, CODES_AND_BUILTINS[kind.default_code])


@pytest.mark.parametrize("code", sorted(CODES_AND_BUILTINS))
def test_an_unknown_reason_falls_back_by_code(code: str) -> None:
    error = error_from_status(status("OF_A_LATER_VERSION"), code)
    assert type(error) is CLASS_OF_CODE[code]
    assert isinstance(error, CODES_AND_BUILTINS[code])
    assert (error.reason, error.code) == ("OF_A_LATER_VERSION", code)


def test_violations_and_retry_delays_are_read() -> None:
    message = status("NO_SPACE")
    bad = pb.BadRequest(field_violations=[pb.BadRequest.FieldViolation(field="run.run_name", description="d")])
    retry = pb.RetryInfo(retry_delay=Duration(seconds=1, nanos=500_000_000))
    message.details.add(type_url="type.googleapis.com/google.rpc.BadRequest", value=bad.SerializeToString())
    message.details.add(type_url="type.googleapis.com/google.rpc.RetryInfo", value=retry.SerializeToString())
    error = error_from_status(message, "RESOURCE_EXHAUSTED")
    assert error.field_violations == (errors.FieldViolation("run.run_name", "d"),)
    assert error.details["retry_delay_s"] == "1.5"


def test_a_status_of_an_operation_brings_its_own_code() -> None:
    assert error_from_status(status("CANCELLED", code=1)).code == "CANCELLED"


@pytest.mark.parametrize("kind", classes())
def test_every_class_pickles_with_all_it_knows(kind: type[errors.RundError]) -> None:
    error = kind("no", details={"a": "b"}, field_violations=[errors.FieldViolation("f", "d")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == "no"
    assert vars(again) == vars(error)


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = set(re.findall(r"\b[A-Z]\w+Error\b", (errors.__doc__ or "").split("Every class")[0]))
    builtins = {base.__name__ for kind in classes() for base in kind.__mro__ if base.__module__ == "builtins"}
    assert drawn - builtins == {kind.__name__ for kind in classes()}


def test_an_error_without_details_names_the_address() -> None:
    class Refused(grpc.RpcError, grpc.Call):
        def code(self) -> grpc.StatusCode:
            return grpc.StatusCode.UNAVAILABLE

        def details(self) -> str:
            return "refused"

        def trailing_metadata(self) -> None:
            return None

    Refused.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # only what is asked for is here
    error = error_from_rpc(Refused(), "unix:/x")
    assert isinstance(error, errors.DaemonUnavailableError)
    assert "unix:/x" in str(error)
    assert "rund serve" in str(error)
