"""The key tree is drawn as it is, every key fits LMDB, and every record comes back as it went in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund_daemon import model
from rund_daemon.catalog import Change, keys, records, row_records, run_records, shelves
from rund_daemon.catalog.requests import KEPT_MICROS, find_request, forget_requests, keep_request, once
from rund_daemon.errors import InvalidError, Reason
from rund_daemon.model import KeptRequest, Micros, RequestKey, Uid
from rund_daemon.names import MAX_NAME_BYTES

from tests.daemon.rooms import Rooms, run_in

LMDB_MAX_KEY = 511
LONG = "ü" * (MAX_NAME_BYTES // 2)
UID = Uid(bytes(range(16)))


# What the drawing calls a value, and the function that encodes it.
ENCODERS = {
    "bytes": "_same",
    "nothing": "_same",
    "state": "_same",
    "run uid": "bytes",
    "table uid": "bytes",
    "reducer uid": "bytes",
    "run uid, u32 number": "_same",
    "u32 number": "_number_to_bytes",
    "MapValue": "values_to_bytes",
    "MetricsTable": "table_to_bytes",
    "TableMark": "mark_to_bytes",
    "InputTable": "input_table_to_bytes",
    "FolderMove": "move_to_bytes",
}


def drawn() -> dict[str, str]:
    """What the drawing says each database holds, by the database's name."""
    return dict(re.findall(r"[├└]── (\w+) .*→ (.+?)(?:  .*|, see .*)?$", keys.__doc__ or "", re.MULTILINE))


def test_every_database_is_drawn_and_every_drawing_is_a_database() -> None:
    assert set(drawn()) == {shelf.name for shelf in shelves.SHELVES}
    assert len({shelf.name for shelf in shelves.SHELVES}) == len(shelves.SHELVES)


@pytest.mark.parametrize("shelf", shelves.SHELVES, ids=lambda shelf: shelf.name)
def test_the_drawing_says_what_a_database_holds(shelf: shelves.Shelf[object]) -> None:
    held = drawn()[shelf.name]
    assert shelf.encode.__name__ == ENCODERS.get(held, f"{held.lower()}_to_bytes")


@pytest.mark.parametrize(
    "key",
    [
        keys.names(LONG, LONG),
        keys.trash_name(LONG, LONG, UID),
        keys.project_run(LONG, UID),
        keys.digest(LONG, LONG, LONG),
        keys.numbered(UID, 2**32 - 1),
        keys.batch(UID, 2**64 - 1),
        keys.value(UID, b"i", 2**32 - 1),
        keys.named(UID, LONG),
    ],
)
def test_the_longest_keys_fit(key: bytes) -> None:
    assert 1 <= len(key) <= LMDB_MAX_KEY


def test_numbers_sort_as_numbers() -> None:
    some = [0, 1, 255, 256, 65_535, 2**31, 2**32 - 1]
    assert sorted(some, key=keys.u32) == some
    assert sorted([*some, 2**63], key=keys.u64) == [*some, 2**63]


def test_names_do_not_run_into_each_other() -> None:
    assert not keys.names("ab", "c").startswith(keys.names_prefix("a"))
    assert keys.digest("a", "bc") != keys.digest("ab", "c")


# --- records ---

TEXT = st.text(max_size=10)
UIDS = st.binary(min_size=16, max_size=16).map(Uid)
MICROS = st.integers(0, 2**62).map(Micros)
COUNTS = st.integers(0, 2**62)
INT32 = st.integers(-(2**31), 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT, st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=8,
)
MAPS = st.dictionaries(TEXT, VALUES, max_size=4)
STATUSES = st.sampled_from(model.RunStatus)
CAUSES = st.builds(model.Cause, st.sampled_from(model.CauseKind), TEXT, INT32, INT32, MICROS)
WRITERS = st.builds(
    model.Writer,
    TEXT,
    TEXT,
    TEXT,
    COUNTS,
    COUNTS,
    INT32,
    MICROS,
    st.one_of(st.none(), STATUSES),
    st.one_of(st.none(), CAUSES),
    COUNTS,
    COUNTS,
)
ENDS = st.builds(model.RunEnd, STATUSES, st.one_of(st.none(), CAUSES), MICROS)
COLUMNS = st.builds(
    model.ColumnSchema,
    TEXT,
    st.sampled_from(model.ColumnRole),
    TEXT,
    TEXT,
    TEXT,
    st.dictionaries(st.integers(-(2**63), 2**63 - 1), TEXT, max_size=3),
    st.booleans(),
)
RUNS = st.builds(
    model.Run,
    uid=UIDS,
    project=TEXT,
    name=TEXT,
    create_time=MICROS,
    update_time=MICROS,
    revision=COUNTS.map(model.Revision),
    description=TEXT,
    status=STATUSES,
    cause=st.one_of(st.none(), CAUSES),
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    parameters=MAPS,
    init_parameters=MAPS,
    input_table_urls=st.lists(TEXT, max_size=3).map(tuple),
    delete_time=MICROS,
    expire_time=MICROS,
    writers=st.lists(WRITERS, max_size=2).map(tuple),
    ends=st.lists(ENDS, max_size=2).map(tuple),
    next_value=UINT32,
    next_table=UINT32,
)
TABLES = st.builds(
    model.MetricsTable,
    uid=UIDS,
    run_uid=UIDS,
    number=UINT32,
    name=TEXT,
    create_time=MICROS,
    stream_name=TEXT,
    reference_url=TEXT,
    reference_row_count=COUNTS,
    reference_file_size=COUNTS,
    foreign_table_url=TEXT,
    foreign_table_display_name=TEXT,
    foreign_row_count=st.integers(-1, 2**62),
    input_table_id=INT32,
    columns=st.lists(COLUMNS, max_size=3).map(tuple),
    constants=MAPS,
    sealed=st.booleans(),
    arrow_schema=st.binary(max_size=20),
)
INPUT_TABLES = st.builds(
    model.InputTable,
    uid=UIDS,
    project=TEXT,
    dataset=TEXT,
    name=TEXT,
    create_time=MICROS,
    row_count=COUNTS,
    file_size=COUNTS,
    format=st.sampled_from(model.TableFormat),
    input_table_id=INT32,
    arrow_schema=st.binary(max_size=20),
    description=TEXT,
    registered_url=TEXT,
    columns=st.lists(COLUMNS, max_size=3).map(tuple),
    content_hash=st.binary(max_size=16),
)
OPERATIONS = st.builds(
    model.Operation,
    uid=UIDS,
    method=TEXT,
    target=TEXT,
    create_time=MICROS,
    end_time=MICROS,
    progress=st.floats(0, 1),
    message=TEXT,
    cancel_requested=st.booleans(),
    error_reason=TEXT,
    error_message=TEXT,
    result_run_uid=UIDS,
)
INT64 = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False)
RANGES = st.lists(
    st.one_of(
        st.builds(model.ColumnRange, st.sampled_from(model.RANGED_COLUMNS), INT64, INT64),
        st.builds(model.ColumnRange, st.sampled_from(model.RANGED_COLUMNS), FLOATS, FLOATS),
    ),
    unique_by=lambda item: item.column,
).map(lambda items: tuple(sorted(items, key=lambda item: model.RANGED_COLUMNS.index(item.column))))
REDUCERS = st.builds(
    model.KeptReducer,
    uid=UIDS,
    project=TEXT,
    name=TEXT,
    create_time=MICROS,
    parameters=TEXT,
    source_column=TEXT,
    target_column=TEXT,
    fit_table_url=TEXT,
    fit_row_count=COUNTS,
    input_width=st.integers(0, 2**31 - 1),
    fingerprint=st.binary(max_size=32),
    library_versions=st.dictionaries(TEXT, TEXT, max_size=3),
    quality=st.dictionaries(TEXT, FLOATS, max_size=3),
    warnings=st.lists(TEXT, max_size=3).map(tuple),
)
RECORDS = {
    "run": RUNS,
    "values": MAPS,
    "table": TABLES,
    "mark": st.builds(model.TableMark, COUNTS, COUNTS, COUNTS, MICROS, UINT32),
    "segment": st.builds(model.Segment, UINT32, st.booleans(), COUNTS, COUNTS, st.binary(max_size=20), COUNTS),
    "batch": st.builds(model.BatchRef, UINT32, COUNTS, COUNTS, COUNTS, st.integers(0, 2**64 - 1), COUNTS, RANGES),
    "input_table": INPUT_TABLES,
    "operation": OPERATIONS,
    "reducer": REDUCERS,
    "event": st.builds(model.Event, COUNTS.map(model.Revision), st.sampled_from(model.EventType), UIDS, TEXT),
    "stream": st.builds(model.StreamMark, COUNTS, MICROS, COUNTS),
    "request": st.builds(KeptRequest, TEXT, st.binary(max_size=48), UIDS, MICROS, st.booleans()),
    "move": st.builds(model.FolderMove, TEXT, TEXT),
}
CONVERSIONS = vars(records) | vars(run_records) | vars(row_records)


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_comes_back_as_it_went_in(name: str) -> None:
    @settings(max_examples=60, deadline=None)
    @given(RECORDS[name])
    def round_trip(record: object) -> None:
        data = CONVERSIONS[f"{name}_to_bytes"](record)
        assert CONVERSIONS[f"{name}_from_bytes"](data) == record

    round_trip()


def test_every_record_is_tested() -> None:
    assert {name.removesuffix("_to_bytes") for name in CONVERSIONS if name.endswith("_to_bytes")} == set(RECORDS)


# --- requests ---


def request(request_id: str, method: str = "CreateRun", fingerprint: bytes = b"f") -> RequestKey:
    return RequestKey(request_id, method, fingerprint)


def test_a_request_is_carried_out_once(tmp_path: Path) -> None:
    carried_out: list[int] = []

    def do(change: Change, key: RequestKey, known: bool = True) -> tuple[Uid, bool]:
        def carry_out() -> Uid:
            carried_out.append(1)
            return UID

        return once(change, key, Micros(5), carry_out, lambda uid: uid, lambda uid: uid if known else None)

    async def work(rooms: Rooms) -> None:
        submit = rooms.catalog.submit
        assert await submit(lambda change: do(change, request("a"))) == (UID, True)
        assert await submit(lambda change: do(change, request("a"))) == (UID, False)
        assert len(carried_out) == 1
        for other in (request("a", method="DeleteRun"), request("a", fingerprint=b"g")):
            with pytest.raises(InvalidError) as reused:
                await submit(lambda change, other=other: do(change, other))
            assert reused.value.reason is Reason.REQUEST_ID_REUSED
        # Without an id nothing is remembered; what was made and is gone is made again.
        assert await submit(lambda change: do(change, request(""))) == (UID, True)
        assert await submit(lambda change: do(change, request(""))) == (UID, True)
        assert await submit(lambda change: do(change, request("a"), known=False)) == (UID, True)

    run_in(tmp_path, work)


def test_old_requests_are_forgotten_and_young_ones_kept(tmp_path: Path) -> None:
    async def work(rooms: Rooms) -> None:
        submit = rooms.catalog.submit

        def keep(change: Change) -> None:
            for number in range(10):
                key = request(f"{number}")
                keep_request(change, key, KeptRequest(key.method, key.fingerprint, UID, Micros(1000 + number)))

        await submit(keep)
        now = Micros(1004 + KEPT_MICROS)
        assert await submit(lambda change: forget_requests(change, now, 2)) == 2
        assert await submit(lambda change: forget_requests(change, now, 100)) == 3
        assert await submit(lambda change: forget_requests(change, now, 100)) == 0
        with rooms.catalog.snapshot() as snapshot:
            known = [find_request(snapshot, request(f"{number}")) is not None for number in range(10)]
            assert snapshot.count(shelves.REQUEST_TIMES) == snapshot.count(shelves.REQUESTS) == 5
        assert known == [False] * 5 + [True] * 5

    run_in(tmp_path, work)
