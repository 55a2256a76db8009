"""A project that holds as much as it may takes nothing new, and everything that is there goes on."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund
from rund._transport import run_calls
from rund._transport.run_calls import CopyTarget
from rund_daemon.cli.app import run as run_in_process

from tests.process.raw_daemon import RawDaemon, running

QUOTA = 200_000
ROWS = {"x": np.arange(QUOTA // 8)}
"""More than a project may hold, once there is anything else."""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawDaemon]:
    root = tmp_path_factory.mktemp("quotas") / "root"
    root.mkdir()
    (root / "rund.toml").write_text(f'quota = "{QUOTA} B"\n[project_quota]\nlarge = "1 TiB"\nfree = 0\n')
    yield from running(root)


@pytest.fixture
def root(daemon: RawDaemon, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUND_ROOT", str(daemon.root))
    return daemon.root


def usage(project: str) -> rund.ProjectUsage:
    (found,) = rund.connect().list_usage(project)
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    """What a project holds is remembered for a moment, and changes while files are put together."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def filled(project: str, name: str = "first") -> rund.Run:
    """A run that holds more than its project may; it goes on."""
    run = rund.init(project, name)
    run.add_metrics(ROWS, name="rows")
    wait_until(lambda: usage(project).held_bytes > QUOTA)
    return run


def refusal(project: str, name: str) -> rund.OverQuotaError:
    with pytest.raises(rund.OverQuotaError) as refused:
        rund.init(project, name)
    return refused.value


def copied(run: rund.Run, **target: str) -> rund.OperationInfo:
    return run_calls.copy_run(run.daemon.transport, run.resource_name, CopyTarget(**target))


def test_nothing_new_comes_in_and_the_error_says_what_to_do(root: Path, tmp_path: Path) -> None:
    with filled("new") as run:
        wait_until(lambda: refusal("new", "second").details["held_bytes"] == str(usage("new").held_bytes))
        error = refusal("new", "second")
        assert (error.code, error.details["project"]) == ("RESOURCE_EXHAUSTED", "new")
        held = int(error.details["held_bytes"])
        assert held > QUOTA == int(error.details["quota_bytes"])
        for part in (f"{held:,} bytes", f"{QUOTA:,}", "rund rm", "rund gc --project new --all", "project_quota"):
            assert part in str(error)
        assert isinstance(error, OSError)
        with pytest.raises(rund.OverQuotaError):
            rund.init("new", "first", if_exists="overwrite")
        with pytest.raises(rund.OverQuotaError):
            rund.Table.from_dict({"a": [1]}, "table", "data", project_name="new")
        with pytest.raises(rund.OverQuotaError):
            run.copy("twice")
        run.to_bundle(tmp_path / "bundle")
        with pytest.raises(rund.OverQuotaError):
            rund.connect().import_bundle(tmp_path / "bundle", if_exists="rename")
        assert [info.name for info in rund.connect().list_runs("new", show_deleted=True)] == ["first"]
        assert list(rund.connect().list_tables("new")) == []
        with rund.init("other", "second") as other:
            other.log({"x": 1})
        run.add_output_value({"still": "here"})


def test_runs_that_are_there_are_written_resumed_and_joined(root: Path) -> None:
    run = filled("going")
    run.log({"loss": 0.5}, step=1)
    run.add_metrics({"x": [1, 2, 3]}, name="more")
    run.flush()
    run.finish()
    with rund.init("going", "first", if_exists="reuse") as again:
        again.log({"loss": 0.25}, step=2)
        assert again.uid == run.uid
    with rund.init("going", "first", resume=True) as resumed:
        assert resumed.uid == run.uid
    tables = {info.name: info.row_count for info in rund.Run.from_names("first", "going").metrics}
    assert tables == {"rows": len(ROWS["x"]), "history": 2, "more": 3}


def test_a_request_that_was_carried_out_is_answered_again(root: Path) -> None:
    run = filled("again")
    run.finish()
    transport, request = run.daemon.transport, str(uuid.uuid4())
    new = run_calls.NewRun("again", "second")
    with pytest.raises(rund.OverQuotaError):
        run_calls.create_run(transport, new, request)
    run.delete()
    assert rund.connect().collect_trash("again", min_age_seconds=0)
    info, created = run_calls.create_run(transport, new, request)
    assert created
    with filled("again", "third"):
        again, created = run_calls.create_run(transport, new, request)
        assert (again.uid, created) == (info.uid, True)


def test_room_is_made_by_collecting_the_trash(root: Path) -> None:
    run = filled("emptied")
    run.finish()
    run.delete()
    wait_until(lambda: usage("emptied").trashed_run_count == 1)
    held = usage("emptied")
    assert (held.run_count, held.trashed_bytes) == (0, held.held_bytes)
    with pytest.raises(rund.OverQuotaError):
        rund.init("emptied", "second")
    run.undelete()
    run.delete()
    assert rund.connect().collect_trash("emptied", min_age_seconds=0)
    rund.init("emptied", "second").finish()
    assert usage("emptied").trashed_bytes == 0


def test_what_would_not_fit_does_not_come_in(root: Path, tmp_path: Path) -> None:
    with rund.init("large", "big") as big:
        big.add_metrics({"x": np.arange(QUOTA // 4)}, name="rows")
        with pytest.raises(rund.OverQuotaError, match="more"):
            big.copy("big", "small")
        assert big.copy("fits", "free").project_name == "free"
        big.to_bundle(tmp_path / "bundle")
    with pytest.raises(rund.OverQuotaError, match="more"):
        rund.connect().import_bundle(tmp_path / "bundle", "big", "small")
    assert rund.connect().import_bundle(tmp_path / "bundle", "again").project_name == "large"
    small = rund.Table.from_dict({"x": np.arange(QUOTA // 16)}, "half", "data", project_name="small")
    with pytest.raises(rund.OverQuotaError, match="more"):
        rund.Table.from_dict({"x": np.arange(QUOTA // 16)[::-1].copy()}, "other", "data", project_name="small")
    again = rund.Table.from_dict({"x": np.arange(QUOTA // 16)}, "half", "data", project_name="small")
    assert again.url == small.url, "it is there already"
    assert [path for path in root.glob("trash/new/*") if not path.is_symlink()] == [], (
        "what did not come in has left nothing"
    )
    assert list(rund.connect().list_runs("small")) == []


def test_registered_tables_and_bulk_data(root: Path, tmp_path: Path) -> None:
    with rund.init("bulk", "run") as run:
        folder = Path(run.bulk_data_url)
        (folder / "deep").mkdir()
        (folder / "deep" / "weights").write_bytes(bytes(QUOTA))
        (folder / "link").symlink_to(tmp_path)
        wait_until(lambda: usage("bulk").held_bytes >= QUOTA)
        (tmp_path / "large.csv").write_text("a\n" + "1\n" * QUOTA)
        rund.Table.register(tmp_path / "large.csv", "large", "data", project_name="bulk")
        with pytest.raises(rund.OverQuotaError):
            rund.init("bulk", "second")
        (folder / "deep" / "weights").unlink()
        wait_until(lambda: usage("bulk").held_bytes < QUOTA // 2)
        rund.init("bulk", "second").finish()


def test_what_the_command_line_shows(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(*arguments: str) -> Any:
        assert run_in_process(["usage", *arguments, "--root", str(root)]) == 0
        return capsys.readouterr().out

    with filled("shown"):
        held = [-1]

        def is_settled() -> bool:
            (found,) = json.loads(shown("--json", "--project", "shown"))["projects"]
            held[:] = [found["held_bytes"]]
            return held == [usage("shown").held_bytes]

        wait_until(is_settled)
        (found,) = json.loads(shown("--json", "--project", "shown"))["projects"]
        assert found == {
            "project_name": "shown",
            "run_count": 1,
            "trashed_run_count": 0,
            "held_bytes": held[0],
            "trashed_bytes": 0,
            "quota_bytes": QUOTA,
        }
        rund.init("free", "any").finish()
        rows = [line.split("\t") for line in shown().splitlines()]
        assert rows[0][0] == "PROJECT"
        sizes = [int(row[3]) for row in rows[1:]]
        assert sizes == sorted(sizes, reverse=True)
        assert next(row for row in rows if row[0] == "free")[5:] == ["", ""]


def test_a_daemon_without_quotas_measures_for_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in running(tmp_path / "root"):
        monkeypatch.setenv("RUND_ROOT", str(other.root))
        rund.Table.from_dict({"a": [1]}, "t", "d", project_name="tables only")
        with rund.init("b", "run") as run:
            run.add_metrics({"a": [1]})
            copied(run, run_name="copy", project_name="a")
        wait_until(lambda: [entry.project_name for entry in rund.connect().list_usage()] == ["a", "b", "tables only"])
        assert all(entry.quota_bytes == 0 for entry in rund.connect().list_usage())
        assert usage("nobody") == rund.ProjectUsage("nobody", 0, 0, 0, 0, 0)
