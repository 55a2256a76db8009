"""Reads rows of one Parquet file, in this process.

Columns are read through small buffers, so that memory does not grow with the size of a row group (a group of
600 MB took 46 MB and not 650). The number of rows in a batch follows from the width of a row.

Batches are validated in full: text in Parquet need not be UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rund_daemon.segments.registered_files import Place
from rund_daemon.segments.row_window import RowWindow

_BUFFER_BYTES = 1024 * 1024
_BATCH_BYTES = 8 * 1024 * 1024
_BATCH_ROWS = 32_768


def open_file(path: Place) -> Any:  # the stubs do not know that it is a context manager
    """Opens a file, of which only the metadata is read."""
    source = str(path) if isinstance(path, Path) else path.open()
    return pq.ParquetFile(source, buffer_size=_BUFFER_BYTES, pre_buffer=False)


def read(path: Place, names: Sequence[str], window: RowWindow) -> Iterator[pa.RecordBatch]:
    """Reads columns, at least one, of the rows in the window."""
    with open_file(path) as file:
        for number in range(file.num_row_groups):
            first, count = window.take(file.metadata.row_group(number).num_rows)
            if count:
                yield from _read_group(file, number, names, RowWindow(first, count))
            if window.done:
                return


def _read_group(file: Any, number: int, names: Sequence[str], window: RowWindow) -> Iterator[pa.RecordBatch]:
    rows = _rows_of_a_batch(file.metadata.row_group(number))
    for batch in file.iter_batches(rows, row_groups=[number], columns=names, use_threads=False):
        first, count = window.take(batch.num_rows)
        if count:
            batch.validate(full=True)
            # A column `a.b` is also found by the name `a`, hence the selection.
            yield batch.slice(first, count).select(names)
        if window.done:
            return


def _rows_of_a_batch(group: Any) -> int:
    # All columns count: looking at one (`group.column`) ends the process if its statistics are broken.
    rows: int = _BATCH_BYTES * group.num_rows // max(group.total_byte_size, 1)
    return max(1, min(_BATCH_ROWS, rows))
