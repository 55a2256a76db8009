"""MLflow's tracking store in a SQLite file: each run that is not deleted.

Values are logged one by one; those of one step and one time that follow each other are a row of `history`.
"""

from __future__ import annotations

import math
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pyarrow as pa
from rund._types import Cause, CauseKind, RunStatus

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, clean_name
from .points import Point, rows_of_points
from .sqlite_files import columns_of, reading

_TABLES = ("experiments", "runs", "metrics", "params", "tags")
_STATUS = {
    "FINISHED": RunStatus.COMPLETED,
    "KILLED": RunStatus.CANCELLED,
    "FAILED": RunStatus.FAILED,
    "RUNNING": RunStatus.RUNNING,
    "SCHEDULED": RunStatus.EMPTY,
}
_NOTE, _NAME = "mlflow.note.content", "mlflow.runName"
MAX_LABEL_BYTES = 255


def mlflow_database_runs(file: Path) -> Iterator[ForeignRun]:
    """Gives the runs of a SQLite store, oldest first.

    Raises:
        MissingSourceError: there is no such file.
        SourceError: it is no store of MLflow.
    """
    with reading(file, _TABLES, "MLflow") as store:
        found = store.execute(
            "SELECT r.*, e.name AS experiment FROM runs r JOIN experiments e USING (experiment_id) "
            "WHERE r.lifecycle_stage = 'active' ORDER BY r.start_time, r.run_uuid"
        ).fetchall()
    for row in found:
        yield _run(file, row)


def filled(run: ForeignRun, status: str, params: Mapping[str, str], tags: Mapping[str, str]) -> ForeignRun:
    """Puts what both kinds of store have in common into a run."""
    run.status = _STATUS.get(status, RunStatus.COMPLETED)
    if run.status is RunStatus.FAILED:
        run.cause = Cause(CauseKind.REQUEST, "MLflow says that it failed")
    run.parameters |= params
    run.name = clean_name(tags.get(_NAME) or run.name)
    run.description = tags.get(_NOTE, "")
    long: dict[str, str] = {}
    for key, value in tags.items():
        if key in (_NOTE, _NAME):
            continue
        fits = max(len(key.encode()), len(value.encode())) <= MAX_LABEL_BYTES
        (run.labels if fits else long)[key] = value
    if long:
        run.inputs.append({"tags": dict(long)})
    return run


def moment_of(millis: int | None) -> datetime | None:
    """A time of MLflow's, in milliseconds since 1970."""
    return None if not millis else datetime.fromtimestamp(millis / 1000, UTC)


def value_of(value: float) -> float:
    """Infinity is kept as the greatest number there is."""
    return math.copysign(math.inf, value) if abs(value) >= sys.float_info.max else value


def _run(file: Path, row: sqlite3.Row) -> ForeignRun:
    uid = row["run_uuid"]
    run = ForeignRun(
        "mlflow", f"mlflow {uid}", str(file), clean_name(row["experiment"]), clean_name(row["name"] or uid)
    )
    with reading(file, _TABLES, "MLflow") as store:
        params = _pairs(store, "SELECT key, value FROM params WHERE run_uuid = ?", uid)
        tags = _pairs(store, "SELECT key, value FROM tags WHERE run_uuid = ?", uid)
        _note_others(store, uid, run)
    run.started, run.ended = moment_of(row["start_time"]), moment_of(row["end_time"])
    run.labels["run_id"] = uid
    run.tables = (ForeignTable(HISTORY, HISTORY, partial(_read, file, uid, run)),)
    return filled(run, row["status"], params, tags)


def _pairs(store: sqlite3.Connection, query: str, uid: str) -> dict[str, str]:
    return {key: value or "" for key, value in store.execute(query, (uid,))}


def _note_others(store: sqlite3.Connection, uid: str, run: ForeignRun) -> None:
    if {"destination_id", "destination_type"} <= columns_of(store, "inputs"):
        query = "SELECT count(*) FROM inputs WHERE destination_type = 'RUN' AND destination_id = ?"
        if count := store.execute(query, (uid,)).fetchone()[0]:
            run.notes.left_out["data sets that were inputs"] += count


def _read(file: Path, uid: str, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    # A count and not a rowid: vacuuming the file gives rows other ids, in the same order.
    query = (
        "SELECT key, value, timestamp, step, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid LIMIT -1 OFFSET ?"
    )
    with reading(file, _TABLES, "MLflow") as store:
        points = (
            Point(key, step, timestamp * 1000, math.nan if is_nan else value_of(value))
            for key, value, timestamp, step, is_nan in store.execute(query, (uid, position))
        )
        yield from rows_of_points(points, position, known, run.notes)
