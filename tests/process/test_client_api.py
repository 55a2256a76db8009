"""What a client sees of a daemon as a whole, over a real daemon and a real socket."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import rund
from rund import Run, RunEventType

_numbers = itertools.count()


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.fixture
def name() -> str:
    return f"name {next(_numbers)}"


def begin(root: Path, **options: Any) -> Run:
    """A run that is ended at once: none of these tests is about writing rows."""
    run = rund.init(root_url=root, **options)
    run.finish()
    return run


def test_listing(root: Path, name: str) -> None:
    runs = [begin(root, project_name=name, run_name=f"r{number}", parameters={"n": number}) for number in range(5)]
    client = rund.connect(root)
    assert [info.name for info in client.list_runs(name)] == ["r4", "r3", "r2", "r1", "r0"]
    assert [info.name for info in client.list_runs(name, page_size=2)] == ["r4", "r3", "r2", "r1", "r0"]
    found = client.list_runs(name, filter="parameters.n >= 2 AND parameters.n < 4", order_by="run_name")
    assert [info.name for info in found] == ["r2", "r3"]
    runs[0].delete()
    assert len(list(client.list_runs(name))) == 4
    assert len(list(client.list_runs(name, show_deleted=True))) == 5
    begin(root, project_name=f"{name} other")
    assert {info.project_name for info in client.list_runs()} >= {name, f"{name} other"}
    with pytest.raises(rund.InvalidFilterError):
        list(client.list_runs(filter="(("))
    with pytest.raises(rund.InvalidOrderByError):
        list(client.list_runs(order_by="nothing"))
    with pytest.raises(rund.InvalidFieldError):
        list(client.list_runs(page_size=-1))


def test_the_server_and_its_operations(root: Path, name: str) -> None:
    client = rund.connect(root)
    info = client.server_info()
    assert info.root_url == str(root)
    assert info.limits.max_batch_bytes >= 1 << 20
    begin(root, run_name=name).copy()
    newest = next(client.list_operations())
    assert newest.done
    assert newest.method == "CopyRun"
    assert newest.error is None
    assert client.get_operation(newest.name) == client.wait_operation(newest.name, timeout=1) == newest
    assert client.cancel_operation(newest.name).done
    with pytest.raises(rund.OperationNotFoundError):
        client.get_operation("operations/00000000-0000-7000-8000-000000000000")


def test_watching_a_project(root: Path, name: str) -> None:
    client = rund.connect(root)
    watch = client.watch(name)
    assert next(watch).type is RunEventType.SYNCED
    begin(root, project_name=name, run_name="r")
    event = next(watch)
    assert event.type is RunEventType.CREATED
    assert event.run is not None
    assert event.run.name == "r"
