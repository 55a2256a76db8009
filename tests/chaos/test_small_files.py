"""The small files of a root, torn and flipped: the daemon starts, or says which file is wrong and exits with a code."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.raw_daemon import RawDaemon, running

from .test_damage import fill, rows

pytestmark = pytest.mark.chaos

TOKENS = '{"tokens": [{"id": "a", "digest": "00", "scope": "read", "project": ""}]}'
SETTINGS = 'min_free_bytes = "1 MiB"\ngrace_seconds = 5\n'
FILES = (
    "daemon.json",
    "daemon.lock",
    "daemon.error",
    "catalog/lock.mdb",
    "catalog/reserve",
    "catalog/in-use",
    "tokens.json",
    "demo/runs/run/run.json",
    "demo/runs/run/commits/t.jsonl",
    "journals/x.journal",
    "rund.toml",
)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    yield from running(tmp_path / "root")


def torn(data: bytes, chance: random.Random) -> bytes:
    """A file that was cut, or has a flipped bit, zeros or noise somewhere."""
    if not data:
        return chance.randbytes(40)
    at = chance.randrange(len(data))
    kind = chance.randrange(4)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + bytes(len(data) - at)
    return data[:at] + chance.randbytes(16) + data[at + 16 :]


def start(daemon: RawDaemon) -> int:
    """Starts it and gives 0, or the code it ended with."""
    daemon.spawn()
    while not daemon._is_ready():
        if (code := daemon.process.poll()) is not None:
            return code
    return 0


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(1200)])])
def test_a_torn_small_file_hurts_nobody(daemon: RawDaemon, rounds: int) -> None:
    table, _ = fill(daemon, "run")
    daemon.kill()
    (daemon.root / "tokens.json").write_text(TOKENS)
    (daemon.root / "rund.toml").write_text(SETTINGS)
    (daemon.root / "journals").mkdir(exist_ok=True)
    (daemon.root / "journals" / "x.journal").write_bytes(b"RUNDJRNH" + bytes(32_760))
    for seed in range(rounds):
        chance = random.Random(seed)
        # All at once: none of them has to do with another.
        for name in FILES:
            path = daemon.root / name
            path.write_bytes(torn(path.read_bytes() if path.exists() else b"", chance))
        code = start(daemon)
        if code:
            assert code == 2, daemon.log_path.read_text()[-3000:]
            assert "rund.toml" in daemon.log_path.read_text().splitlines()[-1]
            (daemon.root / "rund.toml").write_text(SETTINGS)
            assert start(daemon) == 0, daemon.log_path.read_text()[-3000:]
        assert rows(daemon, table) == list(range(100))
        daemon.kill()
