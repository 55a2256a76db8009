"""3LC's run folders, as far as its public documentation and API describe them; the format itself is closed.

Assumed: a run is a folder with `object.3lc.json`, a JSON object with `created`, `description`, `status`, `metrics` (a
list of tables, each with `url`, relative to the run, and `stream_name`) and `constants` (`parameters`, `inputs`,
`outputs`); a table is a Parquet file, or a folder with one. Tables keep their columns as Parquet has them; the meaning
that 3LC gives to columns (classes, roles) is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
from rund._types import RunStatus

from .foreign import Chunk, ForeignRun, ForeignTable, MissingSourceError, SourceError, clean_name
from .parquet_rows import parquet_batches

OBJECT = "object.3lc.json"


def threelc_runs(folder: Path) -> Iterator[ForeignRun]:
    """Gives the run of a folder, or all runs below a project's or a root's.

    Raises:
        MissingSourceError: there is no such folder.
        SourceError: there is no run in it.
    """
    if not folder.is_dir():
        raise MissingSourceError(f"there is no {folder}")
    if (folder / OBJECT).is_file():
        folders = [folder]
    else:
        folders = [path.parent for path in sorted(folder.rglob(OBJECT)) if path.parent.parent.name == "runs"]
    if not folders:
        raise SourceError(f"there is no run of 3LC in {folder}: no {OBJECT} in it, nor in a folder runs/* below it")
    for found in folders:
        yield _run(found.resolve())


def _run(folder: Path) -> ForeignRun:
    record = _record(folder / OBJECT)
    # <root>/<project>/runs/<run>
    project = folder.parent.parent.name if folder.parent.name == "runs" else "3lc"
    created = str(record.get("created") or "")
    run = ForeignRun(
        "3lc", f"3lc {project} {folder.name} {created}", str(folder), clean_name(project), clean_name(folder.name)
    )
    run.started, run.ended = _moment(created), _moment(str(record.get("last_modified") or ""))
    run.description = str(record.get("description") or "")
    constants = record.get("constants") or {}
    run.parameters |= constants.get("parameters") or {}
    run.inputs += [value for value in constants.get("inputs") or [] if isinstance(value, dict)]
    run.outputs += [value for value in constants.get("outputs") or [] if isinstance(value, dict)]
    _take_status(record.get("status"), run)
    run.tables = tuple(_tables(folder, record.get("metrics") or [], run))
    return run


def _record(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except ValueError as error:
        raise SourceError(f"{file} is no JSON: {error}") from None
    if not isinstance(found, dict):
        raise SourceError(f"{file} holds no object")
    return found


def _take_status(status: Any, run: ForeignRun) -> None:
    """By name; the numbers that 3LC gives to the names are not public."""
    name = str(status).upper().replace(" ", "_").removeprefix("RUN_STATUS_")
    if name in RunStatus.__members__ and name != "UNSPECIFIED":
        run.status = RunStatus[name]
    elif status is not None:
        run.labels["3lc_status"] = str(status)


def _tables(folder: Path, infos: list[Any], run: ForeignRun) -> Iterator[ForeignTable]:
    names: set[str] = set()
    for info in infos:
        url = str(info.get("url") or "")
        place = _local(folder, url)
        files = _parquet_files(place)
        if not files:
            run.notes.left_out[f"table {url!r}, which has no Parquet file here"] += 1
            continue
        name = clean_name(place.stem if place.is_file() else place.name)
        while name in names:
            name += "_"
        names.add(name)
        stream = str(info.get("stream_name") or "")
        yield ForeignTable(name, url, partial(_read, files, run), stream_name=stream)


def _local(folder: Path, url: str) -> Path:
    parts = urlsplit(url)
    path = unquote(parts.path) if parts.scheme == "file" else url
    return folder / path


def _parquet_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place] if place.suffix == ".parquet" else _parquet_files(place.with_suffix(".parquet"))
    return sorted(place.glob("*.parquet")) if place.is_dir() else []


def _read(files: list[Path], run: ForeignRun, position: int, _: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    for batch, end in parquet_batches(files, position, run.notes):
        yield Chunk(batch, end)


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
