"""MLflow's tracking store in folders: `<store>/<experiment>/<run>`, with YAML beside one file a metric."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, MissingSourceError, SourceError, clean_name
from .mlflow import filled, moment_of, value_of
from .points import Point, rows_of_points, sorted_points

_META = "meta.yaml"
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


def mlflow_folder_runs(folder: Path) -> Iterator[ForeignRun]:
    """Gives the runs of a store in folders, those of one experiment after another.

    Raises:
        MissingSourceError: there is no such folder.
        SourceError: it is no store of MLflow.
    """
    if not folder.is_dir():
        raise MissingSourceError(f"there is no {folder}")
    experiments = [path.parent for path in sorted(folder.glob(f"*/{_META}")) if not path.parent.name.startswith(".")]
    if not experiments:
        raise SourceError(f"{folder} is no store of MLflow: it has no folder with a {_META}")
    for experiment in experiments:
        name = str(_meta(experiment).get("name") or experiment.name)
        for meta in sorted(experiment.glob(f"*/{_META}")):
            if (run := _run(meta.parent, name)) is not None:
                yield run


def _run(folder: Path, experiment: str) -> ForeignRun | None:
    meta = _meta(folder)
    if meta.get("lifecycle_stage", "active") != "active":
        return None
    uid = str(meta.get("run_id") or meta.get("run_uuid") or folder.name)
    name = clean_name(str(meta.get("run_name") or uid))
    run = ForeignRun("mlflow", f"mlflow {uid}", str(folder), clean_name(experiment), name)
    run.started, run.ended = moment_of(meta.get("start_time")), moment_of(meta.get("end_time"))
    run.labels["run_id"] = uid
    run.tables = (ForeignTable(HISTORY, HISTORY, partial(_read, folder / "metrics", run)),)
    if inputs := list(folder.glob("inputs/*")):
        run.notes.left_out["data sets that were inputs"] += len(inputs)
    return filled(run, _STATUS.get(meta.get("status", 0), ""), _texts(folder / "params"), _texts(folder / "tags"))


def _meta(folder: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load((folder / _META).read_bytes())
    except yaml.YAMLError as error:
        raise SourceError(f"{folder / _META} is no YAML: {' '.join(str(error).split())}") from None
    return found if isinstance(found, dict) else {}


def _texts(folder: Path) -> dict[str, str]:
    """A text by name: a name may hold slashes, which are folders here."""
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read(folder: Path, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    yield from rows_of_points(sorted_points(_points(folder, run), position), position, known, run.notes)


def _points(folder: Path, run: ForeignRun) -> Iterator[Point]:
    for file in _files(folder):
        key = str(file.relative_to(folder))
        with file.open(errors="replace") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith("\n"):
                    run.notes.cut_off.append(f"{file}: it ends in the middle of line {number}")
                    break
                point = _point(key, line)
                if point is None:
                    run.notes.damage.append(f"{file}: line {number} is no point: {line.strip()[:60]!r}")
                    break
                yield point


def _point(key: str, line: str) -> Point | None:
    # Time, value and, in all but the oldest stores, the step.
    parts = line.split()
    try:
        return Point(key, int(parts[2]) if len(parts) > 2 else 0, int(parts[0]) * 1000, value_of(float(parts[1])))
    except (ValueError, IndexError):
        return None
