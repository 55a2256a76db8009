"""W&B: the `.wandb` file of an offline run holds all that it sent or would have sent.

History becomes `history`, system statistics the table `system`, the summary an output. Dicts in a history row are
flattened with dots, as W&B itself shows them; media and histograms are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
from rund._types import Cause, CauseKind, RunStatus, Value

from .foreign import HISTORY, Chunk, ForeignRun, ForeignTable, MissingSourceError, SourceError, clean_name
from .framing import DamageError, wandb_records
from .messages import WandbRecord
from .row_batches import Cell, RowBatches, cells_of

SYSTEM = "system"
_STEP, _TIMESTAMP = "_step", "_timestamp"
_LEFT_OUT = {"output": "console output", "output_raw": "console output", "artifact": "artifacts", "alert": "alerts"}


def wandb_runs(path: Path) -> Iterator[ForeignRun]:
    """Gives the runs of a `.wandb` file, or of all below a folder.

    Raises:
        MissingSourceError: there is nothing at the path.
        SourceError: there is no such file.
    """
    if not path.exists():
        raise MissingSourceError(f"there is no {path}")
    # `latest-run` is a link to one of the folders.
    files = [path] if path.is_file() else sorted({file.resolve() for file in path.rglob("*.wandb")})
    if not files:
        raise SourceError(f"there is no .wandb or .parquet file in {path}")
    for file in files:
        yield _run(file)


def _run(file: Path) -> ForeignRun:
    run = ForeignRun("wandb", f"wandb {file.name}", str(file), "wandb", clean_name(file.stem))
    run.status = RunStatus.FAILED
    run.cause = Cause(CauseKind.SILENCE, "its file has no end: it was killed, or goes on; import it again then")
    summary: dict[str, Value] = {}
    for record, _ in _records(file, run, quiet=True):
        _take(record, run, summary)
    shown = {key: value for key, value in summary.items() if key != "_wandb"}
    if shown:
        run.outputs.append({"summary": shown})
    run.parameters.pop("_wandb", None)
    run.tables = (
        ForeignTable(HISTORY, HISTORY, partial(_read_history, file, run)),
        ForeignTable(SYSTEM, SYSTEM, partial(_read_system, file, run), stream_name=SYSTEM),
    )
    return run


def _take(record: Any, run: ForeignRun, summary: dict[str, Value]) -> None:
    if record.HasField("run"):
        _take_run(record.run, run)
    elif record.HasField("config"):
        _update(run.parameters, record.config)
    elif record.HasField("summary"):
        _update(summary, record.summary)
    elif record.HasField("exit"):
        code = record.exit.exit_code
        run.status = RunStatus.FAILED if code else RunStatus.COMPLETED
        run.cause = Cause(CauseKind.EXIT_CODE, f"it ended with code {code}", exit_code=code) if code else None
    elif record.HasField("stats"):
        run.ended = _moment(record.stats.timestamp)
    else:
        for name, words in _LEFT_OUT.items():
            if record.HasField(name):
                run.notes.left_out[words] += 1


def _take_run(found: Any, run: ForeignRun) -> None:
    run.started = _moment(found.start_time)
    # The id alone is not enough: it may be chosen, and chosen again.
    run.identity = f"wandb {found.entity} {found.project} {found.run_id} {found.start_time.seconds}"
    run.identity += f".{found.start_time.nanos}"
    run.project = clean_name(found.project or "uncategorized")
    run.name = clean_name(found.display_name or found.run_id)
    run.description = found.notes
    _update(run.parameters, found.config)
    named = {"run_id": found.run_id, "entity": found.entity, "group": found.run_group, "job_type": found.job_type}
    named |= {"sweep": found.sweep_id, "host": found.host}
    run.labels |= dict.fromkeys(found.tags, "true") | {key: value for key, value in named.items() if value}


def _update(values: dict[str, Value], update: Any) -> None:
    for item in update.update:
        _set(values, item)
    for item in update.remove:
        *above, last = _path(item)
        target: Any = values
        for key in above:
            target = target.get(key) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target.pop(last, None)


def _set(values: dict[str, Value], item: Any) -> None:
    *above, last = _path(item)
    target: Any = values
    for key in above:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[last] = _json(item.value_json)


def _path(item: Any) -> list[str]:
    return list(item.nested_key) or [item.key]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _read_history(file: Path, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    batches = RowBatches(known, run.notes)
    for record, end in _records(file, run):
        if end > position and record.HasField("history"):
            cells = dict(_cells(record.history.item, run))
            step, time = cells.pop(_STEP, record.history.step.num), cells.pop(_TIMESTAMP, None)
            micros = round(time * 1e6) if isinstance(time, (int, float)) else None
            yield from batches.add((step if isinstance(step, int) else None, micros, cells), end)
    yield from batches.rest()


def _read_system(file: Path, run: ForeignRun, position: int, known: Mapping[str, pa.DataType]) -> Iterator[Chunk]:
    batches = RowBatches(known, run.notes)
    for record, end in _records(file, run, quiet=True):
        if end > position and record.HasField("stats"):
            stamp = record.stats.timestamp
            micros = stamp.seconds * 1_000_000 + stamp.nanos // 1_000
            yield from batches.add((None, micros, dict(_cells(record.stats.item, run))), end)
    yield from batches.rest()


def _cells(items: Any, run: ForeignRun) -> Iterator[tuple[str, Cell]]:
    values: dict[str, Value] = {}
    for item in items:
        _set(values, item)
    for key, value in values.items():
        yield from cells_of(key, value, run.notes)


def _records(file: Path, run: ForeignRun, *, quiet: bool = False) -> Iterator[tuple[Any, int]]:
    """The records as far as they are sound. A file is read more than once: only one pass notes what it found."""
    with file.open("rb") as source:
        try:
            for record in wandb_records(source):
                yield WandbRecord.FromString(record.data), record.end
        except DamageError as error:
            if not quiet:
                (run.notes.cut_off if error.torn else run.notes.damage).append(f"{file}: {error}")


def _moment(stamp: Any) -> datetime:
    return datetime.fromtimestamp(stamp.seconds + stamp.nanos / 1e9, UTC)
