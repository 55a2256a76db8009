"""A catalog made again in this process: what a log, a run.json or a segment alone still proves, and how it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pyarrow as pa
import pytest
from rund_daemon.identity import new_uid, now
from rund_daemon.model import Uid
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.processes import boot_id
from rund_daemon.rebuilding import Rebuilt, rebuild
from rund_daemon.segments.layout import Layout

from .rooms import Rooms

MAP_BYTES = 1 << 28
TABLE = MetricsTableName("p", "run", "t")


def numbers(begin: int, end: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(begin, end), pa.int64())})


def other(number: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array([number], pa.int64()), "y": pa.array([0.5])})


def opened(root: Path, work: Callable[[Rooms], Awaitable[None]]) -> None:
    async def main() -> None:
        rooms = Rooms(root)
        rooms.open(asyncio.get_running_loop())
        await work(rooms)
        await asyncio.to_thread(rooms.close)

    asyncio.run(main())


def filled(root: Path, *, seal: bool = False) -> Uid:
    """Two streams with other columns take turns; gives the table."""
    uids: list[Uid] = []

    async def work(rooms: Rooms) -> None:
        table = await rooms.new_table(await rooms.new_run())
        uids.append(table.uid)
        for turn in range(1, 4):
            await rooms.write(table, numbers(10 * turn, 10 * turn + 10), stream_id="a", first=turn)
            await rooms.write(table, other(-turn), stream_id="b", first=turn)
        if seal:
            await rooms.seal(table)
        await rooms.snapshots.write_pending()

    opened(root, work)
    return uids[0]


EXPECTED = [x for turn in range(1, 4) for x in [*range(10 * turn, 10 * turn + 10), -turn]]


def made_again(root: Path, boot: str = "") -> Rebuilt:
    return rebuild(Layout(root), MAP_BYTES, boot or boot_id(), now(), new_uid)


def notes(rebuilt: Rebuilt) -> list[str]:
    return [note.message for run in rebuilt.runs for note in run.notes] + [note.message for note in rebuilt.notes]


def rows_of(root: Path) -> list[int]:
    found: list[int] = []

    async def work(rooms: Rooms) -> None:
        table = rooms.runs.get_table(TABLE)
        found.extend((await rooms.read(table.table.uid)).column("x").to_pylist())
        assert table.mark.rows == len(found)

    opened(root, work)
    return found


def commits(root: Path) -> Path:
    return root / "p" / "runs" / "run" / "commits" / "t.jsonl"


def segments(root: Path) -> list[Path]:
    return sorted((root / "p" / "runs" / "run" / "metrics" / "t").iterdir())


@pytest.mark.parametrize("seal", [False, True])
def test_uids_order_and_streams_are_as_before(tmp_path: Path, seal: bool) -> None:
    uid = filled(tmp_path, seal=seal)
    assert notes(made_again(tmp_path)) == []
    assert rows_of(tmp_path) == EXPECTED

    async def work(rooms: Rooms) -> None:
        table = rooms.runs.get_table(TABLE).table
        assert table.uid == uid
        # What was acknowledged is known; what follows is taken.
        assert await rooms.write(table, numbers(30, 40), numbers(40, 50), stream_id="a", first=3) == 4
        assert await rooms.write(table, other(-3), other(-4), stream_id="b", first=3) == 4

    opened(tmp_path, work)
    assert rows_of(tmp_path) == [*EXPECTED, *range(40, 50), -4]


def test_bytes_that_no_commit_knew_are_sent_again_and_not_kept(tmp_path: Path) -> None:
    filled(tmp_path)
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes() + numbers(40, 50).serialize().to_pybytes())
    assert notes(made_again(tmp_path)) == []
    assert rows_of(tmp_path) == EXPECTED


def test_after_a_loss_of_power_whole_batches_beyond_the_log_are_kept_and_told(tmp_path: Path) -> None:
    filled(tmp_path)
    log = commits(tmp_path)
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))  # the line of the last batch, of b
    (note,) = notes(made_again(tmp_path, boot="another"))
    assert "1 rows are kept" in note
    assert rows_of(tmp_path) == EXPECTED


def test_the_sequence_of_a_stream_never_goes_back_behind_run_json(tmp_path: Path) -> None:
    filled(tmp_path)
    commits(tmp_path).unlink()
    made_again(tmp_path)

    async def work(rooms: Rooms) -> None:
        table = rooms.runs.get_table(TABLE).table
        assert await rooms.write(table, other(-4), stream_id="b", first=4) == 4

    opened(tmp_path, work)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\0" * 100)], ids=["gone", "zeroed"])
def test_without_a_log_every_whole_batch_is_kept(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    filled(tmp_path)
    damage(commits(tmp_path))
    path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-9])
    (note,) = notes(made_again(tmp_path))
    assert "can't be read" in note
    assert sorted(rows_of(tmp_path)) == sorted(set(EXPECTED) - set(range(30, 40)))


@pytest.mark.parametrize("seed", range(12))
def test_a_log_that_is_hurt_anywhere_loses_no_row(tmp_path: Path, seed: int) -> None:
    filled(tmp_path)
    log = commits(tmp_path)
    data = bytearray(log.read_bytes())
    at = len(data) * seed // 12
    data[at] ^= 0x55
    log.write_bytes(data if seed % 2 else data[:at])
    made_again(tmp_path, boot="" if seed % 2 else "another")
    assert sorted(rows_of(tmp_path)) == sorted(EXPECTED)


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"\xff\xfe", b'{"run": {}}'], ids=repr)
def test_a_run_whose_run_json_is_gone_keeps_its_uid_and_rows(tmp_path: Path, content: bytes | None) -> None:
    uid = filled(tmp_path)
    path = tmp_path / "p" / "runs" / "run" / "run.json"
    said = json.loads(path.read_text())
    path.unlink() if content is None else path.write_bytes(content)
    rebuilt = made_again(tmp_path)
    assert rebuilt.loses
    assert any("run.json" in note for note in notes(rebuilt))
    assert rows_of(tmp_path) == EXPECTED

    async def work(rooms: Rooms) -> None:
        run = rooms.runs.get(RunName("p", "run")).run
        assert run.uid.hex() == said["run"]["uid"].replace("-", "")
        assert run.status == "FAILED"
        assert rooms.runs.get_table(TABLE).table.uid == uid

    opened(tmp_path, work)


def test_a_seal_that_was_not_carried_out_doubles_nothing(tmp_path: Path) -> None:
    filled(tmp_path)
    opens = {path: path.read_bytes() for path in segments(tmp_path)}
    log = commits(tmp_path).read_bytes()

    async def work(rooms: Rooms) -> None:
        await rooms.seal(rooms.runs.get_table(TABLE).table)

    opened(tmp_path, work)
    sealed = {path: path.read_bytes() for path in segments(tmp_path)}
    sealed_log = commits(tmp_path).read_bytes()
    for files, account in (
        ({**opens, **sealed}, log),  # killed before the exchange
        ({**opens, **sealed}, sealed_log),  # killed before the old files were removed
        (sealed, log),  # the line of the exchange is lost
        ({**opens, **sealed}, b""),  # the log is lost
        (sealed, b""),
    ):
        for path in segments(tmp_path):
            path.unlink()
        for path, data in files.items():
            path.write_bytes(data)
        commits(tmp_path).write_bytes(account)
        made_again(tmp_path)
        assert sorted(rows_of(tmp_path)) == sorted(EXPECTED)


def test_a_rebuild_that_fails_leaves_the_old_catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    before = (tmp_path / "catalog" / "data.mdb").read_bytes()

    def fails(*_: object) -> None:
        raise OSError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(OSError, match="no more"):
            made_again(tmp_path)
    assert (tmp_path / "catalog" / "data.mdb").read_bytes() == before
    assert not (tmp_path / "catalog.new").exists()
    assert rows_of(tmp_path) == EXPECTED
