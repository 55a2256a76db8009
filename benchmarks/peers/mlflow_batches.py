"""MLflow with SQLite, in batches of 1,000 metrics, the most that `log_batch` takes: the trainer gathers 500 steps."""

from __future__ import annotations

import time
from pathlib import Path

from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from . import Scalars
from .mlflow import close, connect, data, kept, prepare

__all__ = ["close", "data", "kept", "open_scalars", "prepare"]

BATCH = 1_000


class Writer:
    """What a careful user writes around `log_batch`."""

    def __init__(self, folder: Path) -> None:
        self._run_id = connect(folder)
        self._client = MlflowClient()
        self._metrics: list[Metric] = []

    def log(self, values: dict[str, float], step: int) -> None:
        """Gathers."""
        now = int(time.time() * 1000)
        self._metrics += [Metric(name, value, now, step) for name, value in values.items()]
        if len(self._metrics) >= BATCH:
            self.finish()

    def finish(self) -> None:
        """One transaction."""
        self._client.log_batch(self._run_id, metrics=self._metrics)
        self._metrics = []


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)
