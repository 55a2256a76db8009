"""Trash is emptied: by the client, by the command line, and by the daemon itself when the time has come."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import rund

from tests.process.raw_daemon import running

RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    folder: Path = daemon().root
    return folder


def deleted(root: Path, project: str) -> rund.RunInfo:
    with rund.init(project, "run", root_url=root) as run:
        run.add_metrics({"x": list(range(1000))})
    run.delete()
    return run.info


def command(root: Path, *words: str, code: int = 0) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    done = subprocess.run(
        [*RUND, "gc", *words, "--json", "--root", str(root)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if not code else done.stderr


def test_a_client_looks_first_and_then_removes(root: Path) -> None:
    info, client = deleted(root, "client"), rund.connect(root)
    assert client.collect_trash("client", dry_run=True) == [], "it has not expired"
    (entry,) = client.collect_trash("client", min_age_seconds=0, dry_run=True)
    assert entry.run is not None
    assert (entry.run.uid, entry.run.deleted is not None) == (info.uid, True)
    assert entry.path == str(root / "trash" / info.uid.replace("-", ""))
    assert entry.size_bytes > 8_000
    assert [gone.path for gone in client.collect_trash("client", min_age_seconds=0)] == [entry.path]
    assert not Path(entry.path).exists()
    with pytest.raises(FileNotFoundError):
        rund.Run.from_names("run", "client", root)
    with pytest.raises(ValueError, match="min_age"):
        client.collect_trash(min_age_seconds=-1)


def test_the_command_line(root: Path) -> None:
    info = deleted(root, "typed")
    arguments = ("--project", "typed", "--all")
    preview = command(root, *arguments, "--dry-run")
    assert [entry["run"]["uid"] for entry in preview["entries"]] == [info.uid]
    assert "--yes" in command(root, *arguments, code=2)
    assert "--all" in command(root, "--all", "--older-than", "3", code=2)
    assert command(root, "--project", "typed", "--older-than", "1", "--yes")["entries"] == []
    # Not their sizes: what the run left open may have been sealed since.
    gone = command(root, *arguments, "--yes")
    assert (gone["removed"], [entry["path"] for entry in gone["entries"]]) == (True, [preview["entries"][0]["path"]])
    assert command(root, *arguments)["entries"] == [], "nothing is left to ask about"


def test_the_daemon_does_it_when_the_time_has_come(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "rund.toml").write_text("[project_trash_days]\nshort = 0\n")
    for daemon in running(root):
        deleted(root, "short")
        kept = deleted(root, "kept")
        daemon.restart()
        deadline = time.monotonic() + 60
        while not daemon.log("trash_collected"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert [line["count"] for line in daemon.log("trash_collected")] == [1]
        assert [path.name for path in root.glob("trash/*") if path.name != "new"] == [kept.uid.replace("-", "")]
        assert [run.uid for run in rund.connect(root).list_runs(show_deleted=True)] == [kept.uid]


def test_what_is_overwritten_is_kept_as_long_as_what_is_deleted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "rund.toml").write_text("trash_days = 2\n[project_trash_days]\nfour = 4\n")
    for _ in running(root):
        client = rund.connect(root)
        with rund.init("four", "run", root_url=root) as run:
            run.log({"x": 1})
        run.to_bundle(tmp_path / "bundle")
        run.copy("copy", "two")
        run.copy("copy", "two", if_exists="overwrite")
        client.import_bundle(tmp_path / "bundle", if_exists="overwrite")
        rund.init("four", "run", root_url=root, if_exists="overwrite").finish()
        trashed = [info for info in client.list_runs(show_deleted=True) if info.deleted]
        days = sorted((info.project_name, (info.expires - info.deleted).days) for info in trashed)
        assert days == [("four", 4), ("four", 4), ("two", 2)]
