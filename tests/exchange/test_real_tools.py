"""What the real tools write is imported, and what is exported they read. They live in `.venvs/import-tools`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.tools

PYTHON = Path(__file__).parents[2] / ".venvs/import-tools/bin/python"
STEPS = 30

Rows = Callable[[str], list[dict[str, Any]]]


def tool(what: str, folder: Path, **environment: str) -> str:
    """Runs a function of `write_source.py` where the tools are."""
    done = subprocess.run(
        [PYTHON, Path(__file__).with_name("write_source.py"), what, folder],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(found: list[dict[str, Any]], key: str = "loss") -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in found if row.get(key) is not None]


LOSSES = [(step, 1 / (step + 1)) for step in range(STEPS)]


def imported_twice(ask: Any, *arguments: object) -> list[dict[str, Any]]:
    """Imports, and once more, which changes nothing."""
    runs: list[dict[str, Any]] = ask("import", *arguments)["runs"]
    before = [ask("show", run["run"]) for run in runs]
    again = ask("import", *arguments)["runs"]
    assert [sum(run["rows"].values()) for run in again] == [0] * len(runs)
    assert not any(run["created"] for run in again)
    for was in before:
        now = ask("show", was["uid"])
        # The files of the tables shrink when they are sealed.
        assert {key for key in was if now[key] != was[key]} <= {"metrics"}
    return before


def test_wandb(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    tool("wandb", tmp_path)
    (run,) = imported_twice(ask, "wandb", tmp_path, "--project", project)
    assert (run["name"], run["description"], run["status"]) == ("my run", "a note", "COMPLETED")
    assert run["parameters"] == {"lr": 0.1, "net": {"depth": 3}}
    assert {"a": "true", "b": "true", "group": "g", "import_from": "wandb"}.items() <= run["labels"].items()
    assert run["outputs"][0]["summary"]["best"] == 0.9
    history = rows(f"{project}/my run")
    assert losses(history) == LOSSES
    assert [row["nested.x"] for row in history[:STEPS]] == [2.0 * step for step in range(STEPS)]
    assert [row["word"] for row in history[:2]] == ["w0", "w1"]
    assert [row["count"] for row in history[:2]] == [0, 1]
    assert history[0]["time"].endswith("Z")
    assert (history[STEPS]["nan"], history[STEPS]["inf"]) == ("NaN", "-Infinity")
    assert sum(history[STEPS]["hist.values"]) == 3
    assert rows(f"{project}/my run/system")


def test_wandb_names_what_it_leaves_out_and_keeps_a_failure(tmp_path: Path, ask: Any, project: str) -> None:
    tool("wandb", tmp_path, EXIT_CODE="3")
    (run,) = ask("import", "wandb", tmp_path, "--project", project)["runs"]
    assert "table-file 'table'" in run["left_out"]
    shown = ask("show", run["run"])
    assert (shown["status"], shown["cause"]["exit_code"]) == ("FAILED", 3)


def test_a_wandb_file_without_its_end_is_kept_and_completed_later(
    tmp_path: Path, ask: Any, rows: Rows, project: str
) -> None:
    tool("wandb", tmp_path)
    (file,) = {path.resolve() for path in tmp_path.rglob("*.wandb")}
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    (run,) = ask("import", "wandb", file, "--project", project)["runs"]
    assert run["cut_off"]
    assert run["status"] == "FAILED"
    some = losses(rows(f"{project}/my run"))
    assert 0 < len(some) < STEPS
    assert some == LOSSES[: len(some)]
    file.write_bytes(whole)
    (run,) = ask("import", "wandb", file, "--project", project)["runs"]
    assert (run["created"], run["status"], run["cut_off"]) == (False, "COMPLETED", [])
    assert losses(rows(f"{project}/my run")) == LOSSES


@pytest.mark.parametrize(("kind", "store"), [("mlflow", "store.db"), ("mlflow_files", "mlruns")])
def test_mlflow(kind: str, store: str, tmp_path: Path, ask: Any, rows: Rows) -> None:
    tool(kind, tmp_path)
    runs = {run["name"]: run for run in imported_twice(ask, "mlflow", tmp_path / store, "--project", kind)}
    run = runs["r1"]
    assert (run["description"], run["status"]) == ("about", "COMPLETED")
    assert run["parameters"] == {"lr": "0.1", "n": "3"}
    assert run["labels"]["team"] == "x"
    assert run["inputs"] == [{"tags": {"long": "y" * 1000}}]
    history = rows(f"{kind}/r1")
    assert losses(history) == LOSSES
    # MLflow knows milliseconds: points of one of them come in the order of their steps.
    assert [row["val/acc"] for row in history if row["odd"] is None] == [step / STEPS for step in range(STEPS)]
    assert [(row["step"], row["odd"]) for row in history if row["odd"] is not None] == [(1, "NaN"), (2, "Infinity")]
    assert runs["failed"]["status"] == "FAILED"


def test_trackio(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    tool("trackio", tmp_path)
    (run,) = imported_twice(ask, "trackio", tmp_path, "--project", project)
    assert run["name"] == "t1"
    assert run["parameters"] == {"lr": 0.1, "deep": {"a": 1}}
    assert losses(rows(f"{project}/t1")) == LOSSES
    assert [row["count"] for row in rows(f"{project}/t1")] == list(range(STEPS))


def test_tensorboard(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    tool("tensorboard", tmp_path)
    runs = {run["name"]: run for run in imported_twice(ask, "tensorboard", tmp_path / "logs", "--project", project)}
    history = rows(f"{project}/run1")
    scalars = [row for row in history if row["train/loss"] is not None]
    assert [row["step"] for row in scalars] == list(range(STEPS))
    assert [row["train/loss"] for row in scalars] == pytest.approx([loss for _, loss in LOSSES])
    assert [row["acc"] for row in scalars] == pytest.approx([step / STEPS for step in range(STEPS)])
    assert scalars[1]["time"] == "2023-11-14T22:13:21.250000Z"
    assert [row["note/text_summary"] for row in history if row["note/text_summary"]] == ["hello"]
    assert runs["run1_hp"]["parameters"] == {"lr": 0.1, "opt": "sgd"}


def test_tensorboard_reads_what_is_exported(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    tool("tensorboard", tmp_path)
    ask("import", "tensorboard", tmp_path / "logs", "--project", project)
    ask("export", f"{project}/run1", "--format", "tensorboard", "--to", tmp_path / "out")
    exported = json.loads(tool("read_events", tmp_path / "out" / project / "run1"))
    original = json.loads(tool("read_events", tmp_path / "logs" / "run1"))
    assert exported["scalars"] == original["scalars"]
    assert len(exported["scalars"]["acc"]) == STEPS
    assert exported["tensors"] == ["note/text_summary"]
