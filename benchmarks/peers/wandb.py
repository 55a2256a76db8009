"""W&B in mode offline."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd
import wandb
from wandb.proto import wandb_internal_pb2

from . import Columns, Scalars, Vectors

_BLOCK_BYTES = 32 * 1024
_HEADER_BYTES = 7
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


class Writer:
    """A run. Offline, eight processes have a run each, in one group; sharing one needs a server."""

    def __init__(self, folder: Path) -> None:
        settings = wandb.Settings(
            mode="offline", silent=True, console="off", disable_git=True, x_disable_stats=True, x_disable_meta=True
        )
        self._run = wandb.init(project="bench", group="bench", dir=str(folder), settings=settings)
        self.log = self._run.log
        self.finish = self._run.finish


def prepare(folder: Path) -> None:
    """Nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_scalars(folder: Path, _rank: int) -> Scalars:
    """See `Writer`."""
    return Writer(folder)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """A `wandb.Table` a batch, from a data frame."""
    _write(folder, [pd.DataFrame(batch) for batch in batches])


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """A `wandb.Table` a batch, each of whose cells is an array."""
    writer = Writer(folder)
    for step, batch in enumerate(batches):
        table = wandb.Table(columns=["embedding"], data=[[vector] for vector in batch])
        writer.log({"vectors": table}, step=step)
    writer.finish()


def kept(folder: Path) -> int:
    """Steps in the transaction log, which is what `wandb sync` reads."""
    steps = set()
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        for record in _records(path.read_bytes()):
            if record.WhichOneof("record_type") == "history":
                steps.add(record.history.step.num)
    return len(steps)


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    wandb.teardown()
    return {}


def data(folder: Path) -> Path:
    """The offline runs."""
    return folder


def _write(folder: Path, frames: Sequence[pd.DataFrame]) -> None:
    writer = Writer(folder)
    for step, frame in enumerate(frames):
        writer.log({"samples": wandb.Table(dataframe=frame)}, step=step)
    writer.finish()


def _records(content: bytes) -> Iterator[wandb_internal_pb2.Record]:
    """The records of a LevelDB log, behind a header of 7 bytes."""
    at, whole = _HEADER_BYTES, b""
    while at + _HEADER_BYTES <= len(content):
        left = _BLOCK_BYTES - at % _BLOCK_BYTES
        _checksum, size, kind = struct.unpack_from("<IHB", content, at)
        if left < _HEADER_BYTES or kind == 0:  # padding
            at += left
            continue
        part = content[at + _HEADER_BYTES : at + _HEADER_BYTES + size]
        at += _HEADER_BYTES + size
        if len(part) < size:
            return
        whole = part if kind in {_FULL, _FIRST} else whole + part
        if kind in {_FULL, _LAST}:
            yield wandb_internal_pb2.Record.FromString(whole)
