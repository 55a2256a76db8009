"""The workloads as Arrow batches, for the limits."""

from __future__ import annotations

import time
from collections.abc import Callable

import pyarrow as pa

from . import Columns, Vectors

ROWS_PER_BATCH = 10_000


class RowBuffer:
    """Gathers rows in lists and gives them away as batches."""

    def __init__(self, write: Callable[[pa.RecordBatch], object], finish: Callable[[], object]) -> None:
        self._write = write
        self._finish = finish
        self._rows: list[tuple[int, float, float, float]] = []
        pa.array([0.0])  # the first conversion imports pandas, if that is there

    def log(self, values: dict[str, float], step: int) -> None:
        """Adds a row."""
        self._rows.append((step, time.time(), values["loss"], values["accuracy"]))
        if len(self._rows) >= ROWS_PER_BATCH:
            self._send()

    def finish(self) -> None:
        """Sends what is left, and waits."""
        self._send()
        self._finish()

    def _send(self) -> None:
        if self._rows:
            columns = [pa.array(column) for column in zip(*self._rows, strict=True)]
            self._rows.clear()
            self._write(pa.record_batch(columns, schema=scalars_schema()))


def scalars_schema() -> pa.Schema:
    """Step, time and two floats."""
    fields: list[tuple[str, pa.DataType]] = [("step", pa.int64())]
    fields += [(name, pa.float64()) for name in ("time", "loss", "accuracy")]
    return pa.schema(fields)


def table_batch(columns: Columns) -> pa.RecordBatch:
    """The same memory."""
    return pa.record_batch({name: pa.array(column) for name, column in columns.items()})


def vectors_batch(vectors: Vectors) -> pa.RecordBatch:
    """The same memory."""
    flat = pa.array(vectors.reshape(-1))
    return pa.record_batch({"embedding": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])})
