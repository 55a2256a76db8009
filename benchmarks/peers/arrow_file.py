"""A limit: pyarrow writes IPC files in the training process and syncs them at the end. Nobody can read them before."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from . import Columns, Scalars, Vectors
from ._arrow_batches import RowBuffer, scalars_schema, table_batch, vectors_batch


class File:
    """An Arrow file; what was gathered is written as one batch."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("wb")
        self._writer = pa.ipc.new_file(self._file, schema)
        self.write = self._writer.write_batch

    def finish(self) -> None:
        """Returns when the file is durable."""
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def prepare(folder: Path) -> None:
    """Nothing but the folder."""
    folder.mkdir(parents=True, exist_ok=True)


def open_scalars(folder: Path, rank: int) -> Scalars:
    """A file of this process."""
    file = File(folder / f"{rank}-{time.time_ns()}.arrow", scalars_schema())
    return RowBuffer(file.write, file.finish)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """One file."""
    write_file(folder / f"samples-{time.time_ns()}.arrow", map(table_batch, batches))


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """One file."""
    write_file(folder / f"vectors-{time.time_ns()}.arrow", map(vectors_batch, batches))


def write_file(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    """Returns when a file of all batches is durable."""
    file: File | None = None
    for batch in batches:
        file = file or File(path, batch.schema)
        file.write(batch)
    assert file is not None
    file.finish()


def close(folder: Path) -> dict[str, float]:
    """Nothing to stop."""
    return {}


def data(folder: Path) -> Path:
    """The files."""
    return folder
