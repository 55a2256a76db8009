"""How runs end, go to trash and come back, and who is told of it."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    create_run,
    create_table,
    get_run,
    new_id,
    plain,
    read,
    running,
    values,
    write_batches,
)

ONE = pa.record_batch({"x": [1]})


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("lives") / "root")


@pytest.fixture
def run(daemon: RawDaemon) -> str:
    return create_run(daemon).name


def rename(daemon: RawDaemon, name: str, new: str) -> None:
    run = run_pb2.Run(name=name, run_name=new)
    daemon.rpc.UpdateRun(rs.UpdateRunRequest(run=run, update_mask=FieldMask(paths=["run_name"])))


def test_a_run_ends_with_its_last_writer(daemon: RawDaemon) -> None:
    ids = [new_id() for _ in range(3)]
    run = create_run(daemon, launch_id="l", writer=run_pb2.Writer(writer_id=ids[0]))
    for writer in ids[1:]:
        create_run(daemon, launch_id="l", writer=run_pb2.Writer(writer_id=writer))
    states = []
    for writer, status in zip(ids, ("COMPLETED", "FAILED", "COMPLETED"), strict=True):
        cause = run_pb2.Cause(message="CUDA") if status == "FAILED" else None
        request = rs.FinishRunRequest(
            name=run.name, writer_id=writer.upper(), status=run_pb2.RunStatus.Value(f"RUN_STATUS_{status}"), cause=cause
        )
        states.append(run_pb2.RunStatus.Name(daemon.rpc.FinishRun(request).run.status))
    assert states == ["RUN_STATUS_RUNNING", "RUN_STATUS_RUNNING", "RUN_STATUS_FAILED"]
    ended = get_run(daemon, run.name)
    assert ended.cause.message == "CUDA"
    assert len(ended.writers) == 3
    assert all(writer.HasField("finish_time") for writer in ended.writers)


def test_a_run_ends_at_once_when_no_writer_is_named(daemon: RawDaemon, run: str) -> None:
    assert daemon.rpc.FinishRun(rs.FinishRunRequest(name=run)).run.status == run_pb2.RUN_STATUS_COMPLETED


# --- trash ---


def test_a_deleted_run_can_be_restored_by_name_or_uid(daemon: RawDaemon) -> None:
    uids = []
    for number in range(3):
        run = create_run(daemon, "trashed")
        write_batches(daemon, create_table(daemon, run.name, "t").name, *[ONE] * (number + 1))
        deleted = daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=run.name)).run
        assert deleted.expire_time.seconds > deleted.delete_time.seconds
        uids.append(run.uid)
    name = "projects/demo/runs/trashed"
    with pytest.raises(RefusedError):
        get_run(daemon, name)
    assert get_run(daemon, name, show_deleted=True).uid == uids[2], "the one that was deleted last"
    assert daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=name, uid=uids[0])).run.uid == uids[0]
    assert read(daemon, f"{name}/metrics/t").num_rows == 1
    rename(daemon, name, "moved out of the way")
    assert daemon.rpc.UndeleteRun(rs.UndeleteRunRequest(name=name)).run.uid == uids[2]
    assert read(daemon, f"{name}/metrics/t").num_rows == 3
    assert not get_run(daemon, name).HasField("delete_time")


# --- watching ---


def watch(daemon: RawDaemon, request: rs.WatchRunsRequest) -> Iterator[rs.RunEvent]:
    for answer in daemon.rpc.WatchRuns(request):
        yield from answer.events


def test_a_watcher_sees_the_present_then_every_change_in_order(daemon: RawDaemon) -> None:
    first = create_run(daemon, "first", "watched")
    create_run(daemon, "elsewhere", "other")
    stream = watch(daemon, rs.WatchRunsRequest(parent="projects/watched"))
    current, synced = next(stream), next(stream)
    kinds = rs.RunEvent
    assert (current.type, current.run.uid, synced.type) == (kinds.TYPE_CURRENT, first.uid, kinds.TYPE_SYNCED)
    second = create_run(daemon, "second", "watched")
    create_run(daemon, "unseen", "other")
    daemon.rpc.SetParameters(rs.SetParametersRequest(run=first.name, parameters=values({"lr": 1})))
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name=second.name))
    events = [next(stream) for _ in range(3)]
    assert [(event.type, event.run.uid) for event in events] == [
        (kinds.TYPE_CREATED, second.uid),
        (kinds.TYPE_UPDATED, first.uid),
        (kinds.TYPE_DELETED, second.uid),
    ]
    stream.close()
    daemon.restart()
    again = watch(daemon, rs.WatchRunsRequest(parent="projects/-", after_revision=synced.revision))
    revisions = [next(again).revision for _ in range(4)]
    again.close()
    assert revisions == list(range(synced.revision + 1, synced.revision + 5)), "without a gap, across a kill"


def test_one_run_can_be_watched(daemon: RawDaemon, run: str) -> None:
    stream = watch(daemon, rs.WatchRunsRequest(parent=run, view=run_pb2.RUN_VIEW_FULL))
    next(stream), next(stream)
    create_run(daemon)
    daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run, value=values({"a": 1})))
    event = next(stream)
    stream.close()
    assert (event.run.name, [plain(value) for value in event.run.outputs]) == (run, [{"a": 1}])


def test_a_watched_run_may_be_renamed(daemon: RawDaemon, run: str) -> None:
    begun = watch(daemon, rs.WatchRunsRequest(parent=run))
    created = next(watch(daemon, rs.WatchRunsRequest(parent=run, after_revision=0)))
    next(begun), next(begun)
    renamed = run_pb2.Run(name=run, run_name="another")
    name = daemon.rpc.UpdateRun(rs.UpdateRunRequest(run=renamed, update_mask=FieldMask(paths=["run_name"]))).run.name
    daemon.rpc.FinishRun(rs.FinishRunRequest(name=name))
    assert [next(begun).run.name for _ in range(2)] == [name, name]
    again = watch(daemon, rs.WatchRunsRequest(parent=name, after_revision=created.revision))
    assert [next(again).run.uid for _ in range(2)] == [created.run.uid] * 2


def test_runs_are_many_and_large(daemon: RawDaemon) -> None:
    """They come in messages that any client takes."""
    text = "x" * 100_000
    names = [
        create_run(daemon, f"r{number}", "large", run=run_pb2.Run(description=text)).run_name for number in range(30)
    ]
    stream = daemon.rpc.WatchRuns(rs.WatchRunsRequest(parent="projects/large", after_revision=0))
    seen: list[str] = []
    while len(seen) < 30:
        answer = next(stream)
        assert answer.ByteSize() < 2 << 20
        seen += [event.run.run_name for event in answer.events]
    assert seen == names
