"""TensorBoard's event files, written by tensorboardX, which needs neither torch nor TensorFlow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboardX import SummaryWriter
from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

from . import Columns, Scalars, Vectors

_TENSOR_TYPES = {"float32": 1, "float64": 2, "int64": 9}  # TensorFlow's DataType


class Writer:
    """A file of this process. Eight writers in one folder would choose the same name, but for the suffix."""

    def __init__(self, folder: Path, rank: int) -> None:
        self.writer = SummaryWriter(str(folder), filename_suffix=f".{rank}")
        self._add = self.writer.add_scalar
        self.finish = self.writer.close

    def log(self, values: dict[str, float], step: int) -> None:
        """A call for each scalar: there is none for several."""
        for name, value in values.items():
            self._add(name, value, step)


def prepare(folder: Path) -> None:
    """Nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_scalars(folder: Path, rank: int) -> Scalars:
    """One folder is one run."""
    return Writer(folder, rank)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """TensorBoard has no rows: each column of each batch is a tensor."""
    _write(folder, batches)


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """A tensor a batch."""
    _write(folder, [{"embedding": batch} for batch in batches])


def kept(folder: Path) -> int:
    """Steps that have both scalars."""
    tags: dict[str, set[int]] = {"loss": set(), "accuracy": set()}
    for path in folder.glob("events.*"):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                tags.setdefault(value.tag, set()).add(event.step)
    return len(tags["loss"] & tags["accuracy"])


def close(_folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """The files."""
    return folder


def _write(folder: Path, batches: Sequence[Mapping[str, np.ndarray]]) -> None:
    writer = Writer(folder, 0)
    for step, batch in enumerate(batches):
        writer.writer.file_writer.add_summary(Summary(value=list(_tensors(batch))), step)
    writer.finish()


def _tensors(batch: Mapping[str, np.ndarray]) -> Iterator[Summary.Value]:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="tensor"))
    for name, column in batch.items():
        shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in column.shape])
        kind = _TENSOR_TYPES[column.dtype.name]
        tensor = TensorProto(dtype=kind, tensor_shape=shape, tensor_content=column.tobytes())
        yield Summary.Value(tag=name, tensor=tensor, metadata=metadata)
