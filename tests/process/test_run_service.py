"""What may be done to a run, done."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from rund_pb.v1 import metrics_pb2, run_pb2
from rund_pb.v1 import run_service_pb2 as rs

from tests.process.raw_daemon import (
    RawDaemon,
    RefusedError,
    create_run,
    create_table,
    get_run,
    new_id,
    plain,
    read,
    running,
    values,
    write_batches,
    write_table,
)

ONE = pa.record_batch({"x": [1]})


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    yield from running(tmp_path_factory.mktemp("runs") / "root")


@pytest.fixture
def run(daemon: RawDaemon) -> str:
    return create_run(daemon).name


def update(daemon: RawDaemon, name: str, *paths: str, **fields: object) -> run_pb2.Run:
    changed = run_pb2.Run(name=name, **fields)  # type: ignore[arg-type]
    mask = FieldMask(paths=paths) if paths else None
    return daemon.rpc.UpdateRun(rs.UpdateRunRequest(run=changed, update_mask=mask, request_id=new_id())).run


def names(daemon: RawDaemon, parent: str, **fields: object) -> list[str]:
    request = rs.ListRunsRequest(parent=parent, **fields)  # type: ignore[arg-type]
    return [found.run_name for found in daemon.rpc.ListRuns(request).runs]


# --- creating ---


def test_a_run_is_created_with_all_that_is_said_of_it(daemon: RawDaemon) -> None:
    said = run_pb2.Run(description="d", labels={"team": "vision"}, parameters=values({"lr": 0.1, "epochs": 10}))
    writer = run_pb2.Writer(writer_id=new_id(), host="h", boot_id="b", pid=5, start_ticks=6, rank=7)
    run = create_run(daemon, "first", run=said, writer=writer)
    assert (run.name, run.project_name, run.run_name) == ("projects/demo/runs/first", "demo", "first")
    assert run.url == f"{daemon.root}/demo/runs/first"
    assert run.bulk_data_url == f"{run.url}/bulk_data"
    assert (run.description, dict(run.labels)) == ("d", {"team": "vision"})
    assert run.status == run_pb2.RUN_STATUS_RUNNING
    assert plain(run.parameters) == plain(run.init_parameters) == {"lr": 0.1, "epochs": 10}
    assert [(w.pid, w.rank, w.HasField("finish_time")) for w in run.writers] == [(5, 7, False)]
    assert run.uid[14] == "7", "a UUIDv7"
    assert run.etag
    assert get_run(daemon, run.name) == run


@pytest.mark.parametrize("name", ["a b", "ünïcödé 日本語 🦊", "a..b", "%2e%2e", "x" * 200, "u\u0308"])
def test_names_of_any_script(daemon: RawDaemon, name: str) -> None:
    run = create_run(daemon, name, project=name)
    table = create_table(daemon, run.name, name)
    assert write_batches(daemon, table.name, ONE, seal=True) == 1
    assert read(daemon, table.name).num_rows == 1
    assert get_run(daemon, run.name).uid == run.uid
    assert daemon.rpc.GetRun(rs.GetRunRequest(url=run.url)).run.uid == run.uid
    assert Path(run.url).parent.parent.parent == daemon.root


@pytest.mark.parametrize("name", ["../up", "..", "a/b", "a\\b", ".", ".hidden", "a\0b", " a", "a\n", "x" * 201])
def test_names_that_could_leave_the_root_or_hide(daemon: RawDaemon, name: str) -> None:
    listed = rs.ListRunsRequest(parent="projects/-", page_size=1000)
    deadline = time.monotonic() + 60
    while not all(Path(run.url).exists() for run in daemon.rpc.ListRuns(listed).runs):
        assert time.monotonic() < deadline
        time.sleep(0.02)  # the folder of a run without rows is made a second later
    before = sorted([*daemon.root.parent.iterdir(), *daemon.root.iterdir()])
    for request in ({"run_name": name}, {"run_name": "ok", "project": name}):
        with pytest.raises(RefusedError) as refused:
            create_run(daemon, **request)  # type: ignore[arg-type]
        assert refused.value.reason == "INVALID_NAME"
    assert sorted([*daemon.root.parent.iterdir(), *daemon.root.iterdir()]) == before


def test_what_happens_when_the_name_is_taken(daemon: RawDaemon) -> None:
    first = create_run(daemon, "taken", run=run_pb2.Run(parameters=values({"a": 1, "b": 2})))
    assert create_run(daemon, "taken").run_name == "taken_0001"
    assert create_run(daemon, "taken", if_exists=run_pb2.IF_EXISTS_RENAME).run_name == "taken_0002"
    daemon.rpc.FinishRun(rs.FinishRunRequest(name=first.name, status=run_pb2.RUN_STATUS_FAILED))
    request = rs.CreateRunRequest(
        parent="projects/demo",
        run=run_pb2.Run(run_name="taken", description="again", parameters=values({"b": 3})),
        if_exists=run_pb2.IF_EXISTS_REUSE,
    )
    answer = daemon.rpc.CreateRun(request)
    reused = answer.run
    assert not answer.created
    assert (reused.uid, reused.description, reused.status) == (first.uid, "again", run_pb2.RUN_STATUS_RUNNING)
    assert plain(reused.parameters) == {"a": 1, "b": 3}
    assert plain(reused.init_parameters) == {"a": 1, "b": 2}
    assert [(end.status, end.HasField("cause")) for end in reused.ends] == [(run_pb2.RUN_STATUS_FAILED, True)]
    table = create_table(daemon, first.name, "t")
    write_batches(daemon, table.name, ONE)
    new = create_run(daemon, "taken", if_exists=run_pb2.IF_EXISTS_OVERWRITE)
    assert new.uid != first.uid
    assert not new.metrics
    assert daemon.rpc.GetRun(rs.GetRunRequest(uid=first.uid)).run.HasField("delete_time")


def test_runs_without_a_name_are_given_one(daemon: RawDaemon) -> None:
    found = {create_run(daemon, project="unnamed").run_name for _ in range(30)}
    assert len(found) == 30


def test_all_processes_of_a_launch_join_one_run(daemon: RawDaemon) -> None:
    def join(rank: int) -> rs.CreateRunResponse:
        writer = run_pb2.Writer(writer_id=new_id(), rank=rank)
        return daemon.rpc.CreateRun(
            rs.CreateRunRequest(parent="projects/demo", launch_id="slurm-1", writer=writer, request_id=new_id())
        )

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(join, range(16)))
    assert len({answer.run.uid for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1
    run = get_run(daemon, answers[0].run.name)
    assert sorted(writer.rank for writer in run.writers) == list(range(16))
    other = daemon.rpc.CreateRun(rs.CreateRunRequest(parent="projects/demo", launch_id="slurm-2")).run
    assert other.uid != run.uid


# --- finding ---


def test_a_run_is_found_by_name_url_and_uid(daemon: RawDaemon) -> None:
    run = create_run(daemon, "to find")
    for key in (
        {"name": run.name},
        {"url": run.url},
        {"url": f"file://{run.url}/".replace(" ", "%20")},
        {"uid": run.uid},
    ):
        assert daemon.rpc.GetRun(rs.GetRunRequest(**key)).run == run
    daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run.name, value=values({"a": 1})))
    full = get_run(daemon, run.name)
    basic = get_run(daemon, run.name, view=run_pb2.RUN_VIEW_BASIC)
    assert (len(full.outputs), len(basic.outputs)) == (1, 0)


def test_the_folder_for_side_files_is_made_when_it_is_asked_for(daemon: RawDaemon, run: str) -> None:
    assert not Path(get_run(daemon, run).bulk_data_url).exists()
    assert Path(get_run(daemon, run, make_bulk_data_folder=True).bulk_data_url).is_dir()


def test_lists_in_pages_with_filters_and_orders(daemon: RawDaemon) -> None:
    for number in range(25):
        create_run(daemon, f"run-{number:02}", "lists", run=run_pb2.Run(parameters=values({"lr": number / 10})))
    newest_first = [f"run-{number:02}" for number in reversed(range(25))]
    assert names(daemon, "projects/lists") == newest_first
    found, token = [], ""
    while True:
        page = daemon.rpc.ListRuns(rs.ListRunsRequest(parent="projects/lists", page_size=7, page_token=token))
        found += [run.run_name for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert found == newest_first
    assert names(daemon, "projects/lists", filter="parameters.lr >= 2.2") == ["run-24", "run-23", "run-22"]
    assert names(daemon, "projects/-", filter='run_name = "run-0*"', order_by="run_name", page_size=2) == [
        "run-00",
        "run-01",
    ]
    by_rate = names(daemon, "projects/lists", order_by="parameters.lr desc", page_size=3)
    assert by_rate == ["run-24", "run-23", "run-22"]
    daemon.rpc.DeleteRun(rs.DeleteRunRequest(name="projects/lists/runs/run-24"))
    assert names(daemon, "projects/lists", page_size=1) == ["run-23"]
    assert names(daemon, "projects/lists", page_size=1, show_deleted=True) == ["run-24"]
    assert names(daemon, "projects/nobody") == []


def test_a_page_token_belongs_to_its_list(daemon: RawDaemon) -> None:
    for _ in range(3):
        create_run(daemon, project="tokens")
    token = daemon.rpc.ListRuns(rs.ListRunsRequest(parent="projects/tokens", page_size=1)).next_page_token
    for other in ({"parent": "projects/-"}, {"parent": "projects/tokens", "filter": "status = RUNNING"}):
        with pytest.raises(RefusedError) as refused:
            daemon.rpc.ListRuns(rs.ListRunsRequest(page_token=token, **other))
        assert refused.value.reason == "INVALID_PAGE_TOKEN"


# --- changing ---


def test_a_mask_names_what_changes(daemon: RawDaemon, run: str) -> None:
    update(daemon, run, "labels", "description", description="one", labels={"a": "b"})
    changed = update(daemon, run, "description", description="two", labels={"not": "taken"})
    assert (changed.description, dict(changed.labels)) == ("two", {"a": "b"})
    assert not update(daemon, run, "labels").labels, "what the mask names is emptied"
    unmasked = update(daemon, run, description="three", parameters=values({"p": 1}))
    assert (unmasked.description, plain(unmasked.parameters)) == ("three", {"p": 1})
    failed = update(daemon, run, "status", "cause", status=run_pb2.RUN_STATUS_FAILED, cause=run_pb2.Cause(message="no"))
    assert failed.cause.message == "no"
    paused = update(daemon, run, "status", status=run_pb2.RUN_STATUS_PAUSED)
    assert not paused.HasField("cause")
    assert [end.cause.message for end in paused.ends] == ["no"]


def test_an_etag_guards_against_others(daemon: RawDaemon, run: str) -> None:
    seen = get_run(daemon, run)
    update(daemon, run, "description", description="by another")
    with pytest.raises(RefusedError) as refused:
        update(daemon, run, "description", description="mine", etag=seen.etag)
    assert (refused.value.reason, refused.value.code) == ("ETAG_MISMATCH", "ABORTED")
    current = get_run(daemon, run)
    assert current.description == "by another"
    assert refused.value.metadata["etag"] == current.etag
    table = create_table(daemon, run, "t")
    etag = get_run(daemon, run).etag
    write_batches(daemon, table.name, ONE)
    assert get_run(daemon, run).etag == etag, "rows leave it alone"


def test_a_renamed_run_keeps_its_uid_its_rows_and_its_side_files(daemon: RawDaemon) -> None:
    run = create_run(daemon, "before")
    table = create_table(daemon, run.name, "t")
    write_batches(daemon, table.name, ONE)
    Path(get_run(daemon, run.name, make_bulk_data_folder=True).bulk_data_url, "side").write_text("file")
    renamed = update(daemon, run.name, "run_name", run_name="after ü")
    assert (renamed.uid, renamed.name) == (run.uid, "projects/demo/runs/after ü")
    assert read(daemon, f"{renamed.name}/metrics/t").num_rows == 1
    assert Path(renamed.bulk_data_url, "side").read_text() == "file"
    assert not Path(run.url).exists()
    assert create_run(daemon, "before").uid != run.uid, "the old name is free"
    assert update(daemon, renamed.name, "run_name", run_name="after ü").uid == run.uid, "to its own name"


def test_parameters_merge_by_their_first_key_and_keep_their_types(daemon: RawDaemon, run: str) -> None:
    first: dict[str, object] = {
        "int": 10,
        "float": 10.0,
        "big": 2**63 - 1,
        "bool": True,
        "none": None,
        "bytes": b"\0\xff",
        "list": [1, 1.0, [None, {}]],
        "map": {"a": {"b": 1}},
        "": "empty key",
        "inf": -math.inf,
    }
    daemon.rpc.SetParameters(rs.SetParametersRequest(run=run, parameters=values({**first, "nan": math.nan})))
    daemon.rpc.SetParameters(rs.SetParametersRequest(run=run, parameters=values({"map": {"c": 2}, "new": "x"})))
    stored = plain(get_run(daemon, run).parameters)
    assert math.isnan(stored.pop("nan"))  # type: ignore[arg-type]
    expected = {**first, "map": {"c": 2}, "new": "x"}
    assert stored == expected
    assert {key: type(item) for key, item in stored.items()} == {key: type(item) for key, item in expected.items()}


def test_values_that_are_too_large_are_refused_alone_and_together(daemon: RawDaemon, run: str) -> None:
    half = values({"a": "x" * 600_000})
    daemon.rpc.SetParameters(rs.SetParametersRequest(run=run, parameters=half))
    before = get_run(daemon, run)
    huge = values({"b": "x" * 1_100_000})
    for request in (
        rs.SetParametersRequest(run=run, parameters=values({"b": "x" * 600_000})),
        rs.SetParametersRequest(run=run, parameters=huge),
    ):
        with pytest.raises(RefusedError) as refused:
            daemon.rpc.SetParameters(request)
        assert (refused.value.code, refused.value.reason) == ("RESOURCE_EXHAUSTED", "OVER_LIMIT")
        assert refused.value.metadata["limit"].startswith("max_value_bytes=")
    for call in (
        lambda: daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run, value=huge)),
        lambda: update(daemon, run, "description", description="x" * 1_100_000),
        lambda: update(daemon, run, "labels", labels={f"{n}": "" for n in range(65)}),
    ):
        with pytest.raises(RefusedError) as refused:
            call()
        assert refused.value.reason == "OVER_LIMIT"
    assert get_run(daemon, run) == before


def test_inputs_and_outputs_are_kept_in_order(daemon: RawDaemon, run: str) -> None:
    for number in range(30):
        daemon.rpc.AddInputValue(rs.AddInputValueRequest(run=run, value=values({"in": number})))
        daemon.rpc.AddOutputValue(rs.AddOutputValueRequest(run=run, value=values({"epoch": number, "loss": 1.0})))
    found = get_run(daemon, run)
    assert [plain(value) for value in found.inputs] == [{"in": number} for number in range(30)]
    assert [plain(value)["epoch"] for value in found.outputs] == list(range(30))


def test_an_input_table_is_added_once_however_it_is_named(daemon: RawDaemon, run: str, tmp_path: Path) -> None:
    table = write_table(daemon, pa.record_batch({"label": [1]}), table_id="input")
    path = tmp_path / "a b.csv"
    path.write_text("a\n1\n")
    for named in (table.name, table.url, f"file://{table.url}", str(path), f"file://{path}".replace(" ", "%20")):
        daemon.rpc.AddInputTable(rs.AddInputTableRequest(run=run, table=named))
    assert list(get_run(daemon, run).input_table_urls) == [table.url, str(path)]


def test_tables_are_registered_once_and_their_streams_renamed(daemon: RawDaemon, run: str, tmp_path: Path) -> None:
    own = create_table(daemon, run, "own")
    elsewhere = create_table(daemon, create_run(daemon).name, "elsewhere")
    write_batches(daemon, elsewhere.name, ONE)
    path = tmp_path / "metrics.csv"
    path.write_text("a\n1\n2\n")
    for named in (own.name, "metrics/own", elsewhere.name, str(path), elsewhere.name, str(path)):
        daemon.rpc.AddMetricsTable(rs.AddMetricsTableRequest(run=run, metrics_table=named))
    metrics = get_run(daemon, run).metrics
    assert [(table.url == "metrics/own", table.row_count) for table in metrics] == [(True, 0), (False, 1), (False, 2)]
    infos = [metrics_pb2.MetricsTable(url=table.url, stream_name=f"s{n}") for n, table in enumerate(metrics)]
    daemon.rpc.UpdateMetrics(rs.UpdateMetricsRequest(run=run, metric_infos=infos))
    assert [table.stream_name for table in get_run(daemon, run).metrics] == ["s0", "s1", "s2"]
    bad = [metrics_pb2.MetricsTable(url="metrics/own", stream_name="x"), metrics_pb2.MetricsTable(url="metrics/no")]
    with pytest.raises(RefusedError):
        daemon.rpc.UpdateMetrics(rs.UpdateMetricsRequest(run=run, metric_infos=bad))
    assert get_run(daemon, run).metrics[0].stream_name == "s0", "all or none"
