"""Every reason that an RPC's comment lists is provoked here, and nothing is answered that a comment does not list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from rund_pb.v1 import (
    metrics_service_pb2,
    operation_service_pb2,
    reduction_service_pb2,
    run_pb2,
    run_service_pb2,
    table_service_pb2,
    value_pb2,
)

from tests.process import contract, refusals_of_reductions, refusals_of_rows, refusals_of_runs
from tests.process.raw_daemon import RefusedError, get_run, running
from tests.process.refusals import INPUT, NOBODY, RUN, TABLE, Case, World, build

CASES: dict[str, list[Case]] = {
    **refusals_of_runs.CASES,
    **refusals_of_rows.CASES,
    **refusals_of_reductions.CASES,
}

# What takes more to provoke than a request, and the module that does.
ELSEWHERE = {
    ("CreateRun", "OVER_QUOTA"): "tests/process/test_quotas.py",
    ("CopyRun", "OVER_QUOTA"): "tests/process/test_quotas.py",
    ("WriteTable", "OVER_QUOTA"): "tests/process/test_quotas.py",
    ("WriteMetrics", "DRAINING"): "tests/chaos/test_drain.py",
    ("WriteMetrics", "NO_SPACE"): "tests/chaos/test_disk_full.py",
    ("WriteMetrics", "STORAGE_FAILED"): "tests/chaos/test_failing_disk.py",
    ("ReadMetrics", "DRAINING"): "tests/chaos/test_drain.py",
    ("ReadMetrics", "CORRUPT"): "tests/chaos/test_damage.py",
    ("ReadTable", "CORRUPT"): "tests/chaos/test_fsck.py",
    ("ReadTable", "INVALID_URL"): "tests/process/test_table_service.py",
    ("WatchRuns", "DRAINING"): "tests/chaos/test_drain.py",
    ("WatchRuns", "REVISION_GONE"): "tests/daemon/test_watch.py",
    ("RegisterTable", "PERMISSION_DENIED"): "tests/process/test_server.py",
    ("GetServerInfo", "UNAUTHENTICATED"): "tests/process/test_server.py",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    for daemon in running(folder / "root"):
        yield build(daemon, folder)


def all_cases() -> list[Any]:
    return [
        pytest.param(rpc, *case, id=f"{rpc}-{case[0]}-{number}")
        for rpc, cases in CASES.items()
        for number, case in enumerate(cases)
    ]


@pytest.mark.parametrize(("rpc", "reason", "field", "how"), all_cases())
def test_a_refusal_says_why_and_what_is_to_blame(world: World, rpc: str, reason: str, field: str, how: Any) -> None:
    before = len(world.daemon.log("request_refused"))
    with pytest.raises(RefusedError) as caught:
        world.provoke(rpc, how)
    refused = caught.value
    assert (refused.rpc, refused.reason, refused.field) == (rpc, reason, field)
    assert refused.code == contract.codes()[reason]
    assert reason in contract.listed_reasons()[rpc], "the RPC's comment does not list it"
    assert len(refused.details) < 4096
    assert len(world.daemon.log("request_refused")) == before + 1, "the log has one line of it"
    assert not world.daemon.log("request_failed")


def test_every_listed_reason_is_provoked() -> None:
    provoked = {(rpc, case[0]) for rpc, cases in CASES.items() for case in cases}
    listed = {(rpc, reason) for rpc, reasons in contract.listed_reasons().items() for reason in reasons}
    assert listed - provoked == set(ELSEWHERE)


METHODS = {
    method.name: method
    for module in (
        run_service_pb2,
        metrics_service_pb2,
        table_service_pb2,
        operation_service_pb2,
        reduction_service_pb2,
    )
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@pytest.mark.parametrize("rpc", sorted(METHODS))
def test_bytes_that_are_no_message_are_an_invalid_argument(world: World, rpc: str) -> None:
    method = METHODS[rpc]
    shape = "_".join("stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming))
    garbage = iter([b"\xff" * 7]) if method.client_streaming else b"\xff" * 7
    channel = world.daemon.new_channel()
    call = getattr(channel, shape)(f"/{method.containing_service.full_name}/{rpc}", bytes, bytes)
    with pytest.raises(grpc.RpcError) as error:
        list(call(garbage, timeout=5))
    channel.close()
    refused = RefusedError(rpc, error.value)
    assert (refused.code, refused.reason, refused.field) == ("INVALID_ARGUMENT", "INVALID_FIELD", "request")


def test_the_run_is_as_it_was(world: World) -> None:
    """After all the refusals: what they named has not changed by them."""
    run = get_run(world.daemon, RUN)
    tables = {table.name.rpartition("/")[2]: table.row_count for table in run.metrics}
    assert (tables["table"], tables["sealed"], tables["foreign"]) == (3, 1, 0)
    assert "history" not in tables or tables["history"] == 0
    assert (run.run_name, list(run.inputs), list(run.outputs)) == ("run", [value_pb2.MapValue()], [])
    assert run.parameters == value_pb2.MapValue()
    assert not run.labels


MUTATING = {
    "CreateRun": {"parent": "projects/demo"},
    "UpdateRun": {"run": run_pb2.Run(name=RUN)},
    "DeleteRun": {"name": NOBODY},
    "UndeleteRun": {"name": NOBODY},
    "CopyRun": {"name": RUN},
    "ImportRun": {"bundle_url": "/bundle"},
    "AddInputTable": {"run": RUN, "table": INPUT},
    "AddInputValue": {"run": RUN},
    "AddOutputValue": {"run": RUN},
    "SetParameters": {"run": RUN},
    "UpdateMetrics": {"run": RUN},
    "AddMetricsTable": {"run": RUN, "metrics_table": TABLE},
    "FinishRun": {"name": RUN},
    "CreateMetricsTable": {"parent": RUN},
    "UndeleteMetricsTable": {"name": TABLE},
    "ReduceEmbeddingsByForeignTable": {"run": RUN, "foreign_table_url": INPUT},
    "ReduceEmbeddingsPerDataset": {"run": RUN},
    "DeleteReducer": {"name": refusals_of_reductions.REDUCER},
    "TransformMetrics": {"reducer": refusals_of_reductions.REDUCER, "metrics_tables": [TABLE]},
}


@pytest.mark.parametrize("rpc", sorted(MUTATING))
def test_a_request_id_is_a_uuid(world: World, rpc: str) -> None:
    with pytest.raises(RefusedError) as refused:
        world.call(rpc, **MUTATING[rpc], request_id="not a uuid")
    assert (refused.value.code, refused.value.field) == ("INVALID_ARGUMENT", "request_id")
