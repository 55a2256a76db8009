"""Copies that leave the root, over a real daemon and a real S3 server; read back by programs that are not ours."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pytest
import rund
from rund import Run, RunStatus
from rund_pb.v1 import operation_pb2, run_pb2
from rund_pb.v1 import operation_service_pb2 as ops
from rund_pb.v1 import run_service_pb2 as rs

from tests.bundles.conftest import FullRun
from tests.bundles.s3_server import BUCKET, S3Server
from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    copy_run,
    create_run,
    create_table,
    get_run,
    new_id,
    running,
    wait,
    write_batches,
)
from tests.process.tiny_disk import tiny_disk


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, uses_s3: S3Server) -> str:
    """Where a bundle may go."""
    return str(tmp_path / "out") if request.param == "folder" else f"s3://{BUCKET}/{new_id()}"


def everything(place: str, s3: S3Server) -> list[str]:
    """All files below a place, and beside a folder."""
    if place.startswith("s3:"):
        return s3.names(place.removeprefix(f"s3://{BUCKET}/"))
    parent = Path(place).parent
    return sorted(str(path.relative_to(parent)) for path in parent.rglob("*") if path.is_file())


def test_a_bundle_holds_the_run(daemon: RawDaemon, full: FullRun, place: str, s3: S3Server) -> None:
    operation = copy_run(daemon, full.name, destination_url=place)
    assert (operation.bundle_url, operation.metadata.progress) == (place, 1.0)
    source = get_run(daemon, full.name)
    run = Run.from_url(place)
    assert (run.uid, run.url, run.name, run.resource_name) == (source.uid, place, source.run_name, full.name)
    assert run.parameters == {"lr": 0.1, "n": 10, "odd": float("inf"), "$b": b"\x00"}
    assert type(run.parameters["n"]) is int
    assert (run.info.outputs, run.labels) == (({"acc": 0.5},), {"a": "b"})
    assert run.status is RunStatus.PAUSED, "nobody writes to a copy"
    assert [(info.name, info.row_count, info.sealed) for info in run.metrics] == [
        ("s", 100, True),
        ("t", 3000, True),
        ("empty", 0, True),
    ]
    _, table, empty = run.metrics_tables
    rows = table.to_arrow()
    assert rows.column_names == ["x", "y", "split"]
    assert rows["x"].to_pylist() == full.x
    assert rows["y"].null_count == 2000
    assert rows["y"][1001].as_py() == 0.5
    assert set(rows["split"].to_pylist()) == {"train"}
    assert (empty.row_count, empty.to_arrow().num_rows) == (0, 0)
    files = [name for name in everything(place, s3) if ".arrow" in name]
    assert len(files) == 2
    assert all(name.endswith(".arrow") for name in files), "open segments are sealed in it"


def test_rows_of_a_bundle_are_read_in_parts(daemon: RawDaemon, full: FullRun, place: str) -> None:
    copy_run(daemon, full.name, destination_url=place)
    table = Run.from_url(place).metrics_tables[1]
    assert (len(table), table.row_count, table.stream_name) == (3000, 3000, "default_stream")
    assert table.schema.names == ["x", "y", "split"]
    assert table.head(3).column("x").to_pylist() == [0, 1, 2]
    assert table[2999]["x"] == 2999
    assert table[995:1005].column("x").to_pylist() == list(range(995, 1005))
    assert table.to_arrow(["split", "x"]).column_names == ["split", "x"]
    assert sum(batch.num_rows for batch in table.scan([])) == 3000
    scanned = table.scan(["x"], start_row=1500, row_limit=700)
    assert [x for batch in scanned for x in batch.column(0).to_pylist()] == list(range(1500, 2200))
    assert list(table.to_pandas()["x"]) == full.x
    assert table.to_polars()["x"].to_list() == full.x
    for columns in (["z"], ["x", "x"]):
        with pytest.raises(rund.InvalidColumnError):
            table.to_arrow(columns)


def test_sql_over_a_bundle(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    copy_run(daemon, full.name, destination_url=str(tmp_path / "b"))
    run = Run.from_url(tmp_path / "b")
    assert run.read_only
    assert run.query("SELECT count(*) AS n, sum(x) AS s FROM t WHERE x >= 1000").to_pylist() == [
        {"n": 2000, "s": sum(full.x[1000:])}
    ]
    assert run.query("SELECT number FROM outputs WHERE key = 'acc'").to_pylist() == [{"number": 0.5}]
    assert len(run.query("SELECT * FROM tables")) == 3
    with pytest.raises(rund.QueryError):
        run.query('SELECT * FROM "demo/other".t')


def test_filters_keep_the_rows_that_the_daemon_keeps(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    copy_run(daemon, full.name, destination_url=str(tmp_path / "b"))
    _, project, _, name = full.name.split("/")
    table = Run.from_url(tmp_path / "b").metrics_tables[1]
    kept = Run.from_url(daemon.root / project / "runs" / name).metrics_tables[1]
    for text in (
        "x >= 2990",
        "NOT y:* AND x < 1200",
        "split = 'tr*' AND x < 5",
        "split = 'test'",
        "y != nan",
        "x = null",
    ):
        for columns in (None, ["x"], ["split", "x"]):
            assert table.to_arrow(columns, text).equals(kept.to_arrow(columns, text))
    assert sum(batch.num_rows for batch in table.scan([], "x >= 10 AND x < 20")) == 10
    part = table.scan(["x"], "x < 1600", start_row=1500, row_limit=700)
    assert [x for batch in part for x in batch.column(0).to_pylist()] == list(range(1500, 1600))
    for text in ("x >", "z = 1", "x = 'text'"):
        with pytest.raises(rund.InvalidFilterError) as caught:
            table.to_arrow(filter=text)
        with pytest.raises(rund.InvalidFilterError, match=re.escape(caught.value.message)) as said:
            kept.to_arrow(filter=text)
        assert caught.value.details["position"] == said.value.details["position"]


def test_other_programs_read_a_bundle(daemon: RawDaemon, full: FullRun, place: str, s3: S3Server) -> None:
    copy_run(daemon, full.name, destination_url=place)
    files: Any = pa.fs.LocalFileSystem()
    folder = place
    if place.startswith("s3:"):
        (copy_id,) = {name.split("/")[1] for name in everything(place, s3) if "metrics" in name}
        files, folder = s3.files, f"{place.removeprefix('s3://')}/{copy_id}"
    dataset = pyarrow.dataset.dataset(f"{folder}/metrics/t", format="ipc", filesystem=files)
    assert dataset.to_table()["x"].to_pylist() == full.x
    assert duckdb.sql("SELECT sum(x), count(y) FROM dataset").fetchall() == [(sum(full.x), 1000)]
    if not place.startswith("s3:"):
        (path,) = Path(place, "metrics", "t").iterdir()
        assert list(pd.read_feather(path)["x"]) == full.x
        assert pl.read_ipc(path)["x"].to_list() == full.x
        for entry in json.loads(Path(place, "bundle.json").read_text())["files"]:
            data = Path(place, entry["path"]).read_bytes()
            assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["size"], entry["sha256"])
        assert Path(place, "bulk_data", "deep", "file.bin").read_bytes() == b"bulk" * 1000


def test_a_bundle_is_read_only(daemon: RawDaemon, full: FullRun, place: str) -> None:
    copy_run(daemon, full.name, destination_url=place)
    run = Run.from_url(place)
    changes = {
        "log": lambda: run.log({"a": 1}),
        "add_metrics": lambda: run.add_metrics({"a": [1]}),
        "add_metrics_data": lambda: run.add_metrics_data({"a": [1]}),
        "metrics_writer": lambda: run.metrics_writer("w"),
        "update": lambda: run.update(description="x"),
        "set_description": lambda: run.set_description("x"),
        "set_parameters": lambda: run.set_parameters({"a": 1}),
        "add_input_value": lambda: run.add_input_value({"a": 1}),
        "add_output_value": lambda: run.add_output_value({"a": 1}),
        "add_input_table": lambda: run.add_input_table("/x.parquet"),
        "add_metrics_table": lambda: run.add_metrics_table("/x"),
        "update_metrics": lambda: run.update_metrics([]),
        "rename": lambda: run.rename("x"),
        "delete": run.delete,
        "undelete": run.undelete,
        "finish": run.finish,
        "copy": run.copy,
        "to_bundle": lambda: run.to_bundle("/x"),
        "description": lambda: setattr(run, "description", "x"),
        "labels": lambda: setattr(run, "labels", {}),
        **{name: getattr(run, name) for name in dir(Run) if name.startswith("set_status_")},
    }
    for name, change in changes.items():
        with pytest.raises(RuntimeError, match="read-only") as caught:
            change()
        assert isinstance(caught.value, rund.WrongStateError), name
        assert caught.value.code == "FAILED_PRECONDITION"
    assert Run.from_url(place).info == run.info


def test_what_is_there_stays_unless_it_is_to_be_replaced(
    daemon: RawDaemon, full: FullRun, place: str, s3: S3Server
) -> None:
    first = copy_run(daemon, full.name, destination_url=place)
    before = everything(place, s3)
    again = copy_run(daemon, full.name, destination_url=place)
    assert "RUN_EXISTS" in str(again.error)
    assert "destination_url: there is a bundle" in again.error.message
    assert everything(place, s3) == before
    renamed = copy_run(daemon, full.name, destination_url=place, if_exists=run_pb2.IF_EXISTS_RENAME)
    assert renamed.bundle_url == f"{place}_0001"
    assert Run.from_url(renamed.bundle_url).uid == Run.from_url(place).uid
    write_batches(daemon, f"{full.name}/metrics/t", pa.record_batch({"x": [-1]}))
    replaced = copy_run(daemon, full.name, destination_url=place, if_exists=run_pb2.IF_EXISTS_OVERWRITE)
    assert replaced.bundle_url == first.bundle_url == place
    assert Run.from_url(place).metrics_tables[1].to_arrow()["x"].to_pylist() == [*full.x, -1]
    after = everything(place, s3)
    assert len([name for name in after if "_0001" not in name]) == len(before), "the old one is gone"


def test_a_folder_that_is_no_bundle_is_left_alone(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    copy_run(daemon, full.name, destination_url=str(tmp_path / "empty"))
    (folder / "thesis").write_text("words")
    for if_exists in (run_pb2.IF_EXISTS_RAISE, run_pb2.IF_EXISTS_OVERWRITE):
        operation = copy_run(daemon, full.name, destination_url=str(folder), if_exists=if_exists)
        assert "is no bundle and is left alone" in operation.error.message
    assert [path.name for path in folder.iterdir()] == ["thesis"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


def test_the_configuration_says_where_bundles_may_go(tmp_path: Path, s3: S3Server) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "out").symlink_to(tmp_path)
    prefixes = f"{tmp_path}/allowed,s3://{BUCKET}/allowed"
    for daemon in running(tmp_path / "root", RUND_URL_PREFIXES=prefixes, **s3.environment):
        run = create_run(daemon).name
        for url in (f"{tmp_path}/allowed/a", f"s3://{BUCKET}/allowed/{new_id()}"):
            assert copy_run(daemon, run, destination_url=url).bundle_url == url
        refused = [
            f"{tmp_path}/b",
            f"{tmp_path}/allowed/out/b",
            f"s3://{BUCKET}/allowed2/b",
            f"s3://{BUCKET}2/allowed/b",
        ]
        for url in refused:
            with pytest.raises(RefusedError) as caught:
                copy_run(daemon, run, destination_url=url)
            assert (caught.value.reason, caught.value.field) == ("PERMISSION_DENIED", "destination_url")
            assert "url_prefixes" in caught.value.message
        invalid = [
            f"s3://{BUCKET}",
            f"s3://{BUCKET}/allowed/../x",
            f"s3://{BUCKET}/allowed/x?endpoint_override=localhost:1",
            f"s3://key:secret@{BUCKET}/allowed/x",
            f"http://{BUCKET}/allowed/x",
            f"{daemon.root}/a",
        ]
        for url in invalid:
            with pytest.raises(RefusedError) as caught:
                copy_run(daemon, run, destination_url=url)
            assert (caught.value.reason, caught.value.field) == ("INVALID_URL", "destination_url")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["allowed", "root", "root.log"]


def test_a_bundle_is_not_put_into_another_root(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    for other in running(tmp_path / "other"):
        with pytest.raises(RefusedError, match="lies in the root") as caught:
            copy_run(daemon, full.name, destination_url=f"{other.root}/p/runs/r")
        assert caught.value.reason == "INVALID_URL"


def read_all(url: Path) -> None:
    """Reads all tables of a bundle."""
    for table in Run.from_url(url).metrics_tables:
        table.to_arrow()


@pytest.mark.parametrize("name", ["metrics/t/000000.arrow", "metrics/s/000000.arrow", "run.json", "bundle.json"])
def test_damage_is_told_by_name(daemon: RawDaemon, full: FullRun, tmp_path: Path, name: str) -> None:
    copy_run(daemon, full.name, destination_url=str(tmp_path / "b"))
    path = tmp_path / "b" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    # What is sealed is linked: it is the run's own.
    path.unlink()
    for data in (bytes(content) if name != "bundle.json" else b"{", bytes(content[:-1]), None):
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        if data is None and name == "bundle.json":
            with pytest.raises((rund.InvalidUrlError, rund.RunNotFoundError)):
                Run.from_url(tmp_path / "b")
            continue
        with pytest.raises(rund.CorruptDataError, match=name):
            read_all(tmp_path / "b")


def test_there_is_no_bundle_where_there_is_none(uses_s3: S3Server, tmp_path: Path) -> None:
    for url in (f"s3://{BUCKET}/nothing", tmp_path / "nothing"):
        with pytest.raises((FileNotFoundError, ValueError)):
            Run.from_url(url)
    with pytest.raises(rund.InvalidUrlError):
        Run.from_url("ftp://there/is")


def test_a_live_run_is_copied_as_it_was_at_one_moment(daemon: RawDaemon, place: str) -> None:
    run = create_run(daemon).name
    table = create_table(daemon, run, "t").name
    done = threading.Event()

    def keep_writing() -> None:
        for number in range(10_000):
            write_batches(daemon, table, pa.record_batch({"x": pa.array([number], pa.int64())}))
            if done.is_set():
                return

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        counts = []
        for _ in range(6):
            copy_run(daemon, run, destination_url=place, if_exists=run_pb2.IF_EXISTS_OVERWRITE)
            (copied,) = Run.from_url(place).metrics_tables
            rows = copied.to_arrow()
            assert rows.num_rows == copied.row_count
            assert not rows.num_rows or rows["x"].to_pylist() == list(range(rows.num_rows))
            counts.append(rows.num_rows)
    finally:
        done.set()
        thread.join()
    assert counts == sorted(counts)
    assert counts[-1] > counts[0]


def heavy(daemon: RawDaemon) -> str:
    """A run that takes a while to copy."""
    run = create_run(daemon).name
    folder = Path(get_run(daemon, run, make_bulk_data_folder=True).bulk_data_url)
    data = np.random.default_rng(1).bytes(32 << 20)
    for number in range(8):
        (folder / f"{number}").write_bytes(data)
    return run


def test_a_cancelled_copy_ends_within_a_second_and_leaves_nothing(daemon: RawDaemon, place: str, s3: S3Server) -> None:
    run = heavy(daemon)
    operation: operation_pb2.Operation = daemon.rpc.CopyRun(
        rs.CopyRunRequest(name=run, destination_url=place, request_id=new_id())
    ).operation
    while operation.metadata.progress < 0.1 and not operation.done:
        operation = daemon.rpc.GetOperation(ops.GetOperationRequest(name=operation.name)).operation
        time.sleep(0.005)
    daemon.rpc.CancelOperation(ops.CancelOperationRequest(name=operation.name))
    ended = wait(daemon, operation.name)
    assert "CANCELLED" in str(ended.error)
    assert everything(place, s3) == []


def test_a_full_destination_is_refused_and_left_as_it_was(daemon: RawDaemon, full: FullRun, tmp_path: Path) -> None:
    run = heavy(daemon)
    with tiny_disk(tmp_path / "disk", 80) as disk:
        for if_exists in (run_pb2.IF_EXISTS_RAISE, run_pb2.IF_EXISTS_OVERWRITE):
            operation = copy_run(daemon, run, destination_url=str(disk / "b"), if_exists=if_exists)
            assert "NO_SPACE" in str(operation.error)
        assert list(disk.iterdir()) == []
        assert copy_run(daemon, full.name, destination_url=str(disk / "b")).bundle_url
        assert Run.from_url(disk / "b").metrics_tables[1].row_count == 3000


@pytest.mark.long
def test_a_store_that_does_not_answer_fails_the_copy(tmp_path: Path) -> None:
    environment = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_EC2_METADATA_DISABLED": "true"}
    for lonely in running(tmp_path / "root", RUND_S3_ENDPOINT="http://127.0.0.1:9", **environment):
        operation = copy_run(lonely, create_run(lonely).name, destination_url="s3://bucket/x")
        assert "STORAGE_FAILED" in str(operation.error)
        assert "s3://bucket/x could not be read or written" in operation.error.message


def test_the_client_copies_and_opens(daemon: RawDaemon, full: FullRun, place: str) -> None:
    run = Run.from_url(get_run(daemon, full.name).url)
    bundle = run.to_bundle(place)
    assert (bundle.url, bundle.uid) == (place, run.uid)
    assert bundle.metrics_tables[1].to_arrow().equals(run.metrics_tables[1].to_arrow())
    with pytest.raises(rund.RunExistsError):
        run.to_bundle(place)
    assert run.copy(destination_url=place, if_exists="overwrite").url == place
