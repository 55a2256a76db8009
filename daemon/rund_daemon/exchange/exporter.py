"""Writes a run as files of another kind: its rows as they are committed now, and its metadata beside them as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pyarrow as pa
from rund._transport import RowRequest, Transport, metrics_calls
from rund._types import MetricTableInfo, RunInfo

from .foreign import SourceError
from .publishing import published


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table of the run, and its rows at one moment.

    Attributes:
        info: the table as it was then.
        schema: of every batch.
        batches: the rows, in the order of their commits.
    """

    info: MetricTableInfo
    schema: pa.Schema
    batches: Iterator[pa.RecordBatch]


@dataclass(slots=True)
class Exported:
    """What was written.

    Attributes:
        run: `project/run`.
        path: the folder.
        rows: rows by table.
        left_out: what the format has no place for, with counts.
    """

    run: str
    path: str
    rows: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)


WriteTable = Callable[[Path, RunInfo, TableRows, Exported], int]
"""Writes one table below a folder, and gives the number of rows."""


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of files.

    Attributes:
        write: writes a table.
        folder: the run's folder below the one that is exported to.
        metadata: name of the file with the run's metadata.
        begin: writes what comes before the tables.
    """

    write: WriteTable
    folder: Callable[[RunInfo], Path]
    metadata: str = "run.json"
    begin: Callable[[Path, RunInfo, Exported], None] = lambda _folder, _run, _exported: None


Progress = Callable[[int], None]


def export_run(
    transport: Transport, run: RunInfo, form: Format, top: Path, document: str, *, force: bool, progress: Progress
) -> Exported:
    """Exports a run to its folder below `top`; that appears when it is complete.

    Args:
        transport: where the run is.
        run: the run with its tables; rows that are committed later are not exported.
        form: the kind of files.
        top: the folder to export to.
        document: the run's metadata as JSON.
        force: whether something else that bears the name of the folder is replaced. An earlier export of this run is.
        progress: called with numbers of rows.

    Raises:
        SourceError: something else is there already.
    """
    final = top / form.folder(run)
    if final.exists() and not force and not _is_of(final / form.metadata, run):
        raise SourceError(f"{final} is there and is no export of this run; move it, or give --force")
    exported = Exported(f"{run.project_name}/{run.name}", str(final))
    with published(final, top) as folder:
        (folder / form.metadata).write_text(document + "\n")
        form.begin(folder, run, exported)
        for info in run.metrics:
            if not info.resource_name:
                exported.left_out[f"table outside the run {info.url!r}"] += 1
            elif (rows := _rows(transport, info, progress)) is not None:
                exported.rows[info.name] = form.write(folder, run, rows, exported)
    return exported


def plain_folder(run: RunInfo) -> Path:
    """`project/run`."""
    return Path(run.project_name) / run.name


def hive_folder(run: RunInfo) -> Path:
    """`project=…/run=…`, as pyarrow, DuckDB, Polars and Spark read them as columns."""
    return Path(f"project={hive_value(run.project_name)}") / f"run={hive_value(run.name)}"


def hive_value(text: str) -> str:
    """A value in the name of a folder; what could be taken for something else is escaped as in a URL."""
    return quote(text, safe=" ()+,.;@[]{}!&'")


def _is_of(metadata: Path, run: RunInfo) -> bool:
    try:
        found = json.loads(metadata.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, Mapping) and found.get("uid") == run.uid


def _rows(transport: Transport, info: MetricTableInfo, progress: Progress) -> TableRows | None:
    """The rows of a table; None when it has no columns yet."""
    found = metrics_calls.read_metrics(transport, info, RowRequest(row_limit=info.row_count))
    announced = next(found, None)
    if announced is None or not announced.schema.names:
        return None
    return TableRows(info, announced.schema, _alike(found, announced.schema, progress))


def _alike(batches: Iterator[pa.RecordBatch], schema: pa.Schema, progress: Progress) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        if not batch.num_rows:
            continue
        progress(batch.num_rows)
        if batch.schema.equals(schema):
            yield batch
            continue
        # A read that was broken and went on may have found columns that were not there when it began.
        names = batch.schema.names
        columns = [
            batch.column(field.name).cast(field.type) if field.name in names else pa.nulls(batch.num_rows, field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
