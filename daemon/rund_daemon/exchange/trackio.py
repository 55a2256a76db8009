"""Trackio: one SQLite file a project, with the values of a row as JSON."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rund._types import Value

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, MissingSourceError, SourceError, clean_name
from .row_batches import RowBatches, cells_of
from .sqlite_files import columns_of, reading

SYSTEM = "system"
_TABLES = ("metrics",)
_OTHERS = {"traces": "traces", "alerts": "alerts"}


@dataclass(frozen=True, slots=True)
class _Source:
    """Where a run's rows are.

    Attributes:
        file: the project's database.
        key: the column that tells runs apart.
        uid: the run's value in it.
    """

    file: Path
    key: str
    uid: str


def trackio_runs(path: Path) -> Iterator[ForeignRun]:
    """Gives the runs of a project's file, or of all in a folder.

    Raises:
        MissingSourceError: there is nothing at the path.
        SourceError: there is no file of Trackio.
    """
    if not path.exists():
        raise MissingSourceError(f"there is no {path}")
    files = [path] if path.is_file() else sorted(path.glob("*.db"))
    if not files:
        raise SourceError(f"there is no file *.db of Trackio in {path}")
    for file in files:
        yield from _runs(file)


def _runs(file: Path) -> Iterator[ForeignRun]:
    with reading(file, _TABLES, "Trackio") as store:
        # Runs of older versions have a name and no id.
        key = "run_id" if "run_id" in columns_of(store, "metrics") else "run_name"
        found = store.execute(
            f"SELECT {key} AS uid, min(run_name) AS name, min(timestamp) AS started, max(timestamp) AS ended "  # noqa: S608 - one of two names
            f"FROM metrics GROUP BY {key} ORDER BY min(id)"
        ).fetchall()
    for row in found:
        yield _run(file, key, row)


def _run(file: Path, key: str, row: sqlite3.Row) -> ForeignRun:
    uid, started = row["uid"], row["started"]
    source = _Source(file, key, uid)
    identity = f"trackio {file.stem} {uid}" + ("" if key == "run_id" else f" {started}")
    run = ForeignRun("trackio", identity, str(file), clean_name(file.stem), clean_name(row["name"]))
    run.started, run.ended = _moment(started), _moment(row["ended"])
    if key == "run_id":
        run.labels["run_id"] = uid
    tables = [ForeignTable(HISTORY, HISTORY, partial(_read, source, "metrics", run))]
    with reading(file, _TABLES, "Trackio") as store:
        if key in columns_of(store, "configs"):
            for (config,) in store.execute(f"SELECT config FROM configs WHERE {key} = ?", (uid,)):  # noqa: S608
                run.parameters |= _parameters(config, run)
        if key in columns_of(store, "system_metrics"):
            read = partial(_read, source, "system_metrics", run)
            tables.append(ForeignTable(SYSTEM, SYSTEM, read, stream_name=SYSTEM))
        for table, words in _OTHERS.items():
            if key in columns_of(store, table):
                count = store.execute(f"SELECT count(*) FROM {table} WHERE {key} = ?", (uid,)).fetchone()[0]  # noqa: S608
                run.notes.left_out |= {words: count} if count else {}
    run.tables = tuple(tables)
    return run


def _parameters(config: Any, run: ForeignRun) -> dict[str, Value]:
    """Settings; those that Trackio adds itself are labels, where they are texts."""
    found = json.loads(config)
    for name in ("_Username", "_Group"):
        if isinstance(found.get(name), str):
            run.labels[name.removeprefix("_").lower()] = found[name]
    return {key: value for key, value in found.items() if not key.startswith("_")}


def _read(
    source: _Source, table: str, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]
) -> Iterator[Chunk]:
    batches = RowBatches(known, run.notes)
    with reading(source.file, _TABLES, "Trackio") as store:
        step = "step" if "step" in columns_of(store, table) else "NULL"
        query = f"SELECT id, timestamp, {step}, metrics FROM {table} WHERE {source.key} = ? AND id > ? ORDER BY id"  # noqa: S608
        for number, timestamp, at, values in store.execute(query, (source.uid, position)):
            moment = _moment(timestamp)
            micros = None if moment is None else round(moment.timestamp() * 1e6)
            cells = dict(
                pair for name, value in json.loads(values).items() for pair in cells_of(name, value, run.notes)
            )
            yield from batches.add((at, micros, cells), number)
    yield from batches.rest()


def _moment(text: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
