"""kill -9 of the daemon in the middle of a copy that leaves the root: the old or the new, and nothing left over."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pyarrow as pa
import pytest
from rund import Run
from rund_daemon.bundles.uploads import S3Uploads
from rund_daemon.failpoints import FAILPOINTS
from rund_pb.v1 import operation_pb2, run_pb2
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import run_service_pb2 as rs

from tests.bundles.conftest import ROWS, make_run
from tests.bundles.s3_server import BUCKET, S3Server
from tests.process.raw_daemon import RawDaemon, RefusedError, create_run, get_run, new_id, wait, write_batches
from tests.process.tiny_disk import tiny_disk

pytestmark = pytest.mark.chaos

OF_FOLDERS = ("bundle.captured", "bundle.file_written@3", "bundle.manifest_written", "bundle.published")
OF_OBJECTS = ("bundle.captured", "bundle.file_written@3", "bundle.objects_written", "bundle.objects_published")
SETTLE_S = 90.0


def begin(daemon: RawDaemon, run: str, place: str) -> str:
    """Begins a copy that replaces, and gives its operation; empty if the daemon died before it could say."""
    request = rs.CopyRunRequest(
        name=run, destination_url=place, if_exists=run_pb2.IF_EXISTS_OVERWRITE, request_id=new_id()
    )
    try:
        return str(daemon.rpc.CopyRun(request).operation.name)
    except RefusedError:
        return ""


def settled(daemon: RawDaemon, name: str) -> operation_pb2.Operation:
    """The operation, when the next daemon has said how it ended."""
    return wait(daemon, name)


def files(place: str, s3: S3Server) -> list[str]:
    """What lies at a place, and beside a folder."""
    if place.startswith("s3:"):
        return s3.names(place.removeprefix(f"s3://{BUCKET}/"))
    parent = Path(place).parent
    return sorted(str(path.relative_to(parent)) for path in parent.rglob("*") if path.is_file())


def wait_until_swept(daemon: RawDaemon, place: str, s3: S3Server, expected: int) -> None:
    deadline = time.monotonic() + SETTLE_S
    while len(found := files(place, s3)) != expected or list((daemon.root / "trash" / "new").glob("*")):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def run_killed(daemon: RawDaemon, place: str, points: tuple[str, ...], s3: S3Server) -> None:
    """Replaces a bundle again and again, and dies at each point."""
    armed = [f"{name}=kill@{at or 1}" for name, _, at in (point.partition("@") for point in points)]
    daemon.start()
    run = make_run(daemon).name
    assert settled(daemon, begin(daemon, run, place)).bundle_url == place
    count, rows = len(files(place, s3)), ROWS
    daemon.environment = {**s3.environment, "RUND_FAILPOINTS": armed[0]}
    daemon.restart()
    for number, following in enumerate([*armed[1:], ""]):
        write_batches(daemon, f"{run}/metrics/t", pa.record_batch({"x": [-number]}))
        operation = begin(daemon, run, place)
        daemon.process.wait(30)
        daemon.environment = {**s3.environment, **({"RUND_FAILPOINTS": following} if following else {})}
        daemon.start()
        new = Run.from_url(place).metrics_tables[1]
        assert new.to_arrow().num_rows in (rows, ROWS + number + 1)
        if operation:
            ended = settled(daemon, operation)
            assert (ended.bundle_url == place) == (new.row_count == ROWS + number + 1), ended
        wait_until_swept(daemon, place, s3, count)
        rows = Run.from_url(place).metrics_tables[1].row_count
        assert rows == new.row_count


@pytest.fixture
def own(tmp_path: Path, s3: S3Server) -> RawDaemon:
    daemon = RawDaemon(tmp_path / "root", environment=s3.environment)
    daemon.root.mkdir()
    return daemon


def test_at_each_point_of_a_copy_to_a_folder_on_another_file_system(
    own: RawDaemon, uses_s3: S3Server, tmp_path: Path
) -> None:
    with tiny_disk(tmp_path / "disk", 160) as disk:
        try:
            run_killed(own, str(disk / "b"), OF_FOLDERS, uses_s3)
        finally:
            own.end()


def test_at_each_point_of_a_copy_to_an_object_store(own: RawDaemon, uses_s3: S3Server) -> None:
    try:
        run_killed(own, f"s3://{BUCKET}/{new_id()}", OF_OBJECTS, uses_s3)
    finally:
        own.end()


@pytest.mark.long
def test_uploads_in_parts_are_ended(own: RawDaemon, uses_s3: S3Server) -> None:
    place = new_id()
    uploads = S3Uploads.of(uses_s3.endpoint, BUCKET, uses_s3.environment)
    assert uploads is not None
    try:
        own.start()
        run = create_run(own).name
        folder = Path(get_run(own, run, make_bulk_data_folder=True).bulk_data_url)
        (folder / "large file").write_bytes(random.Random(1).randbytes(96 << 20))
        operation = begin(own, run, f"s3://{BUCKET}/{place}")
        deadline = time.monotonic() + 30
        while not uploads.begun(place):
            assert time.monotonic() < deadline
        own.kill()
        assert [key for key, _ in uploads.begun(place)] == [f"{place}/{key_of(operation)}/bulk_data/large file"]
        own.start()
        assert "DRAINING" in str(settled(own, operation).error)
        assert uploads.begun(place) == []
        assert uses_s3.names(place) == []
    finally:
        own.end()


def key_of(operation: str) -> str:
    """The folder of a copy in an object store."""
    return operation.removeprefix("operations/").replace("-", "")


def test_each_point_has_killed() -> None:
    killed = {point.partition("@")[0] for point in (*OF_FOLDERS, *OF_OBJECTS)}
    assert killed == {name for name in FAILPOINTS if name.startswith("bundle.")}


@pytest.mark.parametrize("kind", ["folder", "s3"])
@pytest.mark.long
@pytest.mark.timeout(900)
def test_at_any_moment(own: RawDaemon, uses_s3: S3Server, tmp_path: Path, kind: str) -> None:
    place = str(tmp_path / "out" / "b") if kind == "folder" else f"s3://{BUCKET}/{new_id()}"
    chance = random.Random(20261127)
    try:
        own.start()
        run = make_run(own).name
        folder = Path(get_run(own, run, make_bulk_data_folder=True).bulk_data_url)
        for number in range(4):
            (folder / f"{number}").write_bytes(chance.randbytes(6 << 20))
        begun = time.monotonic()
        assert settled(own, begin(own, run, place)).bundle_url == place
        whole = time.monotonic() - begun
        count = len(files(place, uses_s3))
        for _ in range(25):
            operation = begin(own, run, place)
            time.sleep(chance.uniform(0, whole))
            own.kill()
            own.start()
            assert own.rpc.WaitOperation(ops.WaitOperationRequest(name=operation)).operation.done
            assert Run.from_url(place).metrics_tables[1].to_arrow().num_rows == ROWS
            wait_until_swept(own, place, uses_s3, count)
    finally:
        own.end()
