"""Rows of Parquet files that another tool wrote, in their order. A position is the number of rows behind it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from .foreign import Notes, SourceError

BATCH_ROWS = 16_384
MAX_BATCH_BYTES = 4 << 20


def parquet_batches(files: Sequence[Path], skip: int, notes: Notes) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Gives the rows of the files one after another without the first ones, each batch with its position."""
    position = 0
    for path in files:
        try:
            file = pq.ParquetFile(path)
            with file:
                if position + file.metadata.num_rows <= skip:
                    position += file.metadata.num_rows
                    continue
                for batch in file.iter_batches(BATCH_ROWS):
                    begin = max(0, skip - position)
                    for piece in _pieces(batch.slice(begin)):
                        yield piece, position + begin + piece.num_rows
                        begin += piece.num_rows
                    position += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            # The rows of later files would take the places of those that are missing.
            notes.damage.append(f"{path}: {' '.join(str(error).split())}")
            return


def parquet_schema(path: Path) -> pa.Schema:
    """The columns of a file.

    Raises:
        SourceError: it is no Parquet file.
    """
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is no Parquet file: {' '.join(str(error).split())}") from None


def parquet_row_count(files: Sequence[Path]) -> int:
    """Rows of all files together."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    if batch.nbytes <= MAX_BATCH_BYTES or batch.num_rows == 1:
        yield batch
        return
    half = batch.num_rows // 2
    yield from _pieces(batch.slice(0, half))
    yield from _pieces(batch.slice(half))
