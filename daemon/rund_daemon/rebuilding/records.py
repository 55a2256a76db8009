"""Puts rebuilt records into a catalog."""

from __future__ import annotations

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.lookup import INPUT, OUTPUT
from rund_daemon.catalog.run_values import put_value
from rund_daemon.model import InputTable, KeptReducer, Revision, Segment, Uid
from rund_daemon.segments.spare_numbers import spare_state

from .metrics_tables import RebuiltTable
from .runs import RebuiltRun

# Some changes may be missing, and no revision is given twice: whoever watches would not see the second one.
_REVISIONS_LEFT_OUT = 1 << 20


def put_run(change: Change, built: RebuiltRun) -> None:
    """Puts a run with its values and tables."""
    run = built.run
    change.put(shelves.RUNS, run.uid, run)
    change.put(shelves.PROJECT_RUNS, keys.project_run(run.project, run.uid), run.uid)
    if run.delete_time:
        change.put(shelves.TRASH_NAMES, keys.trash_name(run.project, run.name, run.uid), run.uid)
    else:
        change.put(shelves.RUN_NAMES, keys.names(run.project, run.name), run.uid)
        if not run.status.ended:
            change.put(shelves.LIVE_RUNS, run.uid, b"")
    put_contents(change, built)
    change.put(shelves.SNAPSHOTS, run.uid, b"")


def put_contents(change: Change, built: RebuiltRun) -> None:
    """Puts the values and tables of a run."""
    run = built.run
    numbered = [(INPUT, value) for value in built.inputs] + [(OUTPUT, value) for value in built.outputs]
    for number, (kind, value) in enumerate(numbered):
        put_value(change, run.uid, kind, number, value)
    for table in built.tables:
        _put_table(change, run.uid, table)


def put_input_table(change: Change, table: InputTable) -> None:
    """Puts an input table."""
    change.put(shelves.INPUT_TABLES, table.uid, table)
    name = keys.digest(table.project, table.dataset, table.name)
    change.put(shelves.INPUT_TABLE_NAMES, name, table.uid)
    if table.registered_url:
        change.put(shelves.INPUT_TABLE_URLS, keys.digest(table.registered_url), table.uid)
    change.put(shelves.SNAPSHOTS, table.uid, b"")


def put_reducer(change: Change, reducer: KeptReducer) -> None:
    """Puts a reducer."""
    change.put(shelves.REDUCERS, reducer.uid, reducer)
    change.put(shelves.REDUCER_NAMES, keys.names(reducer.project, reducer.name), reducer.uid)


def put_counters(change: Change, revision: Revision, next_input_table_id: int) -> None:
    """Sets what is counted from."""
    change.put(shelves.META, keys.REVISION, keys.u64(revision + _REVISIONS_LEFT_OUT))
    change.put(shelves.META, keys.NEXT_INPUT_TABLE_ID, keys.u32(next_input_table_id))


def _put_table(change: Change, run: Uid, built: RebuiltTable) -> None:
    table = built.table
    key = keys.numbered(run, table.number)
    change.put(shelves.TABLES, key, table)
    change.put(shelves.TABLE_UIDS, table.uid, key)
    if table.name:
        change.put(shelves.TABLE_NAMES, keys.named(run, table.name), table.number)
    change.put(shelves.MARKS, table.uid, built.mark)
    for segment in built.segments:
        segment_key = keys.numbered(table.uid, segment.number)
        change.put(shelves.SEGMENTS, segment_key, segment)
        state = _state(built, segment)
        if state is not None:
            change.put(shelves.OPEN_SEGMENTS, segment_key, state)
    for ref in built.refs:
        change.put(shelves.BATCHES, keys.batch(table.uid, ref.first_row), ref)
    for stream_id, mark in built.streams.items():
        change.put(shelves.STREAMS, keys.named(table.uid, stream_id), mark)


def _state(built: RebuiltTable, segment: Segment) -> bytes | None:
    """Sealed files may still be joined, too, with neighbours and under a number that lies between theirs."""
    if not segment.sealed:
        return b""
    numbers = {other.number for other in built.segments}
    spare = segment.number + 1
    is_free = spare not in numbers and spare < built.mark.next_segment
    return spare_state(spare) if len(numbers) > 1 and is_free else None
