"""SIGKILL takes nothing that `log` returned from."""

from __future__ import annotations

import mmap
import random
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from .conftest import Folder, rows_of

# The counter is shared memory: what it says at the moment of death is what had returned by then.
WRITER = """
    import mmap, struct, sys, threading
    from pathlib import Path
    from rund._sender import HistoryLog
    root, kind, threads = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    file = open(root / "counters", "r+b")
    counters = mmap.mmap(file.fileno(), 4096)
    log = HistoryLog(None, root, "projects/p/runs/r", "11111111-0000-7000-8000-000000000001", 0)
    def values(thread, n):
        if kind == "floats" or n % 2:
            return {"thread": thread, "n": n, "half": n / 2}
        return {"thread": thread, "n": n, "text": "x" * (n % 3000)}
    def work(thread):
        n = 0
        while True:
            log.log(values(thread, n))
            n += 1
            struct.pack_into("<q", counters, 8 * thread, n)
    for thread in range(1, threads):
        threading.Thread(target=work, args=(thread,), daemon=True).start()
    work(0)
"""


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("kind", "threads"), [pytest.param("floats", 1, marks=pytest.mark.long), ("mixed", 1), ("mixed", 3)]
)
def test_every_row_that_was_logged_survives_sigkill(tmp_path: Path, kind: str, threads: int) -> None:
    chance = random.Random(f"{kind}{threads}")
    for attempt in range(4):
        root = tmp_path / str(attempt)
        root.mkdir()
        (root / "counters").write_bytes(bytes(4096))
        command = [sys.executable, "-c", textwrap.dedent(WRITER), root, kind, str(threads)]
        with subprocess.Popen(command) as process, (root / "counters").open("r+b") as file:
            counters = mmap.mmap(file.fileno(), 4096)
            while not counters[:8].strip(b"\0"):
                assert process.poll() is None
                time.sleep(0.001)
            time.sleep(chance.uniform(0.0, 0.4))
            process.kill()
        returned = struct.unpack_from(f"<{threads}q", counters)
        (left,) = Folder(root / "journals").left()
        assert left.problems == []
        rows = [values for _, values in rows_of(left.files)]
        for thread, count in enumerate(returned):
            kept = [values["n"] for values in rows if values["thread"] == thread]
            assert kept == list(range(len(kept)))
            assert count <= len(kept) <= count + 1
