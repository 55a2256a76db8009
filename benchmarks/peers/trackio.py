"""Trackio, in its SQLite file on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import trackio
from trackio.sqlite_storage import SQLiteStorage

from . import Columns, Scalars, Vectors

PROJECT, RUN = "bench", "run"


class Writer:
    """A run, which all processes resume under its name."""

    def __init__(self) -> None:
        run = trackio.init(PROJECT, name=RUN, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        self.log = run.log
        self.finish = run.finish


def prepare(folder: Path) -> None:
    """The project is made before eight processes do so at once."""
    folder.mkdir(parents=True, exist_ok=True)
    SQLiteStorage.init_db(PROJECT)


def open_scalars(_folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer()


def write_table(_folder: Path, batches: Sequence[Columns]) -> None:
    """A `trackio.Table` a batch, from a data frame."""
    _write([pd.DataFrame(batch) for batch in batches])


def write_vectors(_folder: Path, batches: Sequence[Vectors]) -> None:
    """The same, each of whose cells is a list."""
    _write([pd.DataFrame({"embedding": batch.tolist()}) for batch in batches])


def kept(_folder: Path) -> int:
    """Rows of the run."""
    return int(SQLiteStorage.get_log_count(PROJECT, RUN))


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """What TRACKIO_DIR says."""
    return folder


def _write(frames: Sequence[pd.DataFrame]) -> None:
    writer = Writer()
    for step, frame in enumerate(frames):
        writer.log({"rows": trackio.Table(dataframe=frame)}, step=step)
    writer.finish()
