"""Input tables: written through the daemon, or registered and read where they lie."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from rund_pb.v1 import metrics_pb2, run_pb2, table_pb2
from rund_pb.v1 import table_service_pb2 as ts

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    joined,
    new_id,
    read_input_table,
    running,
    stream_bytes,
    write_table,
)

PARENT = "projects/demo/datasets/d"
ROWS = pa.record_batch({"id": range(10), "label": [n % 3 for n in range(10)], "text": [f"t{n}" for n in range(10)]})


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("tables") / "root")


def get(daemon: RawDaemon, **key: str) -> table_pb2.Table:
    return daemon.rpc.GetTable(ts.GetTableRequest(**key)).table


def register(daemon: RawDaemon, url: str, **fields: Any) -> table_pb2.Table:
    return daemon.rpc.RegisterTable(ts.RegisterTableRequest(url=url, request_id=new_id(), **fields)).table


# --- written tables ---


def test_a_table_is_written_and_read(daemon: RawDaemon) -> None:
    table = write_table(
        daemon,
        ROWS.slice(0, 4),
        ROWS.slice(4),
        table_id="rows ü",
        description="d",
        columns=[metrics_pb2.ColumnSchema(name="label", role=metrics_pb2.COLUMN_ROLE_LABEL, value_map={0: "zero"})],
    )
    assert (table.name, table.row_count, table.registered) == (f"{PARENT}/tables/rows ü", 10, False)
    assert table.url == f"{daemon.root}/demo/datasets/d/tables/rows ü"
    assert (table.format, table.description) == (table_pb2.TABLE_FORMAT_ARROW, "d")
    assert {column.name: dict(column.value_map) for column in table.columns}["label"] == {0: "zero"}
    assert get(daemon, name=table.name) == get(daemon, url=table.url) == table
    found = read_input_table(daemon, table.name)
    assert found.to_pylist() == ROWS.to_pylist()
    with pa.ipc.open_file(Path(table.url) / "data.arrow") as file:
        assert file.read_all().to_pylist() == ROWS.to_pylist(), "other programs read it too"


def test_the_same_rows_are_the_same_table_and_others_are_refused_or_a_revision(daemon: RawDaemon) -> None:
    first = write_table(daemon, ROWS, table_id="same")
    assert write_table(daemon, ROWS, table_id="same") == first
    other = ROWS.slice(1)
    with pytest.raises(RefusedError) as refused:
        write_table(daemon, other, table_id="same")
    assert refused.value.reason == "TABLE_EXISTS"
    revision = write_table(daemon, other, table_id="same", if_exists=run_pb2.IF_EXISTS_RENAME)
    assert revision.table_name == "same_0001"
    assert write_table(daemon, other, table_id="same", if_exists=run_pb2.IF_EXISTS_RENAME) == revision
    assert revision.input_table_id != first.input_table_id


def test_the_longest_names(daemon: RawDaemon) -> None:
    longest = "é" * 100
    dataset = f"projects/{longest}/datasets/{longest}"
    first = write_table(daemon, ROWS, dataset=dataset, table_id=longest)
    second = write_table(daemon, ROWS.slice(1), dataset=dataset, table_id=longest, if_exists=run_pb2.IF_EXISTS_RENAME)
    for table, rows in ((first, 10), (second, 9)):
        assert get(daemon, name=table.name).row_count == rows
        assert read_input_table(daemon, table.name).num_rows == rows


def test_a_table_without_rows(daemon: RawDaemon) -> None:
    table = write_table(daemon, ROWS.slice(0, 0), table_id="empty")
    assert table.row_count == 0
    assert read_input_table(daemon, table.name).schema.names == ["id", "label", "text"]


def test_ranges_filters_and_columns(daemon: RawDaemon) -> None:
    table = write_table(daemon, ROWS, table_id="ranges").name
    assert read_input_table(daemon, table, start_row=8, row_limit=5).column("id").to_pylist() == [8, 9]
    assert read_input_table(daemon, table, filter="label = 1", columns=["text"]).column("text").to_pylist() == [
        "t1",
        "t4",
        "t7",
    ]
    assert read_input_table(daemon, table, start_row=4, row_limit=3, filter="label = 1").num_rows == 1
    assert read_input_table(daemon, table, columns=[]).num_rows == 10
    assert read_input_table(daemon, table, columns=["label", "id"]).schema.names == ["label", "id"]


@pytest.mark.parametrize("filter_text", ["", "x >= 1000"])
def test_a_broken_read_goes_on_where_it_was(daemon: RawDaemon, tmp_path: Path, filter_text: str) -> None:
    rows = pa.table({"x": np.arange(100_000), "pad": ["p" * 100] * 100_000})
    pq.write_table(rows, tmp_path / "large.parquet", row_group_size=30_000)
    table = register(daemon, str(tmp_path / "large.parquet"))
    pieces = list(daemon.rpc.ReadTable(ts.ReadTableRequest(name=table.name, filter=filter_text)))
    whole = joined(pieces).column("x").to_pylist()
    assert whole == list(range(1_000 if filter_text else 0, 100_000))
    assert len(pieces) > 5
    for broken_at in (0, 1, 3, len(pieces) - 1):
        request = ts.ReadTableRequest(name=table.name, filter=filter_text, start_row=pieces[broken_at].next_row)
        rest = joined(daemon.rpc.ReadTable(request)).column("x").to_pylist()
        assert joined(pieces[: broken_at + 1]).column("x").to_pylist() + rest == whole


def test_tables_are_listed_newest_first_in_pages(daemon: RawDaemon) -> None:
    made = [write_table(daemon, ROWS, dataset="projects/listed/datasets/d", table_id=f"t{n}").name for n in range(5)]
    write_table(daemon, ROWS, dataset="projects/listed/datasets/other", table_id="t")
    found, token = [], ""
    while True:
        request = ts.ListTablesRequest(parent="projects/listed/datasets/d", page_size=2, page_token=token)
        page = daemon.rpc.ListTables(request)
        found += [table.name for table in page.tables]
        token = page.next_page_token
        if not token:
            break
    assert found == made[::-1]
    parents = {"projects/listed/datasets/-": 6, "projects/listed/datasets/other": 1, "projects/nobody/datasets/-": 0}
    for parent, count in parents.items():
        assert len(daemon.rpc.ListTables(ts.ListTablesRequest(parent=parent)).tables) == count


def test_a_caller_that_goes_away_leaves_nothing(daemon: RawDaemon) -> None:
    """Nothing half-written, and no table without its rows, at whatever moment it goes."""
    request = ts.WriteTableRequest
    for moment in range(20):
        gone = threading.Event()

        def messages(number: int = moment, gone: threading.Event = gone) -> Iterator[ts.WriteTableRequest]:
            yield request(open=request.Open(parent=PARENT, table_id=f"left{number}"))
            yield request(arrow_stream=stream_bytes(ROWS))
            if number % 2:
                gone.wait(5)

        call = daemon.new_channel()
        future = call.stream_unary(
            "/rund.v1.TableService/WriteTable", ts.WriteTableRequest.SerializeToString, ts.WriteTableResponse.FromString
        ).future(messages())
        time.sleep(moment / 2_000)
        future.cancel()
        gone.set()
        call.close()
    deadline = time.monotonic() + 60
    while list((daemon.root / "trash" / "new").glob("*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert list((daemon.root / "trash" / "new").glob("*")) == []
    for table in daemon.rpc.ListTables(ts.ListTablesRequest(parent=PARENT, page_size=1000)).tables:
        assert read_input_table(daemon, table.name).num_rows == table.row_count


# --- registered tables ---


def test_files_of_each_format_and_folders_of_them(daemon: RawDaemon, tmp_path: Path) -> None:
    rows = pa.table(ROWS)
    pq.write_table(rows, tmp_path / "a b.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", rows.schema) as writer:
        writer.write_table(rows)
    pyarrow.csv.write_csv(rows, tmp_path / "ü.csv")
    (tmp_path / "folder").mkdir()
    for number in range(3):
        pq.write_table(rows.slice(number * 3, 4 if number == 2 else 3), tmp_path / "folder" / f"part-{number}.parquet")
    kinds = {"a b.parquet": "PARQUET", "a.arrow": "ARROW", "ü.csv": "CSV", "folder": "PARQUET"}
    for name, kind in kinds.items():
        table = register(daemon, str(tmp_path / name))
        assert (table.row_count, table.registered, table.url) == (10, True, str(tmp_path / name))
        assert table_pb2.TableFormat.Name(table.format) == f"TABLE_FORMAT_{kind}"
        assert read_input_table(daemon, table.name).to_pylist() == ROWS.to_pylist()
        spelled = f"file://localhost{tmp_path}/{name}".replace(" ", "%20").replace("ü", "%C3%BC")
        assert register(daemon, spelled).uid == table.uid
        assert get(daemon, url=spelled) == table


def test_a_changed_file_is_the_same_table_with_other_rows(daemon: RawDaemon, tmp_path: Path) -> None:
    path = tmp_path / "changing.csv"
    path.write_text("a\n1\n")
    first = register(daemon, str(path), description="kept")
    path.write_text("a,b\n1,x\n2,y\n")
    second = register(daemon, str(path))
    assert (second.uid, second.name, second.input_table_id) == (first.uid, first.name, first.input_table_id)
    assert (second.row_count, [column.name for column in second.columns]) == (2, ["a", "b"])
    assert second.description == "kept"
    path.unlink()
    with pytest.raises(RefusedError) as refused:
        read_input_table(daemon, first.name)
    assert refused.value.reason == "TABLE_NOT_FOUND"


def test_a_place_of_its_own(daemon: RawDaemon, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    path.write_text("a\n1\n")
    table = register(daemon, str(path), parent="projects/p/datasets/d", table_id="mine")
    assert table.name == "projects/p/datasets/d/tables/mine"
    assert read_input_table(daemon, table.name).num_rows == 1


def test_broken_files_are_named(daemon: RawDaemon, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pq.write_table(pa.table(ROWS), tmp_path / "x.parquet")
    whole = (tmp_path / "x.parquet").read_bytes()
    for number in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            broken[at] ^= 1 << int(rng.integers(8))
        path = tmp_path / f"broken{number}.parquet"
        path.write_bytes(broken[: int(rng.integers(len(broken) // 2, len(broken)))] if number % 3 == 0 else broken)
        try:
            read_input_table(daemon, register(daemon, str(path)).name)
        except RefusedError as refused:
            assert refused.code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")  # noqa: PT017  # some survive
            assert refused.reason in ("INVALID_URL", "INVALID_COLUMN", "OVER_LIMIT")  # noqa: PT017
    assert daemon.process.poll() is None
    assert not daemon.log("request_failed")
