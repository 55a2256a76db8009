"""Trackers on the same work: one module each, with the functions of `Peer`, as far as it has the workload.

A module runs in an environment of its own (see `registry`), so it imports its tracker, NumPy, and nothing of rund's.
What it does is the fastest way that the tracker documents for the workload, with every remote service switched off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Columns: TypeAlias = Mapping[str, npt.NDArray[np.int64] | npt.NDArray[np.float64]]
Vectors: TypeAlias = npt.NDArray[np.float32]


class Scalars(Protocol):
    """What a training loop logs to."""

    def log(self, values: dict[str, float], step: int) -> object:
        """One call of the tracker's own, if it has one that takes these arguments."""

    def finish(self) -> object:
        """Returns when the tracker says that all is done."""


class Peer(Protocol):
    """A module of this package. Functions for workloads that a tracker lacks are absent; `registry` has the reason."""

    def prepare(self, folder: Path) -> None:
        """What happens once and before any process writes, such as to start a server. It is not timed."""

    def open_scalars(self, folder: Path, rank: int) -> Scalars:
        """Makes a run, or joins the run of the other ranks. It is not timed."""

    def write_table(self, folder: Path, batches: Sequence[Columns]) -> None:
        """Writes rows about samples, a batch at a time; returns when they are as safe as they get."""

    def write_vectors(self, folder: Path, batches: Sequence[Vectors]) -> None:
        """The same with one vector a row."""

    def kept(self, folder: Path) -> int:
        """Rows that can be read back or that the tracker's own sync would send, after the trainer was killed."""

    def close(self, folder: Path) -> dict[str, float]:
        """Stops what `prepare` started, and gives figures of this tracker's own."""

    def data(self, folder: Path) -> Path:
        """The folder whose size is what the rows take on disk."""
