"""Who may do what: tokens, their scopes, and the projects that requests are about."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rund_daemon.authorization import Authorizer, Grant, Scope, TokenFile
from rund_daemon.errors import AccessError, Reason
from rund_daemon.services.requests import projects_of
from rund_pb.v1 import metrics_service_pb2, operation_service_pb2, run_pb2, run_service_pb2, table_service_pb2

READING = ("GetRun", "ListRuns", "ReadMetrics", "WatchRuns", "WaitOperation", "GetServerInfo")
WRITING = ("CreateRun", "UpdateRun", "DeleteRun", "WriteMetrics", "LogScalars", "RegisterTable", "CancelOperation")


def test_the_socket_needs_no_token_and_tcp_does(tmp_path: Path) -> None:
    authorizer = Authorizer(TokenFile(tmp_path))
    assert authorizer.grant("unix:", "") == Grant(Scope.ADMIN)
    for authorization in ("", "Bearer ", "Bearer nonsense", "unix:", "Basic eDp4"):
        with pytest.raises(AccessError) as denied:
            authorizer.grant("ipv4:127.0.0.1:5", authorization)
        assert denied.value.reason is Reason.UNAUTHENTICATED


def test_a_token_works_until_it_is_removed_and_is_kept_as_a_digest(tmp_path: Path) -> None:
    tokens = TokenFile(tmp_path)
    authorizer = Authorizer(TokenFile(tmp_path))
    first, secret = tokens.add(Scope.READ, "")
    second, other = tokens.add(Scope.WRITE, "mine")
    assert authorizer.grant("ipv4:1.2.3.4:5", f"Bearer {secret}") == Grant(Scope.READ)
    assert authorizer.grant("ipv6:[::1]:5", f"Bearer {other}") == Grant(Scope.WRITE, "mine")
    text = (tmp_path / "tokens.json").read_text()
    assert secret not in text
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600
    assert [entry["token_id"] for entry in json.loads(text)] == [first.token_id, second.token_id]
    assert tokens.remove(first.token_id)
    assert not tokens.remove(first.token_id)
    with pytest.raises(AccessError):
        authorizer.grant("ipv4:1.2.3.4:5", f"Bearer {secret}")
    assert authorizer.grant("ipv4:1.2.3.4:5", f"Bearer {other}").project == "mine"


@pytest.mark.parametrize("method", READING)
def test_every_scope_may_read(method: str) -> None:
    for scope in Scope:
        Grant(scope).check_method(method)


@pytest.mark.parametrize("method", WRITING)
def test_a_reader_may_not_write(method: str) -> None:
    for scope in (Scope.WRITE, Scope.ADMIN):
        Grant(scope).check_method(method)
    with pytest.raises(AccessError) as denied:
        Grant(Scope.READ).check_method(method)
    assert denied.value.reason is Reason.PERMISSION_DENIED


OF_P = [
    run_service_pb2.CreateRunRequest(parent="projects/p", run=run_pb2.Run(run_name="r")),
    run_service_pb2.GetRunRequest(name="projects/p/runs/r"),
    run_service_pb2.UpdateRunRequest(run=run_pb2.Run(name="projects/p/runs/r")),
    run_service_pb2.SetParametersRequest(run="projects/p/runs/r"),
    run_service_pb2.CopyRunRequest(name="projects/p/runs/r", run_name="other"),
    run_service_pb2.AddMetricsTableRequest(run="projects/p/runs/r", metrics_table="metrics/t"),
    metrics_service_pb2.ReadMetricsRequest(metrics_table="projects/p/runs/r/metrics/t"),
    metrics_service_pb2.WriteMetricsRequest(
        open=metrics_service_pb2.WriteMetricsRequest.Open(metrics_table="projects/p/runs/r/metrics/t")
    ),
    table_service_pb2.WriteTableRequest(open=table_service_pb2.WriteTableRequest.Open(parent="projects/p/datasets/d")),
]
OF_OTHERS = [
    run_service_pb2.CreateRunRequest(parent="projects/q"),
    run_service_pb2.ListRunsRequest(parent="projects/-"),
    run_service_pb2.GetRunRequest(uid="0190a0a0-0000-7000-8000-000000000000"),
    run_service_pb2.GetRunRequest(url="/root/p/runs/r"),
    run_service_pb2.CopyRunRequest(name="projects/p/runs/r", project_name="q"),
    run_service_pb2.CopyRunRequest(name="projects/p/runs/r", destination_url="/root/q/runs/r"),
    run_service_pb2.AddMetricsTableRequest(run="projects/p/runs/r", metrics_table="projects/q/runs/r/metrics/t"),
    run_service_pb2.AddInputTableRequest(run="projects/p/runs/r", table="projects/q/datasets/d/tables/t"),
    table_service_pb2.RegisterTableRequest(url="/x.csv"),
    operation_service_pb2.ListOperationsRequest(),
]


@pytest.mark.parametrize("request_", OF_P, ids=lambda message: type(message).__name__)
def test_a_token_of_a_project_works_in_it(request_: object) -> None:
    for project in projects_of(request_):
        Grant(Scope.WRITE, "p").check_project("Any", project)
        Grant(Scope.WRITE).check_project("Any", project)


@pytest.mark.parametrize("request_", OF_OTHERS, ids=lambda message: type(message).__name__)
def test_a_token_of_a_project_works_nowhere_else(request_: object) -> None:
    (elsewhere,) = {project for project in projects_of(request_) if project != "p"}
    with pytest.raises(AccessError) as denied:
        Grant(Scope.WRITE, "p").check_project("Any", elsewhere)
    assert denied.value.reason is Reason.PERMISSION_DENIED
