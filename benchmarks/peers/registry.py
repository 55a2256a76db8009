"""Which trackers there are, what they are installed from, and how much of a workload they get."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

OWN_ENVIRONMENT = ""


@dataclass(frozen=True)
class Entry:
    """A tracker.

    Attributes:
        module: In `peers`.
        label: How it is called in tables.
        package: The one whose version is shown.
        environment: `.venvs/bench-{environment}`; empty: that of rund itself.
        requirements: What is installed there.
        counts: Smaller work than the whole, for workloads that would take minutes.
        blanks: Workloads that it has not, each with the reason.
        notes: What is to be known about a figure, by workload.
        limit: Whether it is no tracker but a bound.
    """

    module: str
    label: str
    package: str
    environment: str = OWN_ENVIRONMENT
    requirements: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    blanks: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    limit: bool = False


_NO_TABLES = "it has series of numbers and files, and nothing for rows about samples"
_NO_DAEMON = "only rund has a daemon"
_LIMIT = "a limit, and no tracker"
_OWN_RUNS = "eight runs: without a server a run takes one process"

ENTRIES = (
    Entry("rund", "rund", "rund", counts={"loop": 200}),
    Entry(
        "trackio",
        "Trackio",
        "trackio",
        "trackio",
        ("trackio", "pandas"),
        counts={"w2": 100_000, "w3": 5_000, "log": 50_000},
        notes={"w2": "a Table a batch", "w3": "a Table a batch, cells are lists"},
    ),
    Entry(
        "tensorboard",
        "TensorBoard (tensorboardX)",
        "tensorboardX",
        "tensorboard",
        ("tensorboardX", "tensorboard", "crc32c"),
        counts={"w1": 30_000, "w4": 30_000, "log": 20_000},
        notes={
            "w1": "`add_scalar` for each scalar; tensorboardX with the package crc32c, no torch, no TensorFlow",
            "w2": "it has no rows: a tensor for each column of each batch, unsynced",
            "w3": "a tensor a batch, unsynced",
        },
    ),
    Entry(
        "wandb",
        "W&B offline",
        "wandb",
        "wandb",
        ("wandb", "pandas"),
        counts={"w1": 20_000, "w2": 50_000, "w3": 3_000, "w4": 20_000, "log": 20_000},
        notes={
            "w2": "a Table a batch, from a data frame",
            "w3": "a Table a batch, cells are arrays",
            "w4": _OWN_RUNS,
            "kill": "read from its transaction log, as `wandb sync` does",
        },
    ),
    Entry(
        "mlflow",
        "MLflow, SQLite",
        "mlflow",
        "mlflow",
        ("mlflow",),
        counts={"w1": 500, "w4": 400, "log": 500},
        notes={
            "w1": "`log_metrics`, which waits for the database",
            "w2": "a Parquet file a batch, logged as an artifact; unsynced",
            "w3": "an npy file a batch, logged as an artifact; unsynced",
        },
    ),
    Entry(
        "mlflow_batches",
        "MLflow, SQLite, batches of 1,000",
        "mlflow",
        "mlflow",
        ("mlflow",),
        counts={"w1": 20_000, "w4": 16_000},
        blanks={
            "w2": "see MLflow",
            "w3": "see MLflow",
            "log": "the trainer gathers the rows itself",
            "loop": "the trainer gathers the rows itself",
            "kill": "the trainer gathers the rows itself",
        },
        notes={"w1": "the trainer gathers 500 steps for each `log_batch`"},
    ),
    Entry(
        "aim",
        "Aim",
        "aim",
        "aim",
        ("aim",),
        counts={"w1": 10_000, "w4": 8_000, "log": 10_000},
        blanks={"w2": _NO_TABLES, "w3": _NO_TABLES},
        notes={"w4": _OWN_RUNS},
    ),
    Entry(
        "neptune",
        "Neptune Scale offline",
        "neptune-scale",
        "neptune",
        ("neptune-scale", "numpy"),
        counts={"w1": 10_000, "w4": 8_000, "log": 10_000},
        blanks={"w2": _NO_TABLES, "w3": _NO_TABLES},
        notes={"w4": "one run, a file for each process", "kill": "what its sync would send"},
    ),
    Entry(
        "minfx",
        "minfx offline",
        "minfx",
        "minfx",
        ("minfx",),
        counts={"w1": 40_000, "w4": 40_000, "log": 20_000},
        blanks={"w2": _NO_TABLES, "w3": _NO_TABLES},
        notes={"w1": "an `append` for each scalar", "w4": _OWN_RUNS, "kill": "what its sync would send"},
    ),
    Entry(
        "arrow_flight",
        "limit: Arrow Flight DoPut, unix socket, no fsync",
        "pyarrow",
        blanks={"log": _LIMIT, "loop": _LIMIT, "kill": _LIMIT},
        notes={"w1": "batches of 10,000 rows"},
        limit=True,
    ),
    Entry(
        "arrow_file",
        "limit: pyarrow IPC file + fsync, no network",
        "pyarrow",
        blanks={"log": _LIMIT, "loop": _LIMIT, "kill": _LIMIT},
        notes={"w1": "batches of 10,000 rows", "w4": "a file for each process"},
        limit=True,
    ),
)


def blank(entry: Entry, workload: str) -> str | None:
    """Why there is no figure, if that is known beforehand."""
    if workload == "memory" and entry.module != "rund":
        return _NO_DAEMON
    return entry.blanks.get(workload)
