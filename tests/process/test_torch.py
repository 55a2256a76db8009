"""Trainings with a real PyTorch. `make test-torch` runs them; without it they are skipped, and the summary says so."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.process.harmless import train, wait_until

pytestmark = [
    pytest.mark.torch,
    pytest.mark.timeout(400),  # each process that is spawned imports torch anew
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="PyTorch is not installed: `make test-torch` does it",
    ),
]

TRAINING = """
import os, sys, warnings
import rund
import torch
from torch.utils.data import DataLoader, Dataset

class Samples(Dataset):
    def __len__(self):
        return 64
    def __getitem__(self, number):
        run = rund.active_run()
        run.log({"who": "worker", "sample": number})
        return torch.full((4,), float(number)), torch.tensor([float(number % 2)])

def begin_worker(number):
    # A forked worker has its parent's run; one that was spawned joins it.
    if rund.active_run() is None:
        rund.init("harmless", sys.argv[2], root_url=sys.argv[1], resume=True)

if __name__ == "__main__":
    # Of Python, of a fork with threads; torch itself has some.
    warnings.simplefilter("ignore")
    run = rund.init("harmless", sys.argv[2], root_url=sys.argv[1])
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    loader = DataLoader(
        Samples(), batch_size=8, num_workers=3, multiprocessing_context=sys.argv[3],
        worker_init_fn=begin_worker, persistent_workers=sys.argv[4] == "persistent",
    )
    for epoch in range(3):
        for inputs, targets in loader:
            loss = torch.nn.functional.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            run.log({"who": "main", "loss": loss.detach(), "norm": model.weight.norm().detach()})
        half = torch.ones(1, dtype=torch.bfloat16)
        run.add_metrics({"weight": model.weight.detach(), "half": half}, name=f"epoch {epoch}")
    del loader
    run.finish()
"""


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    return daemon().root


@pytest.mark.parametrize("workers", ["persistent", "anew"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_of_a_data_loader_log(root: Path, tmp_path: Path, method: str, workers: str) -> None:
    (tmp_path / "training.py").write_text(TRAINING)
    program = str(tmp_path / "training.py")
    script = f"import runpy\nsys.argv[0] = {program!r}\nrunpy.run_path({program!r}, run_name='__main__')"
    training = train(root, script, method, workers, head="import sys\n", deadlock_s=300)
    wait_until(lambda: training.count() >= 3 * (64 + 8), "rows are missing")
    rows = training.rows()
    samples = sorted(row["sample"] for row in rows if row["who"] == "worker")
    assert samples == sorted([*range(64)] * 3), "each sample of each epoch once"
    losses = [row["loss"] for row in rows if row["who"] == "main"]
    assert len(losses) == 24
    assert all(isinstance(loss, float) for loss in losses)
    weights = [table for table in training.run.metrics_tables if table.name.startswith("epoch")]
    assert [len(table) for table in weights] == [1, 1, 1]
    assert training.error == ""
