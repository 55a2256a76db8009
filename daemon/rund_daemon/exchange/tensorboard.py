"""TensorBoard's event files: each folder with such files is a run.

Scalars and texts become rows of `history`. A writer makes an event of its own for each scalar, microseconds apart, so
events of one step that follow each other share a row; its time is that of the first.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
from rund._types import Cause, CauseKind, RunStatus

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, MissingSourceError, SourceError, clean_name
from .framing import DamageError, tf_records
from .messages import Event, HParams
from .row_batches import Cell, RowBatches

JOIN_WITHIN_S = 1.0
"""How far apart in time two scalars of one step may be and still share a row."""

_FORMATS = {1: "f", 2: "d", 3: "i", 9: "q"}
"""Formats of the types of tensors that a scalar may have."""
_DT_STRING = 7
_SESSION_FAILURE, _SESSION_RUNNING = 2, 3
_OTHERS = {"image": "images", "histo": "histograms", "audio": "audio", "tensor": "tensors"}


def tensorboard_runs(folder: Path, join_within_s: float = JOIN_WITHIN_S) -> Iterator[ForeignRun]:
    """Gives the runs below a folder, in the order of their names.

    Raises:
        MissingSourceError: there is no such folder.
        SourceError: there is no event file in it.
    """
    if not folder.exists():
        raise MissingSourceError(f"there is no {folder}")
    if folder.is_file():
        yield _run(folder.parent, folder.parent, [folder], join_within_s)
        return
    found = False
    for path, folders, names in os.walk(folder):
        folders.sort()
        files = sorted(Path(path) / name for name in names if "tfevents" in name)
        if files:
            found = True
            yield _run(folder, Path(path), files, join_within_s)
    if not found:
        raise SourceError(f"there is no TensorBoard event file (*tfevents*) in {folder}")


def _run(top: Path, folder: Path, files: list[Path], join_within_s: float) -> ForeignRun:
    name = folder.name if folder == top else str(folder.relative_to(top))
    run = ForeignRun(
        "tensorboard", _identity(files[0], join_within_s), str(folder), clean_name(top.name), clean_name(name)
    )
    run.tables = tuple(ForeignTable(HISTORY, file.name, partial(_read, file, run, join_within_s)) for file in files)
    run.labels["tensorboard_run"] = name if folder != top else "."
    return run


def _identity(file: Path, join_within_s: float) -> str:
    """By the first file's name, with time and host in it, and its first record: a copied folder is the same run."""
    with file.open("rb") as source:
        try:
            first = next(tf_records(source, 0, google_crc32c.value), None)
        except DamageError:
            first = None
    digest = hashlib.sha256(first.data if first else b"").hexdigest()
    return f"tensorboard {file.name} {digest} {join_within_s if join_within_s != JOIN_WITHIN_S else ''}"


@dataclass(slots=True)
class _Row:
    step: int
    wall_time: float
    cells: dict[str, Cell] = field(default_factory=dict)
    end: int = 0


def _read(
    file: Path, run: ForeignRun, join_within_s: float, position: int, known: Mapping[str, pa.DataType]
) -> Iterator[Chunk]:
    batches = RowBatches(known, run.notes)
    row: _Row | None = None
    for event, end in _events(file, position, run):
        cells = dict(_cells(event, run))
        if not cells:
            continue
        if row is None or not _joins(row, event, cells, join_within_s):
            if row is not None:
                yield from batches.add((row.step, _micros(row.wall_time), row.cells), row.end)
            row = _Row(event.step, event.wall_time)
        row.cells |= cells
        row.end = end
    if row is not None:
        yield from batches.add((row.step, _micros(row.wall_time), row.cells), row.end)
    yield from batches.rest()


def _joins(row: _Row, event: Any, cells: dict[str, Cell], join_within_s: float) -> bool:
    near = abs(event.wall_time - row.wall_time) <= join_within_s
    return near and event.step == row.step and row.cells.keys().isdisjoint(cells)


def _events(file: Path, start: int, run: ForeignRun) -> Iterator[tuple[Any, int]]:
    with file.open("rb") as source:
        try:
            for record in tf_records(source, start, google_crc32c.value):
                event = Event.FromString(record.data)
                moment = _moment(event.wall_time)
                if moment is not None:
                    run.started = min(run.started or moment, moment)
                    run.ended = max(run.ended or moment, moment)
                if event.HasField("graph_def"):
                    run.notes.left_out["graphs"] += 1
                yield event, record.end
        except DamageError as error:
            (run.notes.cut_off if error.torn else run.notes.damage).append(f"{file}: {error}")


def _cells(event: Any, run: ForeignRun) -> Iterator[tuple[str, Cell]]:
    for value in event.summary.value:
        if value.HasField("simple_value"):
            yield value.tag, value.simple_value
        elif value.HasField("metadata") and value.metadata.plugin_data.plugin_name == "hparams":
            _take_hparams(value.metadata.plugin_data.content, run)
        elif value.HasField("tensor") and (cell := _tensor_cell(value.tensor)) is not None:
            yield value.tag, cell
        else:
            kind = next((words for name, words in _OTHERS.items() if value.HasField(name)), "values")
            run.notes.left_out[f"{kind} {value.tag!r}"] += 1


def _tensor_cell(tensor: Any) -> Cell:
    """A tensor as a number or a text; None when it is neither."""
    if tensor.dtype == _DT_STRING and len(tensor.string_val) == 1:
        return str(tensor.string_val[0], errors="replace")
    if tensor.tensor_shape.dim or tensor.dtype not in _FORMATS:
        return None
    form = _FORMATS[tensor.dtype]
    if tensor.tensor_content:
        if len(tensor.tensor_content) != struct.calcsize(form):
            return None
        value: float | int = struct.unpack(f"<{form}", tensor.tensor_content)[0]
        return value
    values = {1: tensor.float_val, 2: tensor.double_val, 3: tensor.int_val, 9: tensor.int64_val}[tensor.dtype]
    # A tensor of one zero may have been written without it.
    return values[0] if values else 0


def _take_hparams(content: bytes, run: ForeignRun) -> None:
    found = HParams.FromString(content)
    if found.HasField("session_start_info"):
        for entry in found.session_start_info.hparams:
            for kind in ("bool_value", "number_value", "string_value"):
                if entry.value.HasField(kind):
                    run.parameters[entry.key] = getattr(entry.value, kind)
    if found.HasField("session_end_info"):
        if found.session_end_info.status == _SESSION_FAILURE:
            run.status, run.cause = RunStatus.FAILED, Cause(CauseKind.REQUEST, "its session ended with a failure")
        elif found.session_end_info.status == _SESSION_RUNNING:
            run.status = RunStatus.RUNNING


def _micros(seconds: float) -> int | None:
    return round(seconds * 1_000_000) if math.isfinite(seconds) and abs(seconds) < 1e11 else None


def _moment(seconds: float) -> datetime | None:
    micros = _micros(seconds)
    return None if micros is None else datetime.fromtimestamp(micros / 1e6, UTC)
