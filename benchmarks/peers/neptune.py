"""Neptune Scale in mode offline; the service ended in 2026, the client is still there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from neptune_scale import Run

from . import Scalars


class Writer:
    """A process's part of the run, in a SQLite file of its own."""

    def __init__(self, folder: Path) -> None:
        self._run = Run(
            project="bench/bench",
            run_id="run",
            mode="offline",
            log_directory=folder,
            enable_console_log_capture=False,
            source_tracking_config=None,
        )
        self.log = self._run.log_metrics
        self.finish = self._run.close


def prepare(folder: Path) -> None:
    """Nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)


def kept(folder: Path) -> int:
    """Updates that `neptune sync` would send, one for each call."""
    count = 0
    for path in folder.rglob("*.sqlite3"):
        with sqlite3.connect(path) as database:
            count += database.execute("SELECT count(*) FROM run_operations WHERE operation_type = 0").fetchone()[0]
    return count


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """The files."""
    return folder
