"""Cuts rows into batches of a size that the wire carries fastest and the daemon takes."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from ._errors import OverLimitError
from ._types import ServerLimits

TARGET_BATCH_BYTES = 1 << 20
"""Size of batch that gRPC carries fastest."""


def split(table: pa.Table, limits: ServerLimits) -> Iterator[pa.RecordBatch]:
    """Cuts rows into batches near the best size and within the daemon's limits.

    A table without rows is one batch, because it brings the schema.

    Raises:
        OverLimitError: One row alone is larger than a batch may be.
    """
    if not table.num_rows:
        yield pa.RecordBatch.from_pylist([], schema=table.schema)
        return
    row_bytes = max(1, table.nbytes // table.num_rows)
    target = min(TARGET_BATCH_BYTES, limits.max_batch_bytes or TARGET_BATCH_BYTES)
    rows = max(1, min(target // row_bytes, limits.max_batch_rows or table.num_rows))
    # Many small chunks would else become as many small batches.
    for batch in table.combine_chunks().to_batches(max_chunksize=rows):
        yield from _within(batch, limits.max_batch_bytes)


def _within(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.RecordBatch]:
    size = pa.ipc.get_record_batch_size(batch)
    if not max_bytes or size <= max_bytes:
        yield batch
    elif batch.num_rows == 1:
        raise OverLimitError(
            f"one row takes {size} bytes, but a batch may have {max_bytes}; put large values into "
            "the run's bulk_data_url",
            details={"limit": str(max_bytes), "value": str(size)},
        )
    else:
        half = batch.num_rows // 2
        yield from _within(batch.slice(0, half), max_bytes)
        yield from _within(batch.slice(half), max_bytes)
