"""Exports to CSV: `project/run/table.csv`. What CSV has no form for is written as JSON, bytes as base64."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, types
from rund._types import RunInfo

from .exporter import Exported, Format, TableRows, plain_folder


def _write(folder: Path, _: RunInfo, table: TableRows, __: Exported) -> int:
    total = 0
    schema = pa.schema([(field.name, _type(field.type)) for field in table.schema])
    with csv.CSVWriter(folder / f"{table.info.name}.csv", schema) as writer:
        for batch in table.batches:
            writer.write_batch(pa.RecordBatch.from_arrays([_column(column) for column in batch.columns], schema=schema))
            total += batch.num_rows
    return total


def _is_plain(kind: pa.DataType) -> bool:
    numeric = types.is_integer(kind) or types.is_float32(kind) or types.is_float64(kind) or types.is_boolean(kind)
    return numeric or types.is_string(kind) or types.is_large_string(kind) or types.is_date(kind)


def _type(kind: pa.DataType) -> pa.DataType:
    return kind if _is_plain(kind) else pa.string()


def _column(column: Any) -> pa.Array[Any]:
    kind = column.type
    if _is_plain(kind):
        plain: pa.Array[Any] = column
    elif types.is_timestamp(kind) or types.is_time(kind) or types.is_decimal(kind):
        plain = column.cast(pa.string())
    elif types.is_duration(kind) or types.is_float16(kind):
        plain = column.cast(pa.int64() if types.is_duration(kind) else pa.float32()).cast(pa.string())
    else:
        plain = pa.array([None if value is None else _text(value) for value in column.to_pylist()], pa.string())
    return plain


def _text(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else json.dumps(value, default=_other)


def _other(value: Any) -> str:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)


FORMAT = Format(_write, plain_folder)
