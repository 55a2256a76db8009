"""Reductions as jobs: what becomes of a run's tables, what is refused, and what ends a job half-way.

With fewer than ten rows a map is made of principal components, so no library for maps is needed here; tests/reduction
has the real methods.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund
from rund import ColumnRole, Run, Table

from tests.process.raw_daemon import RawDaemon, running

ROWS = 8
RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    folder: Path = daemon().root
    return folder


@pytest.fixture
def run(root: Path, request: pytest.FixtureRequest) -> Iterator[Run]:
    with rund.init("p", request.node.name[:150], root_url=root) as run:
        yield run


def input_table(root: Path, name: str = "digits") -> Table:
    return Table.from_dict({"label": list(range(ROWS))}, name, "sets", root_url=root)


def vectors(seed: int, width: int = 4, rows: int = ROWS) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)


def add_epochs(run: Run, foreign: Table, count: int = 3, first: int = 0) -> list[np.ndarray]:
    epochs = [vectors(first + epoch) for epoch in range(count)]
    for epoch, values in enumerate(epochs):
        columns = {"loss": [0.5] * ROWS, "embedding": values, "score": list(range(ROWS))}
        run.add_metrics(columns, foreign_table_url=foreign.url, constants={"epoch": epoch})
    return epochs


def tables(run: Run) -> list[tuple[str, str, int]]:
    """What a run lists, without what sealing changes."""
    return [(info.uid, info.url, info.row_count) for info in run.metrics]


def staged(root: Path) -> list[Path]:
    # Links are how a table that is being sealed is announced.
    return sorted(path for path in (root / "trash" / "new").glob("*") if not path.is_symlink())


def workers() -> list[int]:
    """Pids of processes that carry out jobs, of any daemon."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"rund_daemon.reducing.worker" in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def children(daemon: RawDaemon) -> list[int]:
    pid = daemon.process.pid
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, (task / "children").read_text().split())
    return [child for child in found if child in workers()]


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to that in time"
        time.sleep(0.01)
    return found


def test_tables_are_replaced_in_their_order(run: Run, root: Path) -> None:
    foreign = input_table(root)
    run.add_metrics({"plain": [1, 2]})
    epochs = add_epochs(run, foreign)
    run.add_metrics({"embedding": vectors(9)})
    before = run.metrics
    replaced = run.reduce_embeddings_per_dataset(n_components=2, random_state=3)
    assert replaced == {info.url: f"{info.url}_umap" for info in before[1:4]}
    after = run.metrics
    assert [info.url for info in after] == [replaced.get(info.url, info.url) for info in before]
    for info, old, table, values in zip(after[1:4], before[1:4], run.metrics_tables[1:4], epochs, strict=True):
        assert info.foreign_table_url == old.foreign_table_url
        assert info.constants == old.constants
        assert [column.name for column in info.columns] == [
            name.replace("embedding", "embedding_umap") for name in (column.name for column in old.columns)
        ]
        (described,) = (column for column in info.columns if column.name == "embedding_umap")
        assert described.role is ColumnRole.XY
        rows = table.to_arrow()
        assert rows.column("epoch").unique().to_pylist() == [old.constants["epoch"]]
        assert rows.column("score").to_pylist() == list(range(ROWS))
        assert rows.column("embedding_umap").null_count == 0
        assert len(values) == rows.num_rows
    reducer = next(rund.connect(root).list_reducers("p"))
    assert reducer.fit_table_url == f"{run.url}/{before[3].url}", "the newest is fitted on"
    assert (reducer.method, reducer.random_state, reducer.input_width, reducer.fit_row_count) == ("umap", 3, 4, ROWS)
    assert "principal components" in reducer.warnings[0]


def test_rows_without_a_vector_get_no_place(run: Run, root: Path) -> None:
    values: list[Any] = vectors(1).tolist()
    values[2], values[5] = None, [float("nan")] * 4
    run.add_metrics(
        {"embedding": values},
        {"embedding": rund.ColumnSchema("embedding", role=ColumnRole.EMBEDDING)},
        input_table(root).url,
    )
    run.reduce_embeddings_per_dataset()
    places = run.metrics_tables[0].to_arrow().column("embedding_umap").to_pylist()
    assert [number for number, place in enumerate(places) if place is None] == [2, 5]
    assert all(len(place) == 3 for place in places if place)


def test_all_tables_follow_the_fit_of_one_input_table(run: Run, root: Path) -> None:
    first, second = input_table(root, "first"), input_table(root, "second")
    for foreign in (first, second, first):
        run.add_metrics({"embedding": vectors(4)}, foreign_table_url=foreign.url)
    run.add_metrics({"embedding": vectors(5)})
    before = run.metrics
    replaced = run.reduce_embeddings_by_foreign_table_url(second, retain_source_embedding_column=True)
    assert list(replaced) == [info.url for info in before]
    maps = [table.to_arrow().column("embedding_umap") for table in run.metrics_tables]
    assert maps[0].equals(maps[1])
    assert maps[0].equals(maps[2])
    assert run.metrics_tables[3].to_arrow().column("embedding").to_pylist() == vectors(5).tolist()
    (reducer,) = (made for made in rund.connect(root).list_reducers("p") if made.fit_table_url.startswith(run.url))
    assert reducer.fit_table_url == f"{run.url}/{before[1].url}"


def test_sources_go_to_trash_and_come_back(run: Run, root: Path) -> None:
    foreign = input_table(root)
    epochs = add_epochs(run, foreign, 2)
    old = run.metrics
    run.reduce_embeddings_per_dataset()
    with pytest.raises(FileNotFoundError):
        Table.from_url(f"{run.url}/{old[0].url}")
    entries = rund.connect(root).collect_trash("p", min_age_seconds=0, dry_run=True)
    of_run = [entry for entry in entries if entry.metrics_table.startswith(f"{run.resource_name}/")]
    assert [entry.metrics_table for entry in of_run] == [info.resource_name for info in old]
    assert all(entry.size_bytes > 0 for entry in of_run)
    assert run.undelete_metrics_table(old[1].url).uid == old[1].uid
    assert [info.url for info in run.metrics] == [f"{old[0].url}_umap", f"{old[1].url}_umap", old[1].url]
    back = run.metrics_tables[2].to_arrow()
    assert back.column("embedding").to_pylist() == epochs[1].tolist()
    with pytest.raises(FileNotFoundError, match="in trash"):
        run.undelete_metrics_table(old[1].url)
    words = ["undelete", f"p/{run.name}", "--table", old[0].name, "--root", str(root)]
    done = subprocess.run([*RUND, *words], capture_output=True, text=True, check=True, env=clean_environment())
    assert old[0].url in done.stdout
    assert [info.url for info in run.metrics[2:]] == [old[1].url, old[0].url]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}


def test_sources_that_are_collected_are_gone_for_good(run: Run, root: Path) -> None:
    add_epochs(run, input_table(root), 1)
    (old,) = run.metrics
    run.reduce_embeddings_per_dataset()
    folder = root / "trash" / old.uid.replace("-", "")
    assert folder.exists()
    gone = rund.connect(root).collect_trash("p", min_age_seconds=0)
    assert old.resource_name in [entry.metrics_table for entry in gone]
    assert not folder.exists()
    with pytest.raises(FileNotFoundError):
        run.undelete_metrics_table(old.url)
    assert run.metrics_tables[0].row_count == ROWS


def test_a_run_takes_its_replaced_tables_along(root: Path) -> None:
    with rund.init("p", "taken-along", root_url=root) as run:
        add_epochs(run, input_table(root), 1)
        (old,) = run.metrics
        run.reduce_embeddings_per_dataset()
    run.delete()
    rund.connect(root).collect_trash("p", min_age_seconds=0)
    assert not (root / "trash" / old.uid.replace("-", "")).exists()
    assert staged(root) == []


def test_sources_may_stay_and_are_not_listed(run: Run, root: Path) -> None:
    epochs = add_epochs(run, input_table(root), 2)
    old = run.metrics
    replaced = run.reduce_embeddings_per_dataset(delete_source_tables=False)
    assert [info.url for info in run.metrics] == list(replaced.values())
    kept = Table.from_url(f"{run.url}/{old[1].url}")
    assert kept.to_arrow().column("embedding").to_pylist() == epochs[1].tolist()
    copied = run.copy()
    assert [info.url for info in copied.metrics] == list(replaced.values())
    bundle = run.to_bundle(root.parent / f"{root.name}-bundle")
    assert [info.url for info in bundle.metrics] == list(replaced.values())
    run.update_metrics([kept.info])
    assert [info.url for info in run.metrics] == [*replaced.values(), old[1].url]


def test_the_same_request_on_the_same_vectors_uses_the_reducer_again(root: Path) -> None:
    foreign, client = input_table(root), rund.connect(root)
    operations = []
    for number, keywords in enumerate([{}, {}, {"random_state": 1}, {"n_neighbors": 5}]):
        with rund.init("again", f"run-{number}", root_url=root) as run:
            run.add_metrics({"embedding": vectors(77)}, foreign_table_url=foreign.url)
            started = run.reduce_embeddings_per_dataset(wait=False, **keywords)
            operations.append(client.wait_operation(started.name, 60))
    assert [operation.error for operation in operations] == [None] * 4
    assert operations[0].reducers == operations[1].reducers
    assert len({operation.reducers for operation in operations}) == 3
    assert len(list(client.list_reducers("again"))) == 3


def test_a_reducer_maps_tables_of_other_runs(run: Run, root: Path) -> None:
    foreign = input_table(root)
    add_epochs(run, foreign, 1, first=300)
    run.reduce_embeddings_per_dataset(target_embedding_column="place")
    (info,) = (made for made in rund.connect(root).list_reducers("p") if made.fit_table_url.startswith(run.url))
    reducer = rund.Reducer.from_names(info.name, "p", root_url=root)
    assert (reducer.info, reducer.name) == (info, info.name)
    fitted = run.metrics_tables[0].to_arrow().column("place")
    with rund.init("other", "run", root_url=root, if_exists="overwrite") as other:
        for epoch in range(2):
            other.add_metrics({"embedding": vectors(300 + epoch)}, foreign_table_url=foreign.url)
        other.add_metrics({"plain": [1]})
        before = other.metrics
        replaced = reducer.transform(other)
        assert replaced == {f"{other.url}/{old.url}": f"{other.url}/{old.url}_umap" for old in before[:2]}
        assert other.metrics_tables[0].to_arrow().column("place").equals(fitted), "it was fitted on these vectors"
        assert Table.from_url(f"{other.url}/{before[0].url}").row_count == ROWS
        with pytest.raises(ValueError, match="has no column 'embedding' of vectors"):
            reducer.transform([other.metrics[2]])
        with pytest.raises(ValueError, match="no metrics table"):
            reducer.transform([foreign])
        other.add_metrics({"embedding": vectors(1, width=5)}, foreign_table_url=foreign.url)
        with pytest.raises(ValueError, match="5 numbers, and the reducer takes 4"):
            reducer.transform([other.metrics_tables[3]])
    with pytest.raises(FileNotFoundError, match="no reducer"):
        rund.Reducer.from_names("nobody", "p", root_url=root)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"method": "tsne"}, ValueError, "spec.method: 'tsne' is no method; use umap or pacmap"),
        ({"n_epoch": 3}, ValueError, "spec.method_options: umap has no option 'n_epoch'"),
        ({"n_components": 0}, ValueError, "spec.n_components"),
        ({"n_components": "2"}, ValueError, "n_components: '2' is no int"),
        ({"random_state": -1}, ValueError, "random_state: -1 is not from 0"),
        ({"min_dist": 2}, ValueError, "spec.min_dist"),
        ({"metric": "hamming"}, ValueError, "spec.metric"),
        ({"source_embedding_column": "loss"}, FileNotFoundError, "no metrics table of an input table with a column"),
        ({"target_embedding_column": "loss"}, ValueError, "two columns 'loss'"),
        ({"fit_table_url": "metrics/nobody"}, ValueError, "spec.fit_table_url"),
    ],
)
def test_what_can_not_be_done_is_refused_at_once(
    run: Run, root: Path, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    add_epochs(run, input_table(root), 1)
    before = tables(run)
    with pytest.raises(error, match=message):
        run.reduce_embeddings_per_dataset(**keywords)
    assert tables(run) == before


def test_vectors_that_can_not_be_mapped_are_refused_and_nothing_is_changed(run: Run, root: Path) -> None:
    foreign = input_table(root)
    run.add_metrics({"embedding": vectors(1, width=4)}, foreign_table_url=foreign.url)
    run.add_metrics({"embedding": vectors(1, width=5)}, foreign_table_url=foreign.url)
    before = tables(run)
    with pytest.raises(ValueError, match=r"different widths: 4 in metrics/\w+, 5 in metrics/\w+"):
        run.reduce_embeddings_per_dataset()
    run.add_metrics({"void": np.full((ROWS, 4), np.nan, np.float32)}, foreign_table_url=foreign.url)
    with pytest.raises(ValueError, match="no row whose vector is finite"):
        run.reduce_embeddings_per_dataset(source_embedding_column="void")
    assert tables(run)[:2] == before
    assert staged(root) == []


def test_nothing_to_reduce(run: Run, root: Path) -> None:
    run.add_metrics({"embedding": vectors(1)})
    with pytest.raises(FileNotFoundError, match="write one with add_metrics and foreign_table_url"):
        run.reduce_embeddings_per_dataset()
    with pytest.raises(FileNotFoundError, match="no metrics table"):
        run.reduce_embeddings_by_foreign_table_url(input_table(root))


def test_a_table_that_is_written_to_takes_no_part(run: Run, root: Path) -> None:
    foreign = input_table(root)
    with run.metrics_writer("open", foreign_table_url=foreign.url) as writer:
        writer.add_batch({"example_id": [0], "embedding": vectors(1, rows=1)})
        writer.flush()
        with pytest.raises(RuntimeError, match=r"metrics/open .* can still be written to"):
            run.reduce_embeddings_per_dataset()
        run.add_metrics({"embedding": vectors(1)}, foreign_table_url=foreign.url, name="closed")
        assert list(run.reduce_embeddings_per_dataset()) == ["metrics/closed"]
        writer.add_batch({"example_id": [1], "embedding": vectors(2, rows=1)})
    run.finish()
    assert list(run.reduce_embeddings_per_dataset()) == ["metrics/open"]
    assert [table.row_count for table in run.metrics_tables] == [2, ROWS]


@pytest.mark.skipif(find_spec("umap") is not None, reason="umap-learn is installed here")
def test_a_library_that_is_not_there_is_named(run: Run, root: Path) -> None:
    foreign = Table.from_dict({"label": list(range(20))}, "twenty", "sets", root_url=root)
    run.add_metrics({"embedding": vectors(1, rows=20)}, foreign_table_url=foreign.url)
    with pytest.raises(NotImplementedError, match=r"pip install 'rund\[reduce\]'"):
        run.reduce_embeddings_per_dataset()
    assert run.metrics[0].url == "metrics/metrics_0001"


def test_a_cancelled_job_ends_within_a_second_and_leaves_nothing(lone: RawDaemon) -> None:
    # Its process has the libraries to load, so no job is done before it is cancelled.
    run, client = new_run(lone), rund.connect(lone.root)
    before = tables(run)
    started = [run.reduce_embeddings_per_dataset(wait=False) for _ in range(2)]
    # The second one waits for the first, and both can be cancelled.
    for operation in reversed(started):
        client.cancel_operation(operation.name)
    asked = time.monotonic()
    ended = [client.wait_operation(operation.name, 30) for operation in started]
    assert time.monotonic() - asked < 5.0, "within a second, and the machine may be busy"
    for operation in ended:
        assert isinstance(operation.error, rund.OperationCancelledError)
    assert tables(run) == before
    assert staged(lone.root) == []
    assert len(run.reduce_embeddings_per_dataset()) == len(before)
    run.finish()


def test_a_reducer_is_removed_for_good(root: Path) -> None:
    foreign, client, infos = input_table(root), rund.connect(root), []
    for number in range(2):
        with rund.init("removed", f"run-{number}", root_url=root) as run:
            run.add_metrics({"embedding": vectors(400 + number)}, foreign_table_url=foreign.url)
            run.reduce_embeddings_per_dataset()
            infos.append(next(client.list_reducers("removed")))
            mapped = run.metrics_tables[0].to_arrow()
    words = ("--project", "removed", "--root", str(root))
    listed = subprocess.run([*RUND, "reducers", *words], capture_output=True, text=True, check=True)
    assert all(info.resource_name.removeprefix("projects/") in listed.stdout for info in infos)
    subprocess.run([*RUND, "reducers", "--delete", infos[0].resource_name, *words], check=True)
    reducer = rund.Reducer.from_names(infos[1].name, "removed", root_url=root)
    reducer.delete()
    assert list(client.list_reducers("removed")) == []
    assert not list(root.glob("removed/reducers/*"))
    assert staged(root) == []
    assert run.metrics_tables[0].to_arrow().equals(mapped), "the map that it made stays"
    for call in (reducer.delete, lambda: reducer.transform([])):
        with pytest.raises(FileNotFoundError, match="no reducer"):
            call()


def test_a_reducer_that_goes_while_a_job_wants_it(root: Path) -> None:
    """Its files are gone, as they are for a job that was planned just before it was removed."""
    foreign, client = input_table(root), rund.connect(root)
    with rund.init("gone", "run", root_url=root) as run:
        run.add_metrics({"embedding": vectors(500)}, foreign_table_url=foreign.url)
        run.reduce_embeddings_per_dataset(delete_source_tables=False)
    (info,) = client.list_reducers("gone")
    (model,) = root.glob("gone/reducers/*/model.arrow")
    model.unlink()
    with rund.init("gone", "next", root_url=root) as other:
        other.add_metrics({"embedding": vectors(500)}, foreign_table_url=foreign.url)
        before = tables(other)
        with pytest.raises(FileNotFoundError, match="was removed meanwhile"):
            rund.Reducer.from_names(info.name, "gone", root_url=root).transform(other)
        assert tables(other) == before
        other.reduce_embeddings_per_dataset()
    assert len(list(client.list_reducers("gone"))) == 2, "it was fitted anew"


def test_jobs_are_listed_and_cancelled_by_hand(run: Run, root: Path) -> None:
    add_epochs(run, input_table(root), 1)
    started = run.reduce_embeddings_per_dataset(wait=False)
    uid = started.name.removeprefix("operations/")
    words = ("--json", "--root", str(root))
    cancelled = subprocess.run(
        [*RUND, "cancel", uid, *words], capture_output=True, text=True, check=False, env=clean_environment()
    )
    listed = subprocess.run(
        [*RUND, "jobs", "--all", *words], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert uid in listed.stdout
    running_now = subprocess.run(
        [*RUND, "jobs", *words], capture_output=True, text=True, check=True, env=clean_environment()
    )
    assert uid not in running_now.stdout
    # It may have been done before the command had begun.
    assert cancelled.returncode == 0 or "was done before" in cancelled.stderr


# --- jobs whose process, daemon or memory comes to an end ---


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[RawDaemon]:
    root = tmp_path / "root"
    root.mkdir()
    yield from running(root)


def new_run(daemon: RawDaemon) -> Run:
    run = rund.init("p", "run", root_url=daemon.root)
    add_epochs(run, input_table(daemon.root), 2)
    return run


def test_a_process_that_dies_fails_its_job_alone(lone: RawDaemon) -> None:
    run, client = new_run(lone), rund.connect(lone.root)
    before = tables(run)
    started = run.reduce_embeddings_per_dataset(wait=False)
    (pid,) = wait_for(lambda: children(lone))
    os.kill(pid, signal.SIGKILL)
    ended = client.wait_operation(started.name, 60)
    assert "ended in SIGKILL, and nothing was changed" in str(ended.error)
    assert tables(run) == before
    assert staged(lone.root) == []
    assert len(run.reduce_embeddings_per_dataset()) == 2
    run.finish()


def test_a_daemon_that_dies_takes_the_process_along(lone: RawDaemon) -> None:
    run = new_run(lone)
    before = tables(run)
    started = run.reduce_embeddings_per_dataset(wait=False)
    (pid,) = wait_for(lambda: children(lone))
    lone.kill()
    wait_for(lambda: pid not in workers())
    lone.start()
    client = rund.connect(lone.root)
    ended = client.get_operation(started.name)
    assert isinstance(ended.error, rund.DaemonDrainingError)
    assert tables(run) == before
    wait_for(lambda: staged(lone.root) == [])
    assert len(run.reduce_embeddings_per_dataset()) == 2
    run.finish()


def test_a_stopped_daemon_leaves_no_process(lone: RawDaemon) -> None:
    run = new_run(lone)
    run.reduce_embeddings_per_dataset()
    run.finish()
    (pid,) = children(lone)
    lone.stop()
    assert pid not in workers()


def test_a_lost_catalog_is_made_again_with_maps_and_reducers(lone: RawDaemon) -> None:
    run = new_run(lone)
    old = run.metrics
    run.reduce_embeddings_per_dataset(delete_source_tables=False)
    run.add_metrics({"embedding": vectors(9)}, foreign_table_url=input_table(lone.root).url)
    run.reduce_embeddings_per_dataset()
    run.finish()
    before, reducers = tables(run), list(rund.connect(lone.root).list_reducers())
    lone.stop()
    (lone.root / "catalog" / "data.mdb").unlink()
    words = ("fsck", "--rebuild", "--root", str(lone.root))
    rebuilt = subprocess.run([*RUND, *words], capture_output=True, text=True, check=False, env=clean_environment())
    assert rebuilt.returncode == 0, rebuilt.stderr
    lone.start()
    run = Run.from_url(run.url)
    assert tables(run) == before
    assert Table.from_url(f"{run.url}/{old[0].url}").row_count == ROWS, "it was replaced and not listed"
    again = list(rund.connect(lone.root).list_reducers())
    assert {info.name: info.quality for info in again} == {info.name: info.quality for info in reducers}
    # What was replaced and in trash is nobody's now.
    (stray,) = rund.connect(lone.root).collect_trash(min_age_seconds=0)
    assert Path(stray.path).name.startswith("stray-")


def test_a_client_that_dies_leaves_the_job_to_the_daemon(lone: RawDaemon) -> None:
    run = new_run(lone)
    code = (
        "import os, rund\n"
        f"run = rund.Run.from_url({run.url!r})\n"
        "run.reduce_embeddings_per_dataset(wait=False)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    dead = subprocess.run([sys.executable, "-c", code], check=False, env=clean_environment())
    assert dead.returncode == -signal.SIGKILL
    (operation,) = rund.connect(lone.root).list_operations()
    ended = rund.connect(lone.root).wait_operation(operation.name, 60)
    assert ended.error is None
    assert [info.url for info in run.metrics] == list(ended.tables.values())
    run.finish()


def test_a_job_that_needs_more_memory_than_it_may_have_fails_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for daemon in running(root, RUND_REDUCTION_MEMORY="16MiB"):
        run = new_run(daemon)
        before = tables(run)
        with pytest.raises(OSError, match="more memory than the 16 MiB that it may have; raise reduction_memory"):
            run.reduce_embeddings_per_dataset()
        assert tables(run) == before
        assert staged(root) == []
        assert children(daemon) == []
        run.finish()
