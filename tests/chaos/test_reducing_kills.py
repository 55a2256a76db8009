"""SIGKILL while embeddings are reduced: a run has its old tables or the new ones, and the next start leaves nothing."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rund
import rund_daemon.failpoints

from tests.chaos.kill_rounds import check_root, wait_for
from tests.process.raw_daemon import RawDaemon

# Jobs are at nice 19, and starve beside others.
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

POINTS = sorted(name for name in rund_daemon.failpoints.FAILPOINTS if name.startswith("reducing."))
PUBLISHED = "reducing.published"
FORGOTTEN = "reducing.source_forgotten"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[RawDaemon]:
    daemon = RawDaemon(tmp_path / "root")
    try:
        yield daemon.start()
    finally:
        daemon.end()


def new_run(root: Path) -> rund.Run:
    foreign = rund.Table.from_dict({"label": list(range(8))}, root_url=root)
    with rund.init("p", "run", root_url=root) as run:
        for epoch in range(2):
            values = np.random.default_rng(epoch).normal(size=(8, 4)).astype(np.float32)
            run.add_metrics({"embedding": values}, foreign_table_url=foreign.url, constants={"epoch": epoch})
    return run


def start_to_die(daemon: RawDaemon, point: str) -> None:
    daemon.stop()
    daemon.environment = {"RUND_FAILPOINTS": f"{point}=kill@1"}
    daemon.start()
    daemon.environment = {}


def has_died(daemon: RawDaemon) -> bool:
    return daemon.process.poll() == -signal.SIGKILL


def is_clean(root: Path) -> bool:
    return not list((root / "trash" / "new").glob("*"))


@pytest.mark.parametrize("point", [point for point in POINTS if point != FORGOTTEN])
def test_a_reduction_is_whole_or_has_not_been(daemon: RawDaemon, point: str) -> None:
    run = new_run(daemon.root)
    before = [info.uid for info in run.metrics]
    start_to_die(daemon, point)
    run = rund.Run.from_url(run.url)
    started = run.reduce_embeddings_per_dataset(wait=False)
    wait_for(lambda: has_died(daemon), lambda: f"{point} was never reached")
    daemon.start()
    run = rund.Run.from_url(run.url)
    tables, done = run.metrics, point == PUBLISHED
    assert ([info.uid for info in tables] == before) is not done
    assert [info.url.endswith("_umap") for info in tables] == [done] * 2
    assert [table.to_arrow().num_rows for table in run.metrics_tables] == [8, 8]
    assert (len(list(rund.connect(daemon.root).list_reducers())) == 1) is done
    assert isinstance(rund.connect(daemon.root).get_operation(started.name).error, rund.DaemonDrainingError)
    wait_for(lambda: is_clean(daemon.root), lambda: "the next start leaves nothing of it")
    if done:
        # Who did not hear of it asks again, and is told that there is nothing to reduce any more.
        with pytest.raises(FileNotFoundError):
            run.reduce_embeddings_per_dataset()
    else:
        assert len(run.reduce_embeddings_per_dataset()) == 2
    daemon.stop()
    check_root(daemon.root)


def test_a_replaced_table_in_trash_is_there_or_gone(daemon: RawDaemon) -> None:
    run = new_run(daemon.root)
    sources = [info.url for info in run.metrics]
    run.reduce_embeddings_per_dataset()
    start_to_die(daemon, FORGOTTEN)
    with pytest.raises(rund.RundError):
        rund.connect(daemon.root).collect_trash(min_age_seconds=0)
    wait_for(lambda: has_died(daemon), lambda: "it was never reached")
    daemon.start()
    run = rund.Run.from_url(run.url)
    wait_for(lambda: is_clean(daemon.root), lambda: "the next start ends what was begun")
    with pytest.raises(FileNotFoundError):
        run.undelete_metrics_table(sources[0])
    assert run.undelete_metrics_table(sources[1]).row_count == 8
    assert run.metrics_tables[2].to_arrow().column("embedding").null_count == 0
    daemon.stop()
    check_root(daemon.root)
