"""Exports to Parquet: `project=…/run=…/table=…/rows.parquet`, the layout of Hive."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rund._types import RunInfo

from .exporter import Exported, Format, TableRows, hive_folder, hive_value

GROUP_ROWS = 131_072
GROUP_BYTES = 32 << 20


def _write(folder: Path, _: RunInfo, table: TableRows, exported: Exported) -> int:
    place = folder / f"table={hive_value(table.info.name)}"
    place.mkdir()
    for name in ("project", "run", "table"):
        if name in table.schema.names:
            exported.left_out[
                f"column {name!r} of {table.info.name!r} for readers of the whole folder: it is its part"
            ] += 1
    total = 0
    gathered: list[pa.RecordBatch] = []
    rows = size = 0
    with pq.ParquetWriter(place / "rows.parquet", table.schema, compression="zstd") as writer:
        for batch in table.batches:
            gathered.append(batch)
            rows, size, total = rows + batch.num_rows, size + batch.nbytes, total + batch.num_rows
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(gathered))
                gathered, rows, size = [], 0, 0
        if gathered:
            writer.write_table(pa.Table.from_batches(gathered))
    return total


# Readers of a folder of Parquet pass over files that begin with an underscore.
FORMAT = Format(_write, hive_folder, "_run.json")
