"""A damaged catalog: the daemon says so and what to do, or serves; it never dies without a word."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from rund_pb.v1 import run_pb2

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    create_run,
    create_table,
    opening,
    read,
    running,
    write,
)

from .test_rebuild import fsck, numbers, snapshots_written

pytestmark = pytest.mark.chaos

PAGE = 4096
ROOT_UNUSABLE = 4
RUNS = 30


def fill(daemon: RawDaemon) -> list[str]:
    """Runs with a table each; gives the tables."""
    tables = []
    for number in range(RUNS):
        run = create_run(daemon, f"run {number}", run=run_pb2.Run(description="d" * 900))
        tables.append(create_table(daemon, run.name, "t").name)
        write(daemon, opening(tables[-1]), arrow_stream(1, numbers(number, number + 10)), closing())
    snapshots_written(daemon)
    return tables


def start(daemon: RawDaemon) -> bool:
    """Starts the daemon and says whether it serves. If not, it has said what to do."""
    daemon.spawn()
    while not daemon._is_ready():
        code = daemon.process.poll()
        if code is not None:
            said = (daemon.root / "daemon.error").read_text()
            assert code == ROOT_UNUSABLE, (code, daemon.log_path.read_text()[-3000:])
            assert "fsck --rebuild" in said, said
            assert "data.mdb" in said or "a record in" in said, said
            return False
        time.sleep(0.01)
    return True


def rebuilt(daemon: RawDaemon, tables: list[str]) -> None:
    """After a rebuild everything is there."""
    assert fsck(daemon, "--rebuild")["rebuilt"]["loses"] is False
    daemon.start()
    for number, table in enumerate(tables):
        assert read(daemon, table).column("x").to_pylist() == list(range(number, number + 10))


def damages(data: bytes, seed: int, count: int) -> list[tuple[str, Callable[[bytearray], object]]]:
    """So many ways to hurt a file of whole pages, or a few more."""
    chance = random.Random(seed)
    pages = len(data) // PAGE
    found: list[tuple[str, Callable[[bytearray], object]]] = []
    for _ in range(1 + max(count, pages) // 5):
        cut, page = chance.randrange(1, len(data)), chance.randrange(pages)
        found.append((f"cut at {cut}", lambda file, cut=cut: file.__delitem__(slice(cut, None))))
        found.append((f"page {page} zeroed", lambda file, page=page: zero(file, page)))
        found.append((f"page {page} of noise", lambda file, page=page: noise(file, page)))
        at = chance.randrange(len(data))
        found.append((f"bit flipped at {at}", lambda file, at=at: flip(file, at)))
        header = page * PAGE + chance.randrange(40)
        found.append((f"bit flipped at {header}", lambda file, at=header: flip(file, at)))
    begins = (8, 16, 24, 40, 64, 136, 144, PAGE + 16, PAGE + 64, PAGE + 144)
    found.extend((f"bit flipped at {at}", lambda file, at=at: flip(file, at)) for at in begins)
    chance.shuffle(found)
    return found


def zero(file: bytearray, page: int) -> None:
    file[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)


def noise(file: bytearray, page: int) -> None:
    file[page * PAGE : (page + 1) * PAGE] = random.Random(page).randbytes(PAGE)


def flip(file: bytearray, at: int) -> None:
    file[at] ^= 0x10


def hurt_at(daemon: RawDaemon, tables: list[str], count: int) -> tuple[int, int]:
    """Starts on damaged copies of a catalog; gives how often it served and how often it refused."""
    path = daemon.root / "catalog" / "data.mdb"
    whole = path.read_bytes()
    served = refused = 0
    for name, damage in damages(whole, 1, count)[:count]:
        file = bytearray(whole)
        damage(file)
        path.write_bytes(file)
        if start(daemon):
            served += 1
            for table in tables:
                # DATA_LOSS and the like are fine, and so are old rows: LMDB has no checksums of its own.
                with suppress(RefusedError):
                    read(daemon, table)
            assert daemon.process.poll() is None, (name, daemon.log_path.read_text()[-3000:])
            daemon.kill()
        else:
            refused += 1
    path.write_bytes(whole)
    return served, refused


@pytest.mark.parametrize("count", [5, pytest.param(120, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
def test_a_damaged_catalog_is_refused_or_served_and_made_again(tmp_path: Path, count: int) -> None:
    for daemon in running(tmp_path / "root"):
        tables = fill(daemon)
        daemon.kill()
        served, refused = hurt_at(daemon, tables, count)
        assert served + refused == count
        if count > 100:  # of a few places, drawn anew with each catalog, all may be harmless, or none
            assert served
            assert refused
        (daemon.root / "catalog" / "data.mdb").write_bytes(bytes(3 * PAGE))
        assert not start(daemon)
        rebuilt(daemon, tables)


def test_a_root_whose_catalog_is_gone_does_not_become_an_empty_one(tmp_path: Path) -> None:
    for daemon in running(tmp_path / "root"):
        tables = fill(daemon)[:3]
        assert daemon.stop() == 0
        (daemon.root / "catalog" / "data.mdb").unlink()
        assert not start(daemon)
        assert not (daemon.root / "catalog" / "data.mdb").exists()
        assert fsck(daemon, "--rebuild")["runs"] == RUNS
        daemon.start()
        assert read(daemon, tables[2]).num_rows == 10
