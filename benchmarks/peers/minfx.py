"""minfx in mode offline: the API of Neptune before Scale."""

from __future__ import annotations

import json
import os
from pathlib import Path

from minfx import neptune_v2 as neptune

from . import Scalars


class Writer:
    """A run; offline, each process has one of its own."""

    def __init__(self, folder: Path) -> None:
        os.chdir(folder)  # that is where `.neptune` is made
        self._run = neptune.init_run(
            mode="offline",
            capture_stdout=False,
            capture_stderr=False,
            capture_hardware_metrics=False,
            capture_traceback=False,
            git_ref=False,
            source_files=[],
        )
        self._loss, self._accuracy = self._run["loss"], self._run["accuracy"]
        self.finish = self._run.stop

    def log(self, values: dict[str, float], step: int) -> None:
        """A call for each series."""
        self._loss.append(values["loss"], step=step)
        self._accuracy.append(values["accuracy"], step=step)


def prepare(folder: Path) -> None:
    """Nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """The files."""
    return folder


def kept(folder: Path) -> int:
    """Steps of the series with fewer of them, in the queue that its sync would send."""
    counts = {"loss": 0, "accuracy": 0}
    for path in folder.rglob("data-*.log"):
        for line in path.read_text(errors="replace").splitlines():
            name = json.loads(line)["obj"]["path"][-1]
            counts[name] = counts.get(name, 0) + 1
    return min(counts["loss"], counts["accuracy"])
