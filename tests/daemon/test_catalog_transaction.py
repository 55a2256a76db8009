"""Scans of the catalog against a sorted list, at the edges where keys end in 0xff above all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import lmdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rund_daemon.catalog.shelves import META
from rund_daemon.catalog.transaction import Change, Snapshot

# Few different bytes, so that keys share prefixes; 0xff has no byte above it.
KEYS = st.lists(st.sampled_from([0x00, 0x01, 0x61, 0xFE, 0xFF]), min_size=1, max_size=4).map(bytes)
Opened = tuple[lmdb.Environment, dict[str, object]]
PREFIXES = st.one_of(st.just(b""), KEYS)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    opened = lmdb.Environment(str(tmp_path_factory.mktemp("lmdb")), max_dbs=2, lib_version=0, sync=False)
    databases = {"meta": opened.open_db(b"meta")}
    yield opened, databases
    opened.close()


def filled(environment: Opened, keys: Iterable[bytes]) -> tuple[lmdb.Transaction, Change]:
    """A transaction that has these keys and is never committed."""
    opened, databases = environment
    txn = opened.begin(write=True)
    change = Change(txn, databases)
    change.delete_all(META, b"")
    for key in keys:
        change.put(META, key, key)
    return txn, change


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(KEYS, max_size=30), prefix=PREFIXES, start=PREFIXES)
def test_a_scan_gives_what_a_sorted_list_gives(
    environment: Opened, keys: set[bytes], prefix: bytes, start: bytes
) -> None:
    txn, change = filled(environment, keys)
    try:
        below = [key for key in sorted(keys) if key.startswith(prefix)]
        assert [key for key, _ in change.scan(META, prefix)] == below
        assert [key for key, _ in change.scan(META, prefix, reverse=True)] == below[::-1]
        assert change.last(META, prefix) == ((below[-1], below[-1]) if below else None)
        assert change.count(META) == len(keys)
        if start.startswith(prefix) and start:
            assert [key for key, _ in change.scan(META, prefix, start=start)] == [k for k in below if k >= start]
            up_to = [key for key in below[::-1] if key < start]
            assert [key for key, _ in change.scan(META, prefix, start=start, reverse=True)] == up_to
    finally:
        txn.abort()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(keys=st.sets(KEYS, max_size=30), prefix=PREFIXES)
def test_deleting_all_leaves_the_others(environment: Opened, keys: set[bytes], prefix: bytes) -> None:
    txn, change = filled(environment, keys)
    try:
        assert change.delete_all(META, prefix) == sum(key.startswith(prefix) for key in keys)
        assert [key for key, _ in change.scan(META)] == sorted(key for key in keys if not key.startswith(prefix))
    finally:
        txn.abort()


def test_a_snapshot_sees_one_moment(environment: Opened) -> None:
    opened, databases = environment
    with opened.begin(write=True) as txn:
        Change(txn, databases).put(META, b"key", b"before")
    with opened.begin() as txn:
        snapshot = Snapshot(txn, databases)
        with opened.begin(write=True) as writing:
            Change(writing, databases).put(META, b"key", b"after")
        assert snapshot.get(META, b"key") == b"before"


def test_revisions_count_up_and_are_taken_back_with_their_transaction(environment: Opened) -> None:
    opened, databases = environment
    with opened.begin(write=True) as txn:
        change = Change(txn, databases)
        change.delete_all(META, b"")
        assert (change.revision, change.next_revision(), change.next_revision()) == (0, 1, 2)
    txn = opened.begin(write=True)
    assert Change(txn, databases).next_revision() == 3
    txn.abort()
    with opened.begin() as reading:
        assert Snapshot(reading, databases).revision == 2


def test_missing_keys(environment: Opened) -> None:
    txn, change = filled(environment, {b"a"})
    try:
        assert change.get(META, b"b") is None
        assert change.has(META, b"a")
        assert not change.has(META, b"b")
        assert change.delete(META, b"a")
        assert not change.delete(META, b"a")
        assert change.last(META) is None
    finally:
        txn.abort()
