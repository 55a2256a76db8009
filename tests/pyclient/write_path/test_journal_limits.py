"""At its bound and on a full disk the journal waits, then does what it was told to, and goes on when there is room."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from rund._errors import InvalidFieldError, JournalFullError
from rund._journal_limits import JournalLimits, limits_from_environment

from .conftest import Folder

SMALL = {"total_bytes": 64 * 1024, "block_seconds": 0.2}


def fill(journal: object) -> int:
    for rows in itertools.count():
        try:
            journal.append({"a": float(rows), "b": 2.0})
        except JournalFullError:
            return rows
    raise AssertionError


def test_log_waits_then_raises_then_raises_at_once(folder: Folder) -> None:
    journal = folder.new(**SMALL | {"block_seconds": 1.0})
    begin = time.monotonic()
    rows = fill(journal)
    waited = time.monotonic() - begin
    assert 1.0 <= waited < 20
    assert folder.wakes
    begin = time.monotonic()
    with pytest.raises(OSError, match="no room"):
        journal.append({"a": 1.0})
    assert time.monotonic() - begin < 0.9
    assert [values["a"] for _, values in folder.rows()] == [float(n) for n in range(rows)]
    assert sum(path.stat().st_size for path in folder.path.glob("*.*.journal")) <= SMALL["total_bytes"]


def test_rows_are_dropped_and_counted_where_that_is_wanted(folder: Folder) -> None:
    journal = folder.new(**SMALL, when_full="drop")
    for n in range(5000):
        journal.append({"a": float(n)})
    kept = folder.rows()
    assert len(kept) + journal.dropped_rows == 5000
    assert [values["a"] for _, values in kept] == [float(n) for n in range(len(kept))]
    (left,) = folder.left()
    assert left.dropped_rows == journal.dropped_rows > 0


def test_log_goes_on_when_files_are_freed(folder: Folder) -> None:
    journal = folder.new(**SMALL)
    rows = fill(journal)
    second = journal.files[1]
    journal.free(second.position(second.tail))
    journal.append({"a": float(rows), "b": 2.0})
    (left,) = folder.left()
    assert left.problems == []
    assert len(left.files) == 3


def test_a_waiting_log_takes_the_room_that_appears(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 * 1024, block_seconds=20.0)

    def free_soon() -> None:
        while not folder.wakes[-1:] or len(journal.files) < 4:
            time.sleep(0.01)
        time.sleep(0.1)
        second = journal.files[1]
        journal.free(second.position(second.tail))

    thread = threading.Thread(target=free_soon)
    thread.start()
    begin = time.monotonic()
    for n in range(1600):
        journal.append({"a": float(n), "b": 2.0})
    thread.join()
    assert 0.1 <= time.monotonic() - begin < 10.0


def test_the_files_that_the_daemon_removed_are_room_for_a_journal_without_a_sender(folder: Folder) -> None:
    journal = folder.new(**SMALL, sends=False)
    fill(journal)
    min(folder.path.glob("*.*.journal")).unlink()
    journal.append({"a": 1.0})


def test_limits_come_from_the_environment() -> None:
    assert limits_from_environment({}) == JournalLimits()
    given = {"RUND_JOURNAL_BYTES": "2097152", "RUND_JOURNAL_BLOCK_SECONDS": "0.5", "RUND_JOURNAL_WHEN_FULL": "drop"}
    assert limits_from_environment(given) == JournalLimits(2097152, block_seconds=0.5, when_full="drop")
    for name, value in (
        ("RUND_JOURNAL_BYTES", "many"),
        ("RUND_JOURNAL_BYTES", "1000"),
        ("RUND_JOURNAL_BYTES", "nan"),
        ("RUND_JOURNAL_BLOCK_SECONDS", "-1"),
        ("RUND_JOURNAL_WHEN_FULL", "explode"),
    ):
        with pytest.raises(InvalidFieldError, match=name):
            limits_from_environment({name: value})


FULL_DISK = """
    import sys
    from pathlib import Path
    from rund._journal import Journal, JournalOwner
    from rund._errors import JournalFullError
    from rund._journal_limits import JournalLimits
    folder = Path(sys.argv[1])
    owner = JournalOwner("w", "s", "projects/p/runs/r", "/root", 0, True)
    journal = Journal(folder, owner, JournalLimits(block_seconds=0.1), lambda: None)
    rows = 0
    try:
        while True:
            journal.append({"a": float(rows)})
            rows += 1
    except JournalFullError:
        pass
    filler = folder / "filler"
    filler.unlink()
    for _ in range(200_000):
        journal.append({"a": float(rows)})
        rows += 1
    print(rows)
"""


@pytest.mark.chaos
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system of its own")
def test_a_full_disk_is_an_error_and_no_crash(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", tmp_path], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"can't mount: {mounted.stderr.decode()}")
    try:
        (tmp_path / "filler").write_bytes(bytes(20 << 20))
        command = [sys.executable, "-c", textwrap.dedent(FULL_DISK), tmp_path]
        done = subprocess.run(command, check=True, capture_output=True, timeout=60)
        rows = Folder(tmp_path).rows()
        assert len(rows) == int(done.stdout)
        assert [values["a"] for _, values in rows] == [float(n) for n in range(len(rows))]
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
