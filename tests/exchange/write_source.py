"""Writes what a real tool writes: `python write_source.py TOOL FOLDER`, in an environment that has the tools."""

from __future__ import annotations

import os
import sys
from pathlib import Path

STEPS = 30


def wandb(folder: Path) -> None:
    os.environ |= {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "WANDB_SILENT": "true"}
    import wandb

    run = wandb.init(
        project="proj",
        name="my run",
        config={"lr": 0.1, "net": {"depth": 3}},
        tags=["a", "b"],
        notes="a note",
        group="g",
    )
    for step in range(STEPS):
        run.log({"loss": 1 / (step + 1), "count": step, "nested": {"x": step * 2.0}, "word": f"w{step}"})
    run.log({"hist": wandb.Histogram([1, 2, 3]), "nan": float("nan"), "inf": float("-inf")})
    run.log({"table": wandb.Table(columns=["c"], data=[[1]])})
    run.summary["best"] = 0.9
    run.finish(exit_code=int(os.environ.get("EXIT_CODE", "0")))


def mlflow(folder: Path) -> None:
    _mlflow(f"sqlite:///{folder / 'store.db'}")


def mlflow_files(folder: Path) -> None:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    _mlflow((folder / "mlruns").as_uri())


def _mlflow(store: str) -> None:
    import mlflow

    mlflow.set_tracking_uri(store)
    mlflow.set_experiment("exp")
    with mlflow.start_run(run_name="r1", tags={"team": "x", "long": "y" * 1000}, description="about"):
        mlflow.log_params({"lr": 0.1, "n": 3})
        for step in range(STEPS):
            mlflow.log_metrics({"loss": 1 / (step + 1), "val/acc": step / STEPS}, step=step)
        mlflow.log_metric("odd", float("nan"), step=1)
        mlflow.log_metric("odd", float("inf"), step=2)
    mlflow.start_run(run_name="failed")
    mlflow.log_metric("loss", 1.0)
    mlflow.end_run("FAILED")


def trackio(folder: Path) -> None:
    os.environ["TRACKIO_DIR"] = str(folder)
    import trackio

    trackio.init(project="tp", name="t1", config={"lr": 0.1, "deep": {"a": 1}})
    for step in range(STEPS):
        trackio.log({"loss": 1 / (step + 1), "count": step}, step=step)
    trackio.finish()


def tensorboard(folder: Path) -> None:
    import numpy as np
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(folder / "logs" / "run1")) as writer:
        for step in range(STEPS):
            writer.add_scalar("train/loss", 1 / (step + 1), step, walltime=1_700_000_000.25 + step)
            writer.add_scalar("acc", step / STEPS, step, walltime=1_700_000_000.25 + step)
        writer.add_text("note", "hello", 1)
        writer.add_histogram("weights", np.arange(10.0), 1)
        writer.add_hparams({"lr": 0.1, "opt": "sgd"}, {"hp/acc": 0.5}, name="hp")


def read_events(folder: Path) -> None:
    """Prints what TensorBoard itself reads in a folder of event files, as JSON."""
    import json

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    tags = found.Tags()
    scalars = {
        tag: [[event.wall_time, event.step, event.value] for event in found.Scalars(tag)] for tag in tags["scalars"]
    }
    sys.stdout.write(json.dumps({"scalars": scalars, "tensors": tags["tensors"]}))


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]))
