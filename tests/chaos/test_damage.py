"""Torn, cut and flipped files: what a crash left is cut off, what nobody can explain is told to who reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    copy_run,
    create_run,
    create_table,
    get_run,
    opening,
    read,
    running,
    write,
)

pytestmark = pytest.mark.chaos

TAILS = {
    "garbage": b"\xde\xad\xbe\xef" * 100,
    "zeros": bytes(5_000),
    "half a batch": pa.record_batch({"x": [1, 2, 3]}).serialize().to_pybytes()[:-9],
    "a whole batch": pa.record_batch({"x": [9, 9, 9]}).serialize().to_pybytes(),
    "an end mark": b"\xff\xff\xff\xff\0\0\0\0",
}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


def fill(daemon: RawDaemon, name: str, *, seal: bool = False) -> tuple[str, Path]:
    """A run with ten batches of ten rows; gives its table and the file they are in."""
    run = create_run(daemon, name)
    table = create_table(daemon, run.name, "t").name
    batches = (arrow_stream(sequence, numbers(sequence * 10 - 10, sequence * 10)) for sequence in range(1, 11))
    write(daemon, opening(table), *batches, closing(seal=seal))
    return table, Path(run.url) / "metrics" / "t" / "000000.arrows"


def rows(daemon: RawDaemon, table: str) -> list[int]:
    found: list[int] = read(daemon, table).column("x").to_pylist()
    return found


def test_a_torn_tail_is_cut_off_by_the_next_start_and_by_no_later_one(daemon: RawDaemon) -> None:
    files = {tail: fill(daemon, tail) for tail in TAILS}
    daemon.kill()
    whole = {tail: path.read_bytes() for tail, (_, path) in files.items()}
    for tail, (_, path) in files.items():
        path.write_bytes(whole[tail] + TAILS[tail])
    daemon.start()
    assert [path.read_bytes() for _, path in files.values()] == list(whole.values())
    recovered = daemon.log("recovered")[-1]
    assert (recovered["segments"], recovered["cut"], recovered["damaged"]) == (5, 5, 0)
    assert recovered["cut_bytes"] == sum(map(len, TAILS.values()))
    for table, _ in files.values():
        assert rows(daemon, table) == list(range(100))
        write(daemon, opening(table), arrow_stream(11, numbers(100, 105)), closing())
        assert rows(daemon, table) == list(range(105))
    daemon.restart()
    assert daemon.log("recovered")[-1]["cut"] == 0
    for table, _ in files.values():
        assert rows(daemon, table) == list(range(105))


def test_a_file_that_no_commit_knows_is_written_over(daemon: RawDaemon) -> None:
    run = create_run(daemon, "fresh")
    table = create_table(daemon, run.name, "t").name
    daemon.kill()
    path = Path(run.url) / "metrics" / "t" / "000000.arrows"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"the daemon died before its first commit" * 1000)
    daemon.start()
    write(daemon, opening(table), arrow_stream(1, numbers(0, 3)), closing())
    assert rows(daemon, table) == [0, 1, 2]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-30] ^= 1
    path.write_bytes(data)


def zero(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) - 100] + bytes(100))


@pytest.mark.parametrize("damage", [cut, flip, zero, Path.unlink], ids=["cut", "flipped", "zeroed", "gone"])
def test_damage_is_told_to_its_readers_and_hurts_nobody_else(
    daemon: RawDaemon, damage: Callable[[Path], object]
) -> None:
    table, path = fill(daemon, "damaged")
    sound, _ = fill(daemon, "sound")
    daemon.kill()
    damage(path)
    daemon.start()
    assert daemon.log("recovered")[-1]["damaged"] == (damage in (cut, Path.unlink))
    with pytest.raises(RefusedError) as refused:
        rows(daemon, table)
    assert (refused.value.code, refused.value.reason) == ("DATA_LOSS", "CORRUPT")
    if damage is not Path.unlink:
        assert read(daemon, table, row_limit=90).num_rows == 90, "what is whole can be read"
    assert rows(daemon, sound) == list(range(100))
    run = table.rpartition("/metrics/")[0]
    assert get_run(daemon, run).metrics[0].row_count == 100
    if damage is cut:
        assert "CORRUPT" in str(copy_run(daemon, run).error)
    # The run goes on: new rows are kept beside the damage.
    answers = write(daemon, opening(table), arrow_stream(11, numbers(100, 110)), closing())
    assert answers[-1].closed.metrics_table.row_count == 110
    assert read(daemon, table, start_row=100).column("x").to_pylist() == list(range(100, 110))
    assert daemon.stop() == 0
    daemon.start()
    assert read(daemon, table, start_row=100).column("x").to_pylist() == list(range(100, 110))
    assert rows(daemon, sound) == list(range(100))


def test_damage_of_a_sealed_file_is_told_too(daemon: RawDaemon) -> None:
    table, _ = fill(daemon, "sealed", seal=True)
    sound, _ = fill(daemon, "sound", seal=True)
    assert daemon.stop() == 0
    (path,) = (daemon.root / "demo" / "runs" / "sealed" / "metrics" / "t").iterdir()
    assert path.suffix == ".arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    daemon.start()
    with pytest.raises(RefusedError) as refused:
        rows(daemon, table)
    assert refused.value.reason == "CORRUPT"
    assert rows(daemon, sound) == list(range(100))


def test_a_root_in_which_everything_was_thrown_about_still_starts(daemon: RawDaemon) -> None:
    table, path = fill(daemon, "moved by hand")
    sound, _ = fill(daemon, "sound")
    daemon.kill()
    (daemon.root / "demo" / "runs" / "moved by hand").rename(daemon.root / "elsewhere")
    (daemon.root / "demo" / "runs" / "stranger" / "metrics").mkdir(parents=True)
    (daemon.root / "trash").rename(daemon.root / "no trash") if (daemon.root / "trash").exists() else None
    (daemon.root / "daemon.json").write_text("{not json")
    (daemon.root / "demo" / "runs" / "sound" / "run.json").unlink(missing_ok=True)
    daemon.start()
    with pytest.raises(RefusedError) as refused:
        rows(daemon, table)
    assert refused.value.reason == "CORRUPT"
    assert rows(daemon, sound) == list(range(100))
    stranger = create_run(daemon, "stranger")
    assert not stranger.metrics, "what lay there is not the new run's"
    assert list((daemon.root / "trash").glob("stray-*"))
    home = path.parent.parent.parent
    shutil.rmtree(home, ignore_errors=True)  # a new run.json may be there
    (daemon.root / "elsewhere").rename(home)
    assert rows(daemon, table) == list(range(100)), "brought back, it is whole"
