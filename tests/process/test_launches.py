"""The processes of one launch join one run, and only they."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import rund
from rund import Run, RunStatus

JOIN = """
import json, sys
import rund
urls = []
for _ in range(int(sys.argv[2])):
    with rund.init("p", sys.argv[3] or None, root_url=sys.argv[1], if_exists="rename") as run:
        run.log({"x": 1})
        urls.append(run.url)
print(json.dumps(urls))
"""


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


def launch(root: Path, environments: list[dict[str, str]], *, runs: int = 1, name: str = "") -> list[list[str]]:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RUND_", "SLURM_", "TORCH"))}
    command = [sys.executable, "-c", JOIN, str(root), str(runs), name]
    ranks = [
        subprocess.Popen(command, env={**clean, **environment}, stdout=subprocess.PIPE, text=True)
        for environment in environments
    ]
    return [json.loads(rank.communicate(timeout=90)[0]) for rank in ranks]


def slurm(job: str, count: int) -> list[dict[str, str]]:
    base = {"SLURM_JOB_ID": job, "SLURM_STEP_ID": "0"}
    return [{**base, "SLURM_PROCID": str(number)} for number in range(count)]


@pytest.mark.parametrize("name", ["", "named"])
def test_ranks_join_one_run(root: Path, name: str) -> None:
    urls = launch(root, slurm(f"a{name}", 4), name=name)
    assert len({url for [url] in urls}) == 1
    run = Run.from_url(urls[0][0])
    assert sorted(writer.rank for writer in run.info.writers) == [0, 1, 2, 3]
    assert run.status is RunStatus.COMPLETED
    assert sorted(run.metrics_tables[0]["rank"].to_pylist()) == [0, 1, 2, 3]


def test_launches_are_apart(root: Path) -> None:
    first, second = launch(root, slurm("b", 1)), launch(root, slurm("c", 1))
    assert first != second
    restarted = [{**slurm("b", 1)[0], "SLURM_RESTART_COUNT": "1"}]
    assert launch(root, restarted) != first


def test_without_a_launcher_each_has_its_own(root: Path) -> None:
    assert len({url for [url] in launch(root, [{"RANK": "0"}, {"RANK": "1"}])}) == 2


def test_runs_one_after_another_are_apart_and_still_joined(root: Path) -> None:
    urls = launch(root, slurm("d", 2), runs=3)
    assert urls[0] == urls[1]
    assert len(set(urls[0])) == 3


def test_torchrun_without_an_id_goes_by_its_agent(root: Path) -> None:
    ranks = [{"TORCHELASTIC_RUN_ID": "none", "RANK": str(number)} for number in range(2)]
    urls = launch(root, ranks)
    assert urls[0] == urls[1]


def test_a_launch_may_be_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUND_LAUNCH_ID", "mine")
    first, second = (rund.init("q", root_url=root) for _ in range(2))
    assert first.uid == second.uid
    assert len(first.info.writers) == 2
    first.finish()
    assert second.status is RunStatus.RUNNING, "it ends with its last writer"
    second.finish()
    assert second.status is RunStatus.COMPLETED
