"""Training does not notice a slow disk, nor a daemon that is exchanged for another version in the middle."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import rund
from rund_pb.v1 import server_service_pb2

from tests.process.raw_daemon import RawDaemon, running

pytestmark = pytest.mark.chaos

LOGGED = 300


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def numbers(run: rund.Run) -> list[int]:
    table = run.metrics_tables[0].to_arrow()
    return [row["n"] for row in table.to_pylist()]


@pytest.mark.parametrize("disk", ["sleep:300", "hang"])
def test_rows_return_while_the_disk_is_slow(daemon: RawDaemon, disk: str) -> None:
    """A disk that never answers shows that `log` does not wait for it: every call returns, and the rows come later."""
    daemon.stop()
    daemon.environment = {"RUND_FAILPOINTS": f"segment.sync={disk}"}
    daemon.start()
    with rund.init("p", "slow", root_url=daemon.root) as run:
        for n in range(LOGGED):
            run.log({"n": n}, n)
        if disk == "hang":
            daemon.kill()
            daemon.environment = {}
            daemon.start()
        run.flush(60)
        assert numbers(run) == list(range(LOGGED))


def version(daemon: RawDaemon) -> str:
    return str(daemon.rpc.GetServerInfo(server_service_pb2.GetServerInfoRequest()).server_info.version)


def test_a_daemon_is_upgraded_under_a_training(daemon: RawDaemon, tmp_path: Path) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    # Loaded at every start of Python: what the package says of itself before anything asks.
    (newer / "sitecustomize.py").write_text(
        textwrap.dedent("""
            import importlib.metadata
            known = importlib.metadata.version
            importlib.metadata.version = lambda name: "99.0" if name == "rund" else known(name)
        """)
    )
    before = version(daemon)
    with rund.init("p", "upgraded", root_url=daemon.root) as run:
        for round_, environment in enumerate(({}, {"PYTHONPATH": str(newer)}, {})):
            if round_:
                assert daemon.stop() == 0
                for n in range(round_ * LOGGED, round_ * LOGGED + LOGGED // 2):
                    run.log({"n": n}, n)
                daemon.environment = environment
                daemon.start()
                assert version(daemon) == ("99.0" if environment else before)
            for n in range(round_ * LOGGED + (LOGGED // 2 if round_ else 0), (round_ + 1) * LOGGED):
                run.log({"n": n}, n)
            run.flush(60)
    assert run.status == rund.RunStatus.COMPLETED
    assert numbers(run) == list(range(3 * LOGGED))
