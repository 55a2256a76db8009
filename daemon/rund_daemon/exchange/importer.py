"""Writes foreign runs through the client, each row once, however often it is done and wherever it is interrupted.

A run is found again by the label `import_id`, made of the source's own identity. A table's rows come through one
write stream for each part of the source, always of the same name: the daemon keeps in the commit of the rows where in
the source they end, and from there it goes on. An import that is killed leaves the beginning of the run, FAILED with
its cause; the same import again completes it.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

import pyarrow as pa
from rund._columns import columns_from
from rund._errors import MetricsTableExistsError, NotFoundError
from rund._identity import new_writer_id, this_writer
from rund._transport import CALL_TIMEOUT_S, Transport, WriteStream, metrics_calls, run_calls
from rund._transport.run_calls import NewRun, RunChange, RunQuery
from rund._types import MetricTableInfo, RunInfo, RunStatus

from .foreign import Chunk, ForeignRun, ForeignTable, clean_name

ID_LABEL, FORMAT_LABEL = "import_id", "import_from"
MAX_LABELS = 64
MAX_LABEL_BYTES = 255
_RESERVED_PROJECTS = frozenset({"catalog", "journals", "run", "trash", "-"})
_ENDS = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)

Progress = Callable[[int], None]
"""Called with the number of rows that were read since the last call."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """How to import.

    Attributes:
        project: project to import into; empty: the source's.
        run: name for the run; empty: the source's.
        dry: whether nothing is written.
    """

    project: str = ""
    run: str = ""
    dry: bool = False


@dataclass(slots=True)
class Imported:
    """What became of a foreign run.

    Attributes:
        run: `project/run`.
        source: where it was read from.
        created: whether the run was not there before.
        status: how it ended.
        rows: rows that were added, or would be, by table.
        left_out: what could not be kept, with counts.
        damage: what could not be read.
        cut_off: files that end in the middle of a record.
    """

    run: str
    source: str
    created: bool
    status: str
    rows: dict[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    damage: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)


def import_run(transport: Transport, run: ForeignRun, wishes: Wishes, progress: Progress) -> Imported:
    """Imports a run, or what is new of it.

    Raises:
        RundError: the daemon refused something; what was written before stays, and the import can be repeated.
    """
    project = clean_name(wishes.project) if wishes.project else run.project
    if project.lower() in _RESERVED_PROJECTS:
        project += "_"
    name = clean_name(wishes.run) if wishes.run else run.name
    there = _find(transport, project, name, _import_id(run))
    writer_id = new_writer_id()
    target = there
    if there is None and not wishes.dry:
        target = _create(transport, run, project, name, writer_id)
    result = Imported(f"{project}/{target.name if target else name}", run.source, there is None, "")
    for table in run.tables:
        rows = _import_table(transport, target, table, wishes.dry, progress)
        result.rows[table.name] = result.rows.get(table.name, 0) + rows
    if target is not None and not wishes.dry:
        _settle(transport, target, run, writer_id if there is None else "")
    result.status = run.status.name
    result.left_out, result.damage, result.cut_off = dict(run.notes.left_out), run.notes.damage, run.notes.cut_off
    return result


def _import_id(run: ForeignRun) -> str:
    return hashlib.sha256(run.identity.encode(errors="replace")).hexdigest()[:32]


def _find(transport: Transport, project: str, name: str, import_id: str) -> RunInfo | None:
    try:
        named = run_calls.get_run(transport, name=f"projects/{project}/runs/{name}")
    except NotFoundError:
        pass
    else:
        if named.labels.get(ID_LABEL) == import_id:
            return named
    # It may have been renamed, or have got another name because its own was taken.
    query = RunQuery(project, filter=f'labels.{ID_LABEL} = "{import_id}"', page_size=1)
    found = next(run_calls.list_runs(transport, query), None)
    return None if found is None else run_calls.get_run(transport, uid=found.uid)


def _create(transport: Transport, run: ForeignRun, project: str, name: str, writer_id: str) -> RunInfo:
    import_id = _import_id(run)
    new = NewRun(
        project_name=project,
        run_name=name,
        description=run.description,
        labels=_labels(run),
        parameters=run.parameters,
        # Two imports of one source at a time join one run.
        launch_id=f"import {import_id}",
        writer=this_writer(writer_id),
    )
    created, _ = run_calls.create_run(transport, new)
    return created


def _labels(run: ForeignRun) -> dict[str, str]:
    labels = {ID_LABEL: _import_id(run), FORMAT_LABEL: run.format}
    for key, value in run.labels.items():
        if len(labels) >= MAX_LABELS or not key or max(len(key.encode()), len(value.encode())) > MAX_LABEL_BYTES:
            run.notes.left_out[f"label {key[:60]!r}, which is too long or one too many"] = 1
        else:
            labels.setdefault(key, value)
    return labels


def _import_table(
    transport: Transport, target: RunInfo | None, table: ForeignTable, dry: bool, progress: Progress
) -> int:
    name = f"{target.resource_name}/metrics/{table.name}" if target is not None else ""
    known = _known_types(transport, name) if name else None
    if target is None or (dry and known is None):
        return sum(_passed(chunk, progress) for chunk in table.read(0, {}))
    chunks: Iterator[Chunk] = iter(())
    if known is None:
        # Not before there are rows: a table that stays empty would say that something was measured.
        chunks = table.read(0, {})
        first = next(chunks, None)
        if first is None:
            return 0
        chunks = chain((first,), chunks)
        _create_table(transport, target, table, first)
    stream = WriteStream(transport, name, stream_id=_stream_id(table))
    try:
        position = stream.resume()
        if known is not None or position:
            # Someone else may have made the table just now.
            chunks = table.read(position, known or _known_types(transport, name) or {})
        if dry:
            return sum(_passed(chunk, progress) for chunk in chunks)
        rows = sum(_sent(stream, chunk, progress) for chunk in chunks)
        stream.close()
    except BaseException:
        stream.abort()
        raise
    finally:
        if dry:
            stream.abort()
    return rows


def _known_types(transport: Transport, name: str) -> dict[str, pa.DataType] | None:
    """Types of the columns of a table; None when it is not there."""
    try:
        info = metrics_calls.get_metrics_table(transport, name)
    except NotFoundError:
        return None
    schema = pa.ipc.read_schema(pa.py_buffer(info.arrow_schema)) if info.arrow_schema else pa.schema([])
    return {column.name: column.type for column in schema}


def _create_table(transport: Transport, target: RunInfo, table: ForeignTable, first: Chunk) -> None:
    columns = columns_from(first.batch)
    info = MetricTableInfo(url="", name=table.name, stream_name=table.stream_name, columns=columns.schemas)
    try:
        metrics_calls.create_metrics_table(transport, target.resource_name, info)
    except MetricsTableExistsError:
        return


def _stream_id(table: ForeignTable) -> str:
    return "import-" + hashlib.sha256(table.part.encode(errors="replace")).hexdigest()[:40]


def _sent(stream: WriteStream, chunk: Chunk, progress: Progress) -> int:
    (batch,) = columns_from(chunk.batch).table.combine_chunks().to_batches()
    stream.write(batch, chunk.position)
    return _passed(chunk, progress)


def _passed(chunk: Chunk, progress: Progress) -> int:
    progress(chunk.batch.num_rows)
    return chunk.batch.num_rows


def _settle(transport: Transport, target: RunInfo, run: ForeignRun, writer_id: str) -> None:
    """Brings everything but the rows to what the source says now; what is so already is not touched."""
    there = run_calls.get_run(transport, uid=target.uid)
    name = there.resource_name
    labels = _merged_labels(there, run)
    if labels != dict(there.labels):
        run_calls.update_run(transport, name, RunChange(labels=labels))
    changed = {key: value for key, value in run.parameters.items() if not _is_there(value, [there.parameters.get(key)])}
    if changed:
        run_calls.set_parameters(transport, name, changed)
    for value in run.inputs:
        if not _is_there(value, there.inputs):
            run_calls.add_input_value(transport, name, value, _request_id(there, "input", value))
    for value in run.outputs:
        if not _is_there(value, there.outputs):
            run_calls.add_output_value(transport, name, value, _request_id(there, "output", value))
    if writer_id or (there.status, there.cause) != (run.status, run.cause):
        _finish(transport, name, run, writer_id)


def _finish(transport: Transport, name: str, run: ForeignRun, writer_id: str) -> None:
    ended = run.status in _ENDS
    status = run.status if ended else RunStatus.COMPLETED
    cause = run.cause if run.status is RunStatus.FAILED else None
    run_calls.finish_run(transport, name, status, cause, writer_id, timeout_s=CALL_TIMEOUT_S)
    if not ended:
        # Nobody writes to it here, so nobody would end it: that is the next import's.
        run_calls.update_run(transport, name, RunChange(status=run.status))


def _merged_labels(there: RunInfo, run: ForeignRun) -> dict[str, str]:
    """The run's labels, those of its owner first, with where and when it comes from."""
    origin = {"import_source": run.source}
    # A source that was read on from a position has told of its rest alone.
    if run.started:
        origin["import_started"] = _earlier(there.labels.get("import_started", ""), run.started)
    if run.ended and run.status in _ENDS:
        origin["import_ended"] = _later(there.labels.get("import_ended", ""), run.ended)
    room = MAX_LABELS - len(there.labels.keys() | origin.keys())
    fresh = [(key, value) for key, value in _labels(run).items() if key not in there.labels][: max(0, room)]
    fitting = {key: value for key, value in origin.items() if len(value.encode(errors="replace")) <= MAX_LABEL_BYTES}
    return {**dict(fresh), **there.labels, **fitting}


def _earlier(text: str, moment: datetime) -> str:
    return min(text or _text(moment), _text(moment))


def _later(text: str, moment: datetime) -> str:
    return max(text, _text(moment))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _is_there(value: object, values: Iterable[object]) -> bool:
    # By their text: a NaN is another value than itself.
    return repr(value) in map(repr, values)


def _request_id(run: RunInfo, kind: str, value: object) -> str:
    return str(uuid.uuid5(uuid.UUID(run.uid), f"{kind} {value!r}"))
