"""A file of every format, torn in many places: the daemon starts, what is whole is read, others do not notice.

After that `fsck --repair` has to leave a root that is read to its end, and `fsck --rebuild` one that a daemon serves.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    arrow_stream,
    closing,
    get_run,
    opening,
    read,
    read_input_table,
    running,
    write,
)

from .kill_rounds import wait_for
from .torn_root import (
    INPUT,
    LOGGED,
    ROWS,
    RUNS,
    SOUND,
    TornRoot,
    numbers,
    table_name,
    torn,
    whole_rows,
)

pytestmark = pytest.mark.chaos

RUND = Path(sys.executable).with_name("rund")
ANSWERS = ("INVALID_URL", "INVALID_COLUMN")


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[TornRoot]:
    for daemon in running(tmp_path / "root"):
        root = TornRoot(daemon, tmp_path / "outside")
        root.fill()
        yield root


class Copy:
    """The whole root, to begin each round with."""

    def __init__(self, root: TornRoot) -> None:
        self._root = root
        self._folder = root.daemon.root.with_name("whole")
        self._pairs = [(root.daemon.root, self._folder / "root"), (root.outside, self._folder / "outside")]
        for source, target in self._pairs:
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sock"))

    def restore(self) -> None:
        for source, target in self._pairs:
            shutil.rmtree(source)
            shutil.copytree(target, source)


def hurt(root: TornRoot, chance: random.Random) -> dict[str, int]:
    """Hurts every victim, and gives how many rows at the begin of each run's table are whole."""
    whole = {run: 0 if root.metrics(run) else ROWS for run in RUNS}
    ends = dict.fromkeys(whole, False)
    for path in root.victims():
        data = torn(path.read_bytes(), chance)
        run = path.parents[2].name
        if path.suffix in (".arrow", ".arrows") and path.parent.name == "t":
            rows = whole_rows(path, data)
            whole[run] += 0 if ends[run] else rows
            ends[run] = ends[run] or data != path.read_bytes()
        path.write_bytes(data)
    return whole


def found(daemon: RawDaemon, run: str, **fields: Any) -> list[int]:
    rows: list[int] = read(daemon, table_name(run), columns=["x"], **fields).column("x").to_pylist()
    return rows


def tried(call: Callable[[], list[int]]) -> list[int] | RefusedError:
    try:
        return call()
    except RefusedError as refused:
        return refused


def check_sound(daemon: RawDaemon) -> None:
    assert found(daemon, SOUND) == list(range(ROWS))
    assert daemon.process.poll() is None
    assert not daemon.log("request_failed"), daemon.log("request_failed")[-1]


def check_runs(daemon: RawDaemon, whole: dict[str, int]) -> None:
    """What lies before the damage is read, and the rest is refused with the reason, or as it was."""
    for run, rows in whole.items():
        assert found(daemon, run, row_limit=rows) == list(range(rows)), run
        answer = tried(partial(found, daemon, run))
        if isinstance(answer, RefusedError):
            assert (answer.code, answer.reason) == ("DATA_LOSS", "CORRUPT"), run
        else:
            assert answer == list(range(2 * ROWS if run == "open" else ROWS)), run
        if run in ("open", "log", "record"):
            answers = write(daemon, opening(table_name(run), "after"), arrow_stream(1, numbers(0, 5)), closing())
            count = answers[-1].closed.metrics_table.row_count
            assert found(daemon, run, start_row=count - 5) == list(range(5))


def input_rows(daemon: RawDaemon, name: str) -> list[int]:
    rows: list[int] = read_input_table(daemon, name, columns=["x"]).column("x").to_pylist()
    return rows


def check_inputs(root: TornRoot) -> None:
    for name in (INPUT, *root.registered):
        answer = tried(partial(input_rows, root.daemon, name))
        if isinstance(answer, RefusedError):
            assert answer.reason in (("CORRUPT",) if name == INPUT else ANSWERS), (name, answer)
        else:
            # A file that lies elsewhere has no checksum of ours, which alone could tell another number.
            assert name != INPUT or answer == list(range(ROWS))


def check_journal(daemon: RawDaemon) -> None:
    """What can be read of it is in the run, in its order; of the rest it is said where it ends."""
    # An adopter of the daemon before, which was killed, may do it, and has nobody to tell.
    journals = daemon.root / "journals"
    wait_for(
        lambda: daemon.log("journal_adopted") or not list(journals.iterdir()),
        lambda: daemon.log_path.read_text()[-2000:],
    )
    run = get_run(daemon, "projects/demo/runs/journal")
    rows = [table.row_count for table in run.metrics]
    steps = read(daemon, run.metrics[0].name).column("x").to_pylist() if rows else []
    assert steps == list(range(len(steps)))
    if len(steps) < LOGGED:
        assert daemon.log("journal_adopted")[-1]["outcome"] in ("kept", "damaged")
        assert list(journals.iterdir()), "it stays for somebody to look at"


def fsck(daemon: RawDaemon, flag: str) -> dict[str, Any]:
    command = [str(RUND), "fsck", "--root", str(daemon.root), "--json", flag]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def tear(root: TornRoot, chance: random.Random) -> None:
    daemon = root.daemon
    daemon.log_path.write_bytes(b"")
    whole = hurt(root, chance)
    daemon.start()
    check_sound(daemon)
    check_runs(daemon, whole)
    check_inputs(root)
    check_journal(daemon)
    check_sound(daemon)
    daemon.kill()
    said = fsck(daemon, "--repair")
    assert all("data.arrow" in finding["path"] for finding in said["left"]), said["left"]
    daemon.start()
    for run, rows in whole.items():
        kept = found(daemon, run)
        assert kept[:rows] == list(range(rows)), run
    check_sound(daemon)
    daemon.kill()
    shutil.rmtree(daemon.root / "catalog")
    fsck(daemon, "--rebuild")  # the logs know what the repair has taken out
    fsck(daemon, "--repair")
    daemon.start()
    for run in RUNS:
        if run != "record":  # which may have another name now, or none
            kept = found(daemon, run)
            assert kept[: whole[run]] == list(range(whole[run])), run
    check_sound(daemon)
    daemon.kill()


@pytest.mark.parametrize("rounds", [1, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(2400)])])
def test_torn_files_are_told_and_hurt_nobody_else(filled: TornRoot, rounds: int) -> None:
    copy = Copy(filled)
    for seed in range(rounds):
        copy.restore()
        try:
            tear(filled, random.Random(seed))
        except BaseException:
            print("seed", seed)  # noqa: T201  # which of the rounds it was
            raise
