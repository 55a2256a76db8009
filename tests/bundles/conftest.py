"""A run that has everything, a daemon that keeps it, and an S3 server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.bundles.s3_server import S3Server, s3_server
from tests.process.raw_daemon import (
    RawDaemon,
    create_run,
    create_table,
    get_run,
    new_id,
    running,
    values,
    write_batches,
)

ROWS = 3000


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("bundles") / "root", **s3.environment)


@pytest.fixture
def uses_s3(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """This process has the server's credentials, too."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3


@dataclass(frozen=True)
class FullRun:
    """A run's name, and the rows of its table `t` in the order of their commits."""

    name: str
    x: list[int]


def make_run(daemon: RawDaemon) -> FullRun:
    """A run with values, a sealed table, one with open segments of two schemas, an empty one, and side files."""
    run = create_run(
        daemon,
        run=run_pb2.Run(parameters=values({"lr": 0.1, "n": 10, "odd": float("inf"), "$b": b"\x00"}), labels={"a": "b"}),
    ).name
    daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run, value=values({"acc": 0.5}), request_id=new_id()))
    sealed = create_table(daemon, run, "s").name
    write_batches(daemon, sealed, pa.record_batch({"e": pa.array(range(100), pa.int64())}), seal=True)
    table = create_table(daemon, run, "t", constants=values({"split": "train"})).name
    for begin in range(0, ROWS, 1000):
        x = pa.array(range(begin, begin + 1000), pa.int64())
        more = {"y": pa.array(np.arange(1000) / 2)} if begin == 1000 else {}
        write_batches(daemon, table, pa.record_batch({"x": x, **more}), stream_id=f"w{begin}")
    create_table(daemon, run, "empty")
    folder = Path(get_run(daemon, run, make_bulk_data_folder=True).bulk_data_url)
    (folder / "deep").mkdir()
    (folder / "deep" / "file.bin").write_bytes(b"bulk" * 1000)
    (folder / "link").symlink_to("deep")
    return FullRun(run, list(range(ROWS)))


@pytest.fixture
def full(daemon: RawDaemon) -> FullRun:
    return make_run(daemon)
