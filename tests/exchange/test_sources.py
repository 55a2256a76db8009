"""Sources made by hand: formats that no tool here writes, damage, growth, and imports that are killed."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rund
from rund_daemon.exchange.framing import tf_record
from rund_daemon.exchange.messages import Event

Rows = Callable[[str], list[dict[str, Any]]]
RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")
CHUNK = 16_384


def event(step: int, tag: str = "loss", wall_time: float | None = None) -> bytes:
    found = Event(wall_time=1.7e9 + step if wall_time is None else wall_time, step=step)
    found.summary.value.add(tag=tag, simple_value=float(step))
    return tf_record(found.SerializeToString(), google_crc32c.value)


def event_file(folder: Path, steps: range, name: str = "events.out.tfevents.1.host") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    with file.open("ab") as sink:
        if not file.stat().st_size:
            sink.write(tf_record(Event(file_version="brain.Event:2").SerializeToString(), google_crc32c.value))
        sink.writelines(map(event, steps))
    return file


def steps_of(found: list[dict[str, Any]]) -> list[int]:
    return [row["step"] for row in found]


def steps_in(root: Path, project: str) -> list[int]:
    """The steps of the run `r`, read by the client."""
    (table,) = rund.Run.from_names("r", project, root).metrics_tables
    return table.to_arrow(["step"])["step"].to_pylist()


def test_a_source_that_grows_is_continued(tmp_path: Path, shared_root: Path, ask: Any, project: str) -> None:
    for begin in (0, 10, 15, 40_000):
        event_file(tmp_path / "r", range(begin, {0: 10, 10: 15, 15: 40_000, 40_000: 40_001}[begin]))
        (run,) = ask("import", "tensorboard", tmp_path / "r", "--project", project)["runs"]
        assert run["created"] is (begin == 0)
    event_file(tmp_path / "r", range(5), "events.out.tfevents.2.host")
    ask("import", "tensorboard", tmp_path / "r", "--project", project)
    assert steps_in(shared_root, project) == [*range(40_001), *range(5)]


def test_a_copy_of_a_source_is_the_same_run(tmp_path: Path, ask: Any, project: str) -> None:
    file = event_file(tmp_path / "a/r", range(5))
    (tmp_path / "b/r").mkdir(parents=True)
    (tmp_path / "b/r" / file.name).write_bytes(file.read_bytes())
    first, second = (ask("import", "tensorboard", tmp_path / top, "--project", project)["runs"][0] for top in "ab")
    assert (first["run"], first["created"]) == (second["run"], True)
    assert (second["created"], second["rows"]) == (False, {"history": 0})


def test_scalars_of_one_step_share_a_row_if_they_are_near(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    (tmp_path / "r").mkdir()
    times = {"a": 100.0, "b": 100.5, "c": 103.0}
    with (tmp_path / "r/x.tfevents.1").open("wb") as sink:
        sink.writelines(event(1, tag, time) for tag, time in times.items())
    ask("import", "tensorboard", tmp_path, "--project", project)
    near = rows(f"{project}/r")
    assert [(row["time"], row["a"], row["b"], row["c"]) for row in near] == [
        ("1970-01-01T00:01:40Z", 1.0, 1.0, None),
        ("1970-01-01T00:01:43Z", None, None, 1.0),
    ]
    ask("import", "tensorboard", tmp_path, "--project", f"{project}-exact", "--join-within", "0")
    exact = rows(f"{project}-exact/r")
    assert [row["time"] for row in exact] == [
        "1970-01-01T00:01:40Z",
        "1970-01-01T00:01:40.500000Z",
        "1970-01-01T00:01:43Z",
    ]


def test_damage_is_said_and_what_was_sound_is_kept(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    file = event_file(tmp_path / "r", range(100))
    data = bytearray(file.read_bytes())
    data[-700] ^= 0xFF
    file.write_bytes(data)
    document = ask("import", "tensorboard", tmp_path, "--project", project, code=7)
    (run,) = document["runs"]
    assert "byte" in run["damage"][0]
    found = steps_of(rows(f"{project}/r"))
    assert found == list(range(len(found)))
    assert 50 < len(found) < 100


def test_what_is_not_there_and_what_is_something_else(tmp_path: Path, ask: Any) -> None:
    for kind in ("3lc", "tensorboard", "mlflow", "wandb", "trackio"):
        assert "there is no" in ask("import", kind, tmp_path / "none", code=3)
        folder = tmp_path / kind
        folder.mkdir()
        ask("import", kind, folder, code=1)
    sqlite3.connect(tmp_path / "x.db").execute("CREATE TABLE t (a)")
    assert "no database of MLflow" in ask("import", "mlflow", tmp_path / "x.db", code=1)
    (tmp_path / "x.wandb").write_bytes(b"something else")
    assert "no .wandb file" in ask("import", "wandb", tmp_path / "x.wandb", code=1)


def test_a_dry_run_writes_nothing(tmp_path: Path, ask: Any, project: str) -> None:
    event_file(tmp_path / "r", range(30))
    document = ask("import", "tensorboard", tmp_path, "--project", project, "--dry-run")
    assert document["runs"][0]["rows"] == {"history": 30}
    assert ask("ls", project)["runs"] == []
    ask("import", "tensorboard", tmp_path, "--project", project)
    event_file(tmp_path / "r", range(30, 35))
    document = ask("import", "tensorboard", tmp_path, "--project", project, "--dry-run")
    assert document["runs"][0]["rows"] == {"history": 5}


def test_3lc(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    run = tmp_path / "digits/runs/first"
    table = run / "metrics_0000"
    table.mkdir(parents=True)
    columns = {"example_id": pa.array(range(50)), "loss": [float(n) for n in range(50)]}
    columns["embedding"] = pa.array([[float(n)] * 4 for n in range(50)], pa.list_(pa.float32(), 4))
    pq.write_table(pa.table(columns), table / "row_cache.parquet")
    record = {
        "created": "2026-01-02T03:04:05+00:00",
        "description": "about",
        "status": 1.0,
        "metrics": [{"url": "metrics_0000", "stream_name": "val"}, {"url": "elsewhere", "stream_name": ""}],
        "constants": {"parameters": {"lr": 0.1}, "outputs": [{"epoch": 1, "acc": 0.5}], "inputs": [{"a": 1}]},
    }
    (run / "object.3lc.json").write_text(json.dumps(record))
    for created in (True, False):
        (found,) = ask("import", "3lc", tmp_path, "--project", project)["runs"]
        assert (found["created"], found["rows"]) == (created, {"metrics_0000": 50 if created else 0})
        assert any("elsewhere" in what for what in found["left_out"])
    shown = ask("show", f"{project}/first")
    assert (shown["parameters"], shown["outputs"]) == ({"lr": 0.1}, [{"epoch": 1, "acc": 0.5}])
    assert (shown["inputs"], shown["description"]) == ([{"a": 1}], "about")
    assert shown["labels"]["3lc_status"] == "1.0"
    (info,) = shown["metrics"]
    assert info["stream_name"] == "val"
    assert {column["name"]: column["role"] for column in info["columns"]}["embedding"] == "embedding"
    assert rows(f"{project}/first/metrics_0000")[7] == {"example_id": 7, "loss": 7.0, "embedding": [7.0] * 4}


def test_parquet_of_wandb(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    columns = {"_step": [0, 1, 2], "_timestamp": [1.5, 2.5, 3.5], "loss": [0.5, None, 0.25], "acc": [None, 0.1, None]}
    (tmp_path / "run-a").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "run-a/0000.parquet")
    for _ in range(2):
        ask("import", "wandb", tmp_path, "--project", project)
    found = rows(f"{project}/run-a")
    assert [(row["step"], row["loss"], row["acc"]) for row in found] == [
        (0, 0.5, None),
        (1, None, 0.1),
        (2, 0.25, None),
    ]
    assert found[0]["time"] == "1970-01-01T00:00:01.500000Z"


def test_parquet_of_neptune(tmp_path: Path, ask: Any, rows: Rows, project: str) -> None:
    def value(path: str, kind: str, run: str = "RUN-1", **more: Any) -> dict[str, Any]:
        return {"project_id": "team/p", "run_id": run, "attribute_path": path, "attribute_type": kind, **more}

    def series(path: str, step: int, number: float) -> dict[str, Any]:
        moment = datetime.fromtimestamp(100 + step, UTC)
        return value(path, "float_series", step=Decimal(step), timestamp=moment, float_value=number)

    values = [value("lr", "float", float_value=0.1), value("sys/tags", "string_set", string_set_value=["good"])]
    values += [
        series(path, step, step + offset) for path, offset in (("acc", 0.5), ("loss", 0.25)) for step in range(20)
    ]
    values += [value("model", "file"), value("n", "int", "RUN-2", int_value=3)]
    schema = pa.schema(
        {
            **dict.fromkeys(("project_id", "run_id", "attribute_path", "attribute_type"), pa.string()),
            "step": pa.decimal128(18, 6),
            "timestamp": pa.timestamp("ms", "UTC"),
            "int_value": pa.int64(),
            "float_value": pa.float64(),
            "string_value": pa.string(),
            "string_set_value": pa.list_(pa.string()),
        }
    )
    pq.write_table(pa.Table.from_pylist(values, schema=schema), tmp_path / "RUN-1_part_0.parquet")
    for _ in range(2):
        document = ask("import", "wandb", tmp_path, "--project", project)
    assert document["runs"][0]["left_out"] == {"file 'model'": 1}
    shown = ask("show", f"{project}/RUN-1")
    assert (shown["parameters"], shown["labels"]["good"]) == ({"lr": 0.1}, "true")
    assert ask("show", f"{project}/RUN-2")["parameters"] == {"n": 3}
    found = rows(f"{project}/RUN-1")
    assert [(row["step"], row["acc"], row["loss"]) for row in found] == [
        (step, step + 0.5, step + 0.25) for step in range(20)
    ]


@pytest.mark.chaos
def test_a_killed_import_is_completed(tmp_path: Path, shared_root: Path, ask: Any, project: str) -> None:
    steps = 6 * CHUNK + 7
    event_file(tmp_path / "r", range(steps))
    arguments = ["import", "tensorboard", str(tmp_path / "r"), "--project", project, "--root", str(shared_root)]
    kept = 0
    for kill in range(1, 4):
        importing = subprocess.Popen([*RUND, *arguments], stdout=subprocess.DEVNULL)
        # Killed while it writes: when a few more batches than before are committed.
        while importing.poll() is None and kept < kill * CHUNK:
            kept = sum(table["row_count"] for run in ask("ls", project)["runs"] for table in tables(ask, run))
        importing.send_signal(signal.SIGKILL)
        importing.wait()
    (run,) = ask("import", "tensorboard", tmp_path / "r", "--project", project)["runs"]
    assert run["created"] is False
    assert steps_in(shared_root, project) == list(range(steps))
    (listed,) = ask("ls", project)["runs"]
    assert listed["status"] == "COMPLETED"


def tables(ask: Any, run: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask("show", run["uid"])["metrics"]
    return found


def test_several_imports_at_once_make_one_run(tmp_path: Path, shared_root: Path, ask: Any, project: str) -> None:
    event_file(tmp_path / "r", range(3 * CHUNK))
    arguments = ["import", "tensorboard", str(tmp_path / "r"), "--project", project, "--root", str(shared_root)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    several = [subprocess.Popen([*RUND, *arguments], env=environment, stderr=subprocess.DEVNULL) for _ in range(3)]
    codes = [process.wait() for process in several]
    assert set(codes) <= {0, 1}
    assert 0 in codes
    ask("import", "tensorboard", tmp_path / "r", "--project", project)
    assert len(ask("ls", project)["runs"]) == 1
    assert steps_in(shared_root, project) == list(range(3 * CHUNK))
