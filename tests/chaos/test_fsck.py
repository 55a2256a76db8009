"""`rund fsck` finds every kind of damage; `--repair` keeps what can be read, and leaves nothing to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    opening,
    read,
    read_input_table,
    running,
    write,
    write_table,
)

from .test_damage import cut, fill, flip, numbers, rows
from .test_rebuild import fsck

pytestmark = pytest.mark.chaos


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def shrink(path: Path) -> None:
    """Nothing but half a head is left."""
    path.write_bytes(path.read_bytes()[:40])


@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
@pytest.mark.parametrize(
    ("damage", "kinds", "left"),
    [
        (cut, {"short", "damaged"}, 90),
        (flip, {"damaged"}, 90),
        pytest.param(shrink, {"short", "damaged"}, 0, marks=pytest.mark.long),
        (Path.unlink, {"missing", "damaged"}, 0),
    ],
    ids=["cut", "flipped", "shrunk", "gone"],
)
def test_what_can_be_read_is_kept(
    daemon: RawDaemon, damage: Callable[[Path], object], kinds: set[str], left: int, sealed: bool
) -> None:
    table, path = fill(daemon, "damaged", seal=sealed)
    sound, _ = fill(daemon, "sound")
    assert daemon.stop() == 0 if sealed else daemon.kill() is None
    if sealed:
        (path,) = path.parent.iterdir()
        left = 0  # its rows are one batch, or behind what is hurt
        damage = damage if damage is not flip else in_the_middle
        damage = damage if damage is not cut else halve
    damage(path)
    found = fsck(daemon, code=1)
    assert {finding["kind"] for finding in found["findings"]} == kinds, found
    repaired = fsck(daemon, "--repair")
    assert repaired["mended"] == len(repaired["findings"])
    assert repaired["left"] == []
    assert fsck(daemon)["findings"] == []
    daemon.start()
    assert rows(daemon, sound) == list(range(100))
    assert read(daemon, table).num_rows == left
    # Rows that come after keep on counting where the table was.
    if not sealed:
        answers = write(daemon, opening(table), arrow_stream(11, numbers(100, 105)), closing())
        assert answers[-1].closed.metrics_table.row_count == 105
        assert read(daemon, table, start_row=100).column("x").to_pylist() == list(range(100, 105))
    assert daemon.stop() == 0
    assert fsck(daemon)["findings"] == []


def in_the_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_strays_go_to_trash_whatever_they_are_called(daemon: RawDaemon) -> None:
    _, path = fill(daemon, "run")
    daemon.kill()
    strays = [path.with_name("000009.arrow"), path.with_name(".000001.arrow.new"), path.with_name("notes.txt")]
    for stray in strays:
        stray.write_bytes(b"x")
    (daemon.root / "demo" / "runs" / "nobody" / "metrics").mkdir(parents=True)
    (daemon.root / "demo" / "datasets" / "d" / "tables" / "nobody").mkdir(parents=True)
    found = fsck(daemon)
    assert [finding["kind"] for finding in found["findings"]] == ["stray"] * 5
    assert fsck(daemon, "--repair")["left"] == []
    assert not any(stray.exists() for stray in strays)
    for stray in strays:  # and once more: names in trash are not taken
        stray.write_bytes(b"x")
    assert fsck(daemon, "--repair")["mended"] == 3
    assert len(list((daemon.root / "trash").glob("fsck-*"))) == 8


@pytest.mark.parametrize(("damage", "kind"), [(cut, "short"), (in_the_middle, "damaged"), (Path.unlink, "missing")])
def test_input_tables_are_read_too(daemon: RawDaemon, damage: Callable[[Path], object], kind: str) -> None:
    table = write_table(daemon, pa.record_batch({"x": pa.array(range(1000), pa.int64())}), table_id="t")
    assert daemon.stop() == 0
    assert fsck(daemon)["input_tables"] == 1
    damage(Path(table.url) / "data.arrow")
    (finding,) = fsck(daemon, code=1)["findings"]
    assert (finding["kind"], finding["loses"]) == (kind, True)
    daemon.start()
    with pytest.raises(RefusedError) as refused:
        read_input_table(daemon, table.name)
    assert (refused.value.code, refused.value.reason) == ("DATA_LOSS", "CORRUPT")
