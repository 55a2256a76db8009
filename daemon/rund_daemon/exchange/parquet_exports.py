"""Parquet that W&B and Neptune export: told apart by their columns.

W&B: a row of history a row, with `_step` and `_timestamp`; the files of one folder are one run. Neptune's exporter: one
value a row, with `run_id`, `attribute_path`, `attribute_type` and a column for each type of value.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, MissingSourceError, Notes, SourceError, clean_name
from .parquet_rows import parquet_batches, parquet_schema
from .points import Point, rows_of_points, sorted_points
from .row_batches import RowBatches, cells_of

_STEP, _TIMESTAMP = "_step", "_timestamp"
_NEPTUNE = frozenset({"run_id", "attribute_path", "attribute_type", "step", "timestamp"})
_SERIES = {"float_series": "float_value", "string_series": "string_value"}
_VALUES = {
    "float": "float_value",
    "int": "int_value",
    "string": "string_value",
    "bool": "bool_value",
    "datetime": "datetime_value",
    "string_set": "string_set_value",
}


def is_parquet_export(path: Path) -> bool:
    """Whether a path leads to Parquet rather than to `.wandb` files."""
    if path.is_file():
        return path.suffix == ".parquet"
    return next(path.rglob("*.parquet"), None) is not None and next(path.rglob("*.wandb"), None) is None


def parquet_export_runs(path: Path) -> Iterator[ForeignRun]:
    """Gives the runs of one file, or of all below a folder.

    Raises:
        MissingSourceError: there is nothing at the path.
        SourceError: it is no export of W&B or Neptune.
    """
    if not path.exists():
        raise MissingSourceError(f"there is no {path}")
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    folders: defaultdict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    for found in folders.values():
        columns = frozenset(parquet_schema(found[0]).names)
        if columns >= _NEPTUNE:
            yield from _neptune_runs(found)
        elif _STEP in columns:
            yield _wandb_run(path, found)
        else:
            raise SourceError(
                f"{found[0]} is no export of W&B (it has no column {_STEP}) or Neptune (no attribute_path)"
            )


def _wandb_run(path: Path, files: list[Path]) -> ForeignRun:
    folder = files[0].parent
    name = files[0].stem if path.is_file() else folder.name
    identity = f"wandb-parquet {folder.name} {files[0].name}"
    run = ForeignRun("wandb", identity, str(path), "wandb", clean_name(name))
    run.tables = (ForeignTable(HISTORY, HISTORY, partial(_read_wandb, files, run)),)
    return run


def _read_wandb(files: list[Path], run: ForeignRun, position: int, known: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    batches = RowBatches(known, run.notes)
    for batch, end in parquet_batches(files, position, run.notes):
        first = end - batch.num_rows
        for number, row in enumerate(batch.to_pylist(), first + 1):
            step, time = row.pop(_STEP, None), row.pop(_TIMESTAMP, None)
            # A key that has no value in this row was not logged with it.
            given = {key: value for key, value in row.items() if value is not None}
            cells = dict(pair for key, value in given.items() for pair in cells_of(key, _plain(value), run.notes))
            yield from batches.add((None if step is None else int(step), _micros(time), cells), number)
    yield from batches.rest()


def _neptune_runs(files: Sequence[Path]) -> Iterator[ForeignRun]:
    of_run: defaultdict[tuple[str, str], list[Path]] = defaultdict(list)
    for file in files:
        for batch, _ in parquet_batches([file], 0, Notes()):
            for ids in dict.fromkeys(_ids(batch)):
                found = of_run[ids]
                if file not in found:
                    found.append(file)
    for (project, uid), parts in of_run.items():
        run = ForeignRun("neptune", f"neptune {project} {uid}", str(parts[0]), clean_name(project), clean_name(uid))
        run.labels["run_id"] = uid
        run.tables = (ForeignTable(HISTORY, HISTORY, partial(_read_neptune, parts, uid, run)),)
        _take_values(parts, uid, run)
        yield run


def _ids(batch: pa.RecordBatch) -> Iterator[tuple[str, str]]:
    runs: list[Any] = batch.column("run_id").to_pylist()
    projects: list[Any] = ["neptune"] * len(runs)
    if "project_id" in batch.schema.names:
        projects = batch.column("project_id").to_pylist()
    return zip(projects, runs, strict=True)


def _take_values(files: Sequence[Path], uid: str, run: ForeignRun) -> None:
    for row in _neptune_rows(files, uid, run, quiet=True):
        kind, path = row["attribute_type"], row["attribute_path"]
        if kind in _VALUES:
            value = row.get(_VALUES[kind])
            _take_value(path, value.isoformat() if isinstance(value, datetime) else value, run)
        elif kind not in _SERIES:
            run.notes.left_out[f"{kind} {path!r}"] += 1


def _take_value(path: str, value: Any, run: ForeignRun) -> None:
    if path == "sys/tags":
        run.labels |= {str(tag): "true" for tag in value or ()}
    elif path == "sys/description":
        run.description = str(value or "")
    elif path == "sys/name" and value:
        run.labels["name"] = str(value)
    else:
        run.parameters[path] = value


def _read_neptune(
    files: Sequence[Path], uid: str, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]
) -> Iterator[Chunk]:
    points = (
        Point(row["attribute_path"], _whole(row["step"], run), _micros(row["timestamp"]), row[_SERIES[kind]])
        for row in _neptune_rows(files, uid, run)
        if (kind := row["attribute_type"]) in _SERIES
    )
    yield from rows_of_points(sorted_points(points, position), position, known, run.notes)


def _neptune_rows(files: Sequence[Path], uid: str, run: ForeignRun, *, quiet: bool = False) -> Iterator[dict[str, Any]]:
    notes = Notes() if quiet else run.notes
    for batch, _ in parquet_batches(files, 0, notes):
        yield from (row for row in batch.to_pylist() if row["run_id"] == uid)


def _whole(step: Any, run: ForeignRun) -> int | None:
    if step is None:
        return None
    if step != int(step):
        run.notes.left_out["fractions of steps, which were rounded down"] += 1
    return int(step)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _micros(time: Any) -> int | None:
    if isinstance(time, datetime):
        return round(time.timestamp() * 1e6)
    return round(time * 1e6) if isinstance(time, (int, float)) and math.isfinite(time) else None
