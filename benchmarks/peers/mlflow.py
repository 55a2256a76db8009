"""MLflow with SQLite, a call a step: `log_metrics`, which returns when the row is in the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.tracking import MlflowClient

from . import Columns, Scalars, Vectors


class Writer:
    """The run that `prepare` made."""

    def __init__(self, folder: Path) -> None:
        self._run_id = connect(folder)

    def log(self, values: dict[str, float], step: int) -> None:
        """One transaction."""
        mlflow.log_metrics(values, step=step, run_id=self._run_id)

    def finish(self) -> None:
        """Each call has waited for its row."""


def prepare(folder: Path) -> None:
    """Makes the database, which takes seconds, and the run."""
    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = MlflowClient()
    experiment = client.create_experiment("bench", artifact_location=(folder / "artifacts").as_uri())
    (folder / "run").write_text(client.create_run(experiment).info.run_id)


def connect(folder: Path) -> str:
    """Gives the run's id."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    return (folder / "run").read_text()


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """MLflow's tables are files: a Parquet file a batch, logged as an artifact."""
    run_id, client = connect(folder), MlflowClient()
    for number, batch in enumerate(batches):
        path = folder / f"samples-{number}.parquet"
        pd.DataFrame(batch).to_parquet(path)
        client.log_artifact(run_id, str(path), "samples")
        path.unlink()


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """A file of NumPy's a batch, logged as an artifact."""
    run_id, client = connect(folder), MlflowClient()
    for number, batch in enumerate(batches):
        path = folder / f"vectors-{number}.npy"
        np.save(path, batch)
        client.log_artifact(run_id, str(path), "vectors")
        path.unlink()


def kept(folder: Path) -> int:
    """Steps that have both metrics."""
    run_id, client = connect(folder), MlflowClient()
    steps = [{metric.step for metric in client.get_metric_history(run_id, name)} for name in ("loss", "accuracy")]
    return len(steps[0] & steps[1])


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """Database and artifacts."""
    return folder
