"""Bundles become runs again: all of them, or nothing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import rund
from rund import Run
from rund_pb.v1 import operation_pb2, run_pb2
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import run_service_pb2 as rs

from tests.bundles.conftest import ROWS, FullRun, make_run
from tests.bundles.s3_server import BUCKET, S3Server
from tests.chaos.kill_rounds import wait_for
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    copy_run,
    create_run,
    create_table,
    get_run,
    new_id,
    read,
    running,
    wait,
    write_batches,
)


def import_run(daemon: RawDaemon, url: str, **fields: Any) -> operation_pb2.Operation:
    request = rs.ImportRunRequest(bundle_url=url, request_id=new_id(), **fields)
    return wait(daemon, daemon.rpc.ImportRun(request).operation.name)


@pytest.fixture(params=["folder", "s3"])
def bundle(request: pytest.FixtureRequest, daemon: RawDaemon, full: FullRun, tmp_path: Path, uses_s3: S3Server) -> str:
    url = str(tmp_path / "b") if request.param == "folder" else f"s3://{BUCKET}/{new_id()}"
    return copy_run(daemon, full.name, destination_url=url).bundle_url


def test_an_imported_run_is_the_run_that_was_copied(daemon: RawDaemon, full: FullRun, bundle: str) -> None:
    source = get_run(daemon, full.name)
    operation = import_run(daemon, bundle, project_name="imported")
    run = operation.run
    assert (operation.metadata.method, run.name) == ("ImportRun", f"projects/imported/runs/{source.run_name}")
    assert run.uid != source.uid
    assert (run.parameters, dict(run.labels), list(run.outputs)) == (
        source.parameters,
        dict(source.labels),
        list(source.outputs),
    )
    assert [(table.url, table.row_count) for table in run.metrics] == [
        (table.url, table.row_count) for table in source.metrics
    ]
    for name in ("s", "t"):
        assert read(daemon, f"{run.name}/metrics/{name}").equals(read(daemon, f"{full.name}/metrics/{name}"))
    assert (Path(run.bulk_data_url) / "deep" / "file.bin").read_bytes() == b"bulk" * 1000
    assert read(daemon, f"{run.name}/metrics/t", filter="x >= 2990").num_rows == 10
    again = copy_run(daemon, run.name, destination_url=f"{bundle}-again").bundle_url
    assert Run.from_url(again).metrics_tables[1].to_arrow()["x"].to_pylist() == full.x


def test_a_name_that_is_taken(daemon: RawDaemon, full: FullRun, bundle: str) -> None:
    assert "RUN_EXISTS" in str(import_run(daemon, bundle).error)
    name = full.name.rpartition("/")[2]
    assert import_run(daemon, bundle, if_exists=run_pb2.IF_EXISTS_RENAME).run.run_name == f"{name}_0001"
    old = get_run(daemon, full.name)
    write_batches(daemon, f"{full.name}/metrics/empty", pa.record_batch({"of the old": [1]}))
    new = import_run(daemon, bundle, if_exists=run_pb2.IF_EXISTS_OVERWRITE).run
    assert (new.name, new.uid != old.uid) == (old.name, True)
    assert read(daemon, f"{new.name}/metrics/empty").num_rows == 0


def rewrite(bundle: Path, change: Callable[[dict[str, Any]], None], name: str = "run.json") -> None:
    """Changes a document of a bundle, with its checksum."""
    path = bundle / name
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    if name != "bundle.json":
        data = path.read_bytes()

        def renew(manifest: dict[str, Any]) -> None:
            for entry in manifest["files"]:
                if entry["path"] == name:
                    entry.update(size=len(data), sha256=hashlib.sha256(data).hexdigest())

        rewrite(bundle, renew, "bundle.json")


def put(*place: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for key in place[:-1]:
            document = document[key]
        document[place[-1]] = value

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("bundle.json", put("files", 0, "path", value="../../etc/passwd")),
        ("bundle.json", put("folder", value="/etc")),
        ("bundle.json", put("format", value=2)),
        ("bundle.json", put("files", 1, "sha256", value="0" * 64)),
        ("bundle.json", put("files", 1, "size", value=1)),
        ("bundle.json", put("files", 1, "rows", value=7)),
        ("bundle.json", put("files", 1, "path", value="metrics/s/000009.arrow")),
        ("run.json", put("metrics", 0, "name", value="../../../demo")),
        ("run.json", put("metrics", 0, "name", value=7)),
        ("run.json", put("run", "name", value="../up")),
        ("run.json", put("run", "status", value="NONSENSE")),
        ("run.json", put("metrics", value=None)),
    ],
)
def test_what_is_wrong_with_a_bundle_is_said_and_leaves_nothing(
    daemon: RawDaemon, full: FullRun, tmp_path: Path, name: str, change: Callable[[dict[str, Any]], None]
) -> None:
    copy_run(daemon, full.name, destination_url=str(tmp_path / "b"))
    rewrite(tmp_path / "b", change, name)
    operation = import_run(daemon, str(tmp_path / "b"), project_name="damaged")
    assert operation.error.message.startswith(str(tmp_path / "b")), operation
    assert operation.error.code == 15
    wait_for(lambda: not list((daemon.root / "trash" / "new").glob("*")), lambda: "something is left over")
    with pytest.raises(RefusedError):
        get_run(daemon, f"projects/damaged/runs/{full.name.rpartition('/')[2]}")


def test_what_is_no_bundle_is_not_there(daemon: RawDaemon, uses_s3: S3Server, tmp_path: Path) -> None:
    for url in (str(tmp_path), f"s3://{BUCKET}/nothing"):
        assert "there is no bundle.json at" in import_run(daemon, url).error.message


def test_a_cancelled_import_leaves_nothing(daemon: RawDaemon, tmp_path: Path) -> None:
    run = create_run(daemon).name
    batch = pa.record_batch({"x": np.random.default_rng(1).random(1 << 20)})
    write_batches(daemon, create_table(daemon, run, "t").name, *[batch] * 12)
    url = copy_run(daemon, run, destination_url=str(tmp_path / "b")).bundle_url
    request = rs.ImportRunRequest(bundle_url=url, project_name="cancelled", request_id=new_id())
    operation = daemon.rpc.ImportRun(request).operation
    daemon.rpc.CancelOperation(ops.CancelOperationRequest(name=operation.name))
    assert "CANCELLED" in str(wait(daemon, operation.name).error)
    assert not (daemon.root / "cancelled").exists()
    wait_for(lambda: not list((daemon.root / "trash" / "new").glob("*")), lambda: "something is left over")


@pytest.mark.chaos
@pytest.mark.long
def test_a_daemon_that_is_killed_while_it_imports(tmp_path: Path, uses_s3: S3Server) -> None:
    for daemon in running(tmp_path / "root"):
        run = make_run(daemon)
        url = copy_run(daemon, run.name, destination_url=str(tmp_path / "b")).bundle_url
        for point, is_there in (("importing.taken", False), ("importing.published", True)):
            daemon.environment = {"RUND_FAILPOINTS": f"{point}=kill@1"}
            daemon.restart()
            with pytest.raises(RefusedError):
                import_run(daemon, url, project_name="new")
            daemon.process.wait(30)
            daemon.environment = {}
            daemon.start()
            deadline = time.monotonic() + 30
            while list((daemon.root / "trash" / "new").glob("*")):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            runs = list((daemon.root / "new" / "runs").glob("*")) if (daemon.root / "new").exists() else []
            assert len(runs) == is_there
        name = f"projects/new/runs/{run.name.rpartition('/')[2]}"
        assert read(daemon, f"{name}/metrics/t").num_rows == ROWS


def rund_command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("rund")), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_line_copies_and_imports(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    root = ("--root", str(daemon.root))
    source = full.name.removeprefix("projects/").replace("/runs/", "/")
    copied = rund_command("copy", source, str(tmp_path / "b"), *root)
    assert (copied.returncode, copied.stdout) == (0, f"copied {source} to {tmp_path}/b\n"), copied.stderr
    again = rund_command("copy", source, str(tmp_path / "b"), *root)
    assert again.returncode == 1
    assert "there is a bundle at" in again.stderr
    within = rund_command("copy", source, "cli/within", "--json", *root)
    assert json.loads(within.stdout)["copy"] == "cli/within"
    imported = rund_command("import", "bundle", str(tmp_path / "b"), "--project", "cli", *root)
    assert imported.stdout == f"imported cli/{source.partition('/')[2]} from {tmp_path}/b\n", imported.stderr
    missing = rund_command("import", "bundle", str(tmp_path / "nothing"), *root)
    assert missing.returncode == 3


def test_the_client_imports(daemon: RawDaemon, full: FullRun, bundle: str) -> None:
    client = rund.connect(daemon.root)
    info = client.import_bundle(bundle, "named", f"by client {new_id()}")
    assert info.name == "named"
    assert Run.from_url(info.url).metrics_tables[1].to_arrow()["x"].to_pylist() == full.x
    with pytest.raises(rund.RunExistsError):
        client.import_bundle(bundle, "named", info.project_name)


def test_a_run_is_copied_to_another_root(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    source = Run.from_url(get_run(daemon, full.name).url)
    for other in running(tmp_path / "other"):
        copied = source.copy(root_url=other.root)
        assert copied.url == f"{other.root}/demo/runs/{source.name}"
        assert copied.metrics_tables[1].to_arrow()["x"].to_pylist() == full.x
        named = source.copy("new", "place", other.root)
        assert (named.name, named.project_name) == ("new", "place")
        with pytest.raises(rund.RunExistsError):
            source.copy("new", "place", other.root)
        assert source.copy("new", "place", other.root, "overwrite").uid != named.uid
        copied.set_description("it can be changed")
        assert list((other.root / "incoming").iterdir()) == []
