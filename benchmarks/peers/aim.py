"""Aim, in a repository on this host."""

from __future__ import annotations

from pathlib import Path

import aim

from . import Scalars


class Writer:
    """A run of its own for each process: a run takes one writer."""

    def __init__(self, folder: Path) -> None:
        self._run = aim.Run(
            repo=str(folder), experiment="bench", system_tracking_interval=None, capture_terminal_logs=False
        )
        self.finish = self._run.close

    def log(self, values: dict[str, float], step: int) -> None:
        """One call for both."""
        self._run.track(values, step=step)


def prepare(folder: Path) -> None:
    """Makes the repository before eight processes do so at once."""
    folder.mkdir(parents=True, exist_ok=True)
    aim.Repo.from_path(str(folder), init=True)


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)


def kept(folder: Path) -> int:
    """Steps of the metric with fewer of them. A run that did not end has no index; it is resumed, which makes one."""
    repo = aim.Repo.from_path(str(folder))
    counts = {"loss": 0, "accuracy": 0}
    for name in repo.list_all_runs():
        run = aim.Run(name, repo=repo, force_resume=True, system_tracking_interval=None, capture_terminal_logs=False)
        for metric in run.metrics():
            if metric.name in counts:
                counts[metric.name] += len(metric.values.sparse_numpy()[0])
        run.close()
    return min(counts.values())


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """The repository."""
    return folder
