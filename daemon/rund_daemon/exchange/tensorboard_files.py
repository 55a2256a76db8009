"""Exports to TensorBoard's event files: `project/run` is a run there, and each further rank one below it.

Numbers and texts of every table with a column `step` are written at their step and time, those of `history` under their
own names. TensorBoard keeps numbers in 32 bits. Parameters become hparams.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import pyarrow as pa
from pyarrow import types
from rund._types import RunInfo, RunStatus

from .exporter import Exported, Format, TableRows, plain_folder
from .foreign import HISTORY
from .framing import tf_record
from .messages import Event, HParams

_STEP, _TIME, _RANK = "step", "time", "rank"
_NOT_SHOWN = frozenset({_STEP, _TIME, _RANK, "example_id", "input_table_id"})
_DT_FLOAT, _DT_STRING = 1, 7
_SESSION = {RunStatus.COMPLETED: 1, RunStatus.FAILED: 2, RunStatus.CANCELLED: 2}
_SESSION_RUNNING = 3


class _Writers:
    """One event file a rank, opened at its first row."""

    def __init__(self, folder: Path, run: RunInfo, table: str, files: ExitStack) -> None:
        self._folder = folder
        self._suffix = f"{int(_seconds(run.created))}.rund.{run.uid}.{table}"
        self._files = files
        self._open: dict[int, BinaryIO] = {}

    def write(self, rank: int, event: Any) -> None:
        file = self._open.get(rank) or self._begin(rank)
        file.write(tf_record(event.SerializeToString(), google_crc32c.value))

    def _begin(self, rank: int) -> BinaryIO:
        place = self._folder / f"rank_{rank}" if rank else self._folder
        place.mkdir(exist_ok=True)
        file = self._files.enter_context((place / f"events.out.tfevents.{self._suffix}").open("wb"))
        self._open[rank] = file
        version = Event(file_version="brain.Event:2")
        file.write(tf_record(version.SerializeToString(), google_crc32c.value))
        return file


def _begin(folder: Path, run: RunInfo, exported: Exported) -> None:
    if not run.parameters:
        return
    began = HParams()
    began.session_start_info.start_time_secs = _seconds(run.created)
    for key, value in run.parameters.items():
        entry = began.session_start_info.hparams.add(key=key)
        if isinstance(value, bool):
            entry.value.bool_value = value
        elif isinstance(value, (int, float)):
            entry.value.number_value = float(value)
        else:
            entry.value.string_value = value if isinstance(value, str) else repr(value)
    ended = HParams()
    ended.session_end_info.status = _SESSION.get(run.status, _SESSION_RUNNING)
    with ExitStack() as files:
        writers = _Writers(folder, run, "_hparams_", files)
        for name, data in (("session_start_info", began), ("session_end_info", ended)):
            event = Event(wall_time=_seconds(run.created))
            value = event.summary.value.add(tag=f"_hparams_/{name}")
            value.metadata.plugin_data.plugin_name = "hparams"
            value.metadata.plugin_data.content = data.SerializeToString()
            value.tensor.dtype = _DT_FLOAT
            value.tensor.float_val.append(0.0)
            writers.write(0, event)


def _write(folder: Path, run: RunInfo, table: TableRows, exported: Exported) -> int:
    name, schema = table.info.name, table.schema
    if _STEP not in schema.names or not types.is_integer(schema.field(_STEP).type):
        exported.left_out[f"table {name!r}: it has no steps"] += 1
        return 0
    shown = [field.name for field in schema if field.name not in _NOT_SHOWN and _is_shown(field.type)]
    for field in schema:
        if field.name not in shown and field.name not in _NOT_SHOWN:
            exported.left_out[f"column {field.name!r} of {name!r}: {field.type}"] += 1
    tags = {column: column if name == HISTORY else f"{name}/{column}" for column in shown}
    total = 0
    with ExitStack() as files:
        writers = _Writers(folder, run, name, files)
        for batch in table.batches:
            for rank, event in _events(batch, tags, _seconds(run.created)):
                if event is None:
                    exported.left_out[f"rows of {name!r} without a step"] += 1
                else:
                    writers.write(rank, event)
                    total += 1
    return total


def _events(batch: pa.RecordBatch, tags: dict[str, str], default_time: float) -> Iterator[tuple[int, Any]]:
    names = batch.schema.names
    steps = batch.column(_STEP).to_pylist()
    times = _times(batch.column(_TIME)) if _TIME in names else [None] * len(steps)
    ranks = batch.column(_RANK).to_pylist() if _RANK in names else [None] * len(steps)
    columns = [(tag, batch.column(name).to_pylist()) for name, tag in tags.items()]
    for row, step in enumerate(steps):
        time = times[row]
        event = None if step is None else Event(wall_time=default_time if time is None else time, step=step)
        if event is not None:
            for tag, values in columns:
                _add(event.summary, tag, values[row])
        yield ranks[row] or 0, event


def _times(column: Any) -> list[float | None]:
    if not types.is_timestamp(column.type):
        return [None] * len(column)
    micros = column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64()).to_pylist()
    return [None if value is None else value / 1e6 for value in micros]


def _add(summary: Any, tag: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, str):
        found = summary.value.add(tag=tag)
        found.metadata.plugin_data.plugin_name = "text"
        found.tensor.dtype = _DT_STRING
        found.tensor.tensor_shape.dim.add(size=1)
        found.tensor.string_val.append(value.encode())
    else:
        # Beyond 32 bits there is only infinity.
        summary.value.add(tag=tag, simple_value=float(value))


def _is_shown(kind: pa.DataType) -> bool:
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    return numeric or types.is_string(kind) or types.is_large_string(kind)


def _seconds(moment: datetime | None) -> float:
    return 0.0 if moment is None else moment.timestamp()


FORMAT = Format(_write, plain_folder, begin=_begin)
