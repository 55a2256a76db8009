"""Copies as operations: followed, waited for, cancelled, cut short, and remembered."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf.duration_pb2 import Duration
from rund_pb.v1 import operation_pb2, run_pb2
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    copy_run,
    create_run,
    create_table,
    get_run,
    new_id,
    plain,
    read,
    running,
    values,
    wait,
    write_batches,
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("operations") / "root")


@pytest.fixture
def run(daemon: RawDaemon) -> str:
    """A run with a value, rows and a side file."""
    run = create_run(daemon, run=run_pb2.Run(parameters=values({"lr": 0.1})))
    write_batches(daemon, create_table(daemon, run.name, "t").name, pa.record_batch({"x": [1, 2, 3]}))
    folder = Path(get_run(daemon, run.name, make_bulk_data_folder=True).bulk_data_url)
    (folder / "side").write_bytes(b"file")
    return run.name


def heavy(daemon: RawDaemon) -> str:
    """A run that takes a while to copy: its rows are in an open segment, its side files are many."""
    run = create_run(daemon).name
    table = create_table(daemon, run, "t").name
    write_batches(daemon, table, *[pa.record_batch({"x": np.zeros(1 << 20)})] * 4)
    folder = Path(get_run(daemon, run, make_bulk_data_folder=True).bulk_data_url)
    for number in range(400):
        (folder / f"{number}").write_bytes(b"x" * 1000)
    return run


def begin(daemon: RawDaemon, run: str, **fields: object) -> operation_pb2.Operation:
    return daemon.rpc.CopyRun(rs.CopyRunRequest(name=run, request_id=new_id(), **fields)).operation  # type: ignore[arg-type]


def get(daemon: RawDaemon, name: str) -> operation_pb2.Operation:
    return daemon.rpc.GetOperation(ops.GetOperationRequest(name=name)).operation


def test_a_copy_is_an_operation_whose_result_is_the_run(daemon: RawDaemon, run: str) -> None:
    operation = copy_run(daemon, run, run_name="copied", project_name="other")
    copied = operation.run
    assert (operation.metadata.method, operation.metadata.target, operation.metadata.progress) == ("CopyRun", run, 1.0)
    assert operation.metadata.end_time.seconds >= operation.metadata.create_time.seconds
    assert copied == get_run(daemon, "projects/other/runs/copied")
    assert plain(copied.parameters) == {"lr": 0.1}
    assert read(daemon, f"{copied.name}/metrics/t").to_pylist() == [{"x": 1}, {"x": 2}, {"x": 3}]
    assert (Path(copied.bulk_data_url) / "side").read_bytes() == b"file"
    assert get(daemon, operation.name) == operation


def test_where_a_copy_goes(daemon: RawDaemon, run: str) -> None:
    name = run.rpartition("/")[2]
    sibling = copy_run(daemon, run).run
    assert sibling.name == f"{run}_0001"
    moved = copy_run(daemon, run, project_name="p2").run
    assert moved.name == f"projects/p2/runs/{name}"
    here = copy_run(daemon, run, root_url=f"file://{daemon.root}/", run_name=f"{name}-here").run
    assert here.run_name == f"{name}-here"
    by_url = copy_run(daemon, run, destination_url=f"{daemon.root}/by url/runs/ü").run
    assert by_url.name == "projects/by url/runs/ü"
    renamed = copy_run(daemon, run, project_name="p2", if_exists=run_pb2.IF_EXISTS_RENAME).run
    assert renamed.run_name == f"{name}_0001"
    overwritten = copy_run(daemon, run, project_name="p2", if_exists=run_pb2.IF_EXISTS_OVERWRITE).run
    assert (overwritten.name, overwritten.uid != moved.uid) == (moved.name, True)
    assert read(daemon, f"{overwritten.name}/metrics/t").num_rows == 3


def test_a_cancelled_copy_changes_nothing(daemon: RawDaemon) -> None:
    run = heavy(daemon)
    operation = begin(daemon, run, run_name="never")
    cancelled = daemon.rpc.CancelOperation(ops.CancelOperationRequest(name=operation.name)).operation
    assert cancelled.metadata.cancel_requested or cancelled.done
    ended = wait(daemon, operation.name)
    assert ended.error.code == 1
    assert "CANCELLED" in str(ended.error)
    with pytest.raises(RefusedError):
        get_run(daemon, "projects/demo/runs/never")
    assert not list((daemon.root / "trash" / "new").glob("*"))
    again = daemon.rpc.CancelOperation(ops.CancelOperationRequest(name=operation.name)).operation
    assert again == ended, "cancelling twice is the same as once"


def test_waiting_is_bounded(daemon: RawDaemon) -> None:
    operation = begin(daemon, heavy(daemon))
    request = ops.WaitOperationRequest(name=operation.name, timeout=Duration(nanos=1_000_000))
    begun = time.monotonic()
    daemon.rpc.WaitOperation(request)
    assert time.monotonic() - begun < 10
    assert wait(daemon, operation.name).run.name


def test_operations_are_listed_newest_first(daemon: RawDaemon, run: str) -> None:
    made = [copy_run(daemon, run).name for _ in range(5)]
    page = daemon.rpc.ListOperations(ops.ListOperationsRequest(page_size=3))
    rest = daemon.rpc.ListOperations(ops.ListOperationsRequest(page_size=2, page_token=page.next_page_token))
    assert [operation.name for operation in (*page.operations, *rest.operations)] == made[::-1]


def test_what_a_stop_cut_short_has_failed_and_left_nothing(daemon: RawDaemon) -> None:
    run = heavy(daemon)
    for end in ("kill", "stop"):
        operation = begin(daemon, run, run_name=f"cut by {end}")
        getattr(daemon, end)()
        daemon.start()
        ended = get(daemon, operation.name)
        assert ended.done
        if ended.WhichOneof("result") == "error":
            assert "DRAINING" in str(ended.error)
            with pytest.raises(RefusedError):
                get_run(daemon, f"projects/demo/runs/cut by {end}")
        else:
            assert read(daemon, f"{ended.run.name}/metrics/t").num_rows == 4 << 20
    deadline = time.monotonic() + 60
    while list((daemon.root / "trash" / "new").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not list((daemon.root / "trash" / "new").glob("*")), "what was never finished is removed by the next start"
    assert read(daemon, f"{run}/metrics/t", columns=[]).num_rows == 4 << 20
    assert copy_run(daemon, run, run_name="after all").run.run_name == "after all"
