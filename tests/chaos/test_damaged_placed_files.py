"""Files that were handed over and are hurt afterwards: told, and repaired as far as it goes; and a lost catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    create_run,
    create_table,
    get_table,
    opening,
    read,
    running,
    values,
    write,
    write_batches,
)

from .handing_over import HandOver
from .test_damage import fill, rows
from .test_fsck import halve, in_the_middle
from .test_rebuild import fsck, numbers, remove, snapshots_written

pytestmark = pytest.mark.chaos


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def filled(daemon: RawDaemon) -> str:
    """A table to which files and batches came by turns, from two writers: 8 times 100 rows."""
    table = create_table(daemon, create_run(daemon, "run").name, "t").name
    call = HandOver(daemon, table, numbers(0, 1).schema)
    for turn in range(4):
        call.put_down(turn + 1, numbers(200 * turn, 200 * turn + 100))
        call.name(turn + 1)
        call.wait(turn + 1)
        batch = arrow_stream(turn + 1, numbers(200 * turn + 100, 200 * turn + 200))
        write(daemon, opening(table, "other"), batch, closing())
    call.close()
    assert rows(daemon, table) == list(range(800))
    return table


def placed(daemon: RawDaemon) -> list[Path]:
    return sorted(daemon.root.glob("demo/runs/run/metrics/t/*.arrow"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(halve, id="halved", marks=pytest.mark.long),
        pytest.param(in_the_middle, id="flipped"),
        pytest.param(Path.unlink, id="gone", marks=pytest.mark.long),
    ],
)
def test_what_is_whole_is_kept(daemon: RawDaemon, damage: Callable[[Path], Any]) -> None:
    table, (sound, _) = filled(daemon), fill(daemon, "sound")
    daemon.kill()
    assert len(placed(daemon)) == 4
    damage(placed(daemon)[1])
    daemon.start()
    with pytest.raises(RefusedError) as refused:
        rows(daemon, table)
    assert (refused.value.code, refused.value.reason) == ("DATA_LOSS", "CORRUPT")
    assert read(daemon, table, row_limit=200).num_rows == 200
    assert rows(daemon, sound) == list(range(100))
    daemon.kill()
    assert not fsck(daemon, code=1)["sound"]
    assert fsck(daemon, "--repair")["left"] == []
    assert fsck(daemon)["findings"] == []
    daemon.start()
    kept = [*range(200), *range(300, 800)]
    assert rows(daemon, table) == kept
    # What was handed over before counts as taken, and what follows is.
    call = HandOver(daemon, table, numbers(0, 1).schema)
    assert call.committed == 4
    call.put_down(5, numbers(800, 900))
    call.name(5)
    call.wait(5)
    call.close()
    assert rows(daemon, table) == [*kept, *range(800, 900)]
    assert rows(daemon, sound) == list(range(100))
    assert daemon.stop() == 0
    assert fsck(daemon)["findings"] == []


@pytest.mark.parametrize(
    ("stopped", "log"),
    [
        pytest.param(True, "lost", marks=pytest.mark.long),
        (True, "whole"),
        pytest.param(False, "whole", marks=pytest.mark.long),
        (False, "lost"),
    ],
)
def test_a_lost_catalog(daemon: RawDaemon, stopped: bool, log: str) -> None:
    """Rows of files and of segments that were open lie in their order again, with the log or by the files alone."""
    table = filled(daemon)
    # How far streams are is in run.json as of when it was written: after this change it is written once more.
    daemon.rpc.SetParameters(rs.SetParametersRequest(run="projects/demo/runs/run", parameters=values({"a": 1})))
    snapshots_written(daemon)
    before = get_table(daemon, table)
    assert daemon.stop() == 0 if stopped else daemon.kill() is None
    remove(daemon.root / "catalog")
    if log == "lost":
        (daemon.root / "demo/runs/run/commits/t.jsonl").unlink()
    said = fsck(daemon, "--rebuild")
    assert said["sound"], said
    assert said["rebuilt"]["loses"] is False, said
    daemon.start()
    assert rows(daemon, table) == list(range(800))
    after = get_table(daemon, table)
    assert (after.uid, after.row_count, after.arrow_schema) == (before.uid, before.row_count, before.arrow_schema)
    call = HandOver(daemon, table, pa.schema({"x": pa.int64()}))
    assert call.committed == 4, "run.json or the log says so"
    call.close()
    assert write_batches(daemon, table, numbers(800, 810)) == 1
    assert rows(daemon, table) == list(range(810))
    assert daemon.stop() == 0
    assert fsck(daemon)["findings"] == []
