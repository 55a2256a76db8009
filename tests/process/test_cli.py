"""The command line against a real daemon: what a person and a script see."""

from __future__ import annotations

import json
import math
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rund
from rund_daemon.cli.app import run as run_in_process

RUND = (sys.executable, "-c", "import sys; from rund_daemon.cli import main; sys.exit(main())")
TIMEOUT_S = 60.0

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUND_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def root(daemon: Any) -> Path:
    """A root with three runs: one that is complete, one that failed, one of another project."""
    folder: Path = daemon().root
    with rund.init(
        "digits", "first é", "about\x1b[31m\nmore", PARAMETERS, root_url=folder, labels={"team": "x"}
    ) as run:
        for step in range(25):
            run.log({"loss": 1 / (step + 1), "word": f"w\t{step}"}, step=step)
        run.add_output_value({"epoch": 1, "accuracy": 0.5})
        run.add_metrics({"embedding": np.ones((20, 8), np.float32), "label": list(range(20))}, name="val")
    with pytest.raises(ValueError, match="boom"), rund.init("digits", "failed", root_url=folder):
        raise ValueError("boom")
    rund.init("other", "last", root_url=folder).finish()
    return folder


@pytest.fixture(scope="module")
def busy(daemon: Any) -> Path:
    """A root for tests that make runs."""
    folder: Path = daemon().root
    return folder


PARAMETERS: Mapping[str, Any] = {
    "lr": 0.1,
    "n": 10,
    "none": math.nan,
    "big": 2**70,
    "raw": b"\x00\xff",
    "deep": {"a": [1]},
}


@pytest.fixture
def ask(root: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with `--json` and gives its document."""

    def command(*arguments: str, code: int = 0) -> Any:
        assert run_in_process([*arguments, "--json", "--root", str(root)]) == code
        captured = capsys.readouterr()
        return json.loads(captured.out) if captured.out else captured.err

    return command


@pytest.fixture
def tell(root: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command and gives the lines of its plain text."""

    def command(*arguments: str, code: int = 0) -> list[list[str]]:
        assert run_in_process([*arguments, "--root", str(root)]) == code
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    return command


def in_terminal(*arguments: str, environment: Mapping[str, str] | None = None, typed: str = "") -> tuple[int, str]:
    """Runs `rund` in a terminal of its own; gives its exit code and what the terminal was sent."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "100", **(environment or {})})
        os.execv(RUND[0], [*RUND, *arguments])
    os.write(terminal, typed.encode())
    shown = b""
    try:
        while piece := os.read(terminal, 65_536):
            shown += piece
    except OSError:  # the other end is closed: the command has ended
        pass
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


class Following:
    """A `rund tail --follow` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*RUND, "tail", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next line. A test that waits for one too long is ended by its timeout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def interrupt(self) -> int:
        """Presses Ctrl-C and gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def follow(root: Path) -> Iterator[Callable[..., Following]]:
    started: list[Following] = []

    def start(*arguments: str) -> Following:
        started.append(Following(*arguments, "--follow", "--root", str(root)))
        return started[-1]

    yield start
    for following in started:
        following.process.kill()
        following.process.communicate()


class TestList:
    def test_newest_first(self, ask: Command, tell: Command) -> None:
        listed = ask("ls")
        assert [run["name"] for run in listed["runs"]] == ["last", "failed", "first é"]
        assert listed["more"] is False
        heading, *lines = tell("ls")
        assert heading == ["RUN", "STATUS", "CREATED", "MODIFIED", "DESCRIPTION"]
        assert [line[:2] for line in lines] == [
            ["other/last", "COMPLETED"],
            ["digits/failed", "FAILED"],
            ["digits/first é", "COMPLETED"],
        ]
        assert lines[2][4] == "about\\x1b[31m\\nmore"
        assert lines[2][2].endswith("Z")

    def test_one_project(self, ask: Command) -> None:
        assert [run["name"] for run in ask("ls", "other")["runs"]] == ["last"]
        assert ask("ls", "nothing")["runs"] == []

    def test_a_limit_and_that_there_are_more(
        self, ask: Command, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        listed = ask("ls", "--limit", "2")
        assert (len(listed["runs"]), listed["more"]) == (2, True)
        assert ask("ls", "--limit", "3")["more"] is False
        assert len(ask("ls", "--limit", "0")["runs"]) == 3
        assert run_in_process(["ls", "--limit", "2", "--root", str(root)]) == 0
        assert "more than these 2" in capsys.readouterr().err

    def test_filter_and_order(self, ask: Command) -> None:
        assert [run["name"] for run in ask("ls", "--filter", "status = FAILED")["runs"]] == ["failed"]
        assert [run["name"] for run in ask("ls", "--filter", "parameters.lr < 0.2")["runs"]] == ["first é"]
        assert [run["name"] for run in ask("ls", "--order-by", "run_name")["runs"]] == ["failed", "first é", "last"]

    def test_a_bad_filter_is_refused(self, ask: Command) -> None:
        assert ask("ls", "--filter", "status = ", code=1).startswith("rund: filter")
        assert "'nonsense'" in ask("ls", "--order-by", "nonsense", code=1)


def without_sizes(run: dict[str, Any]) -> dict[str, Any]:
    """A run without what sealing, which comes when it comes, changes."""
    tables = [{key: value for key, value in table.items() if key != "file_size"} for table in run["metrics"]]
    return run | {"metrics": tables}


class TestShow:
    def test_every_way_to_name_a_run(self, ask: Command, root: Path) -> None:
        shown = ask("show", "digits/first é")
        for name in (shown["resource_name"], shown["url"], f"file://{shown['url']}", shown["uid"]):
            assert without_sizes(ask("show", name)) == without_sizes(shown)
        assert shown["url"] == f"{root}/digits/runs/first é"

    def test_values_come_as_they_went_in(self, ask: Command) -> None:
        shown = ask("show", "digits/first é")
        assert shown["status"] == "COMPLETED"
        assert shown["labels"] == {"team": "x"}
        assert shown["outputs"] == [{"epoch": 1, "accuracy": 0.5}]
        assert shown["parameters"] == {**PARAMETERS, "none": "NaN", "raw": "AP8="}
        assert type(shown["parameters"]["n"]) is int
        tables = {table["name"]: table for table in shown["metrics"]}
        assert {name: table["row_count"] for name, table in tables.items()} == {"history": 25, "val": 20}
        assert all(table["file_size"] > 0 for table in tables.values())

    def test_text_tells_status_cause_values_and_tables(self, tell: Command) -> None:
        lines = tell("show", "digits/first é")
        for line in (
            ["status", "COMPLETED"],
            ["inputs", "0"],
            ["outputs", "1"],
            ["n", "10"],
            ["none", "NaN"],
            ["team", "x"],
        ):
            assert line in lines
        [history] = [line for line in lines if line[0] == "history"]
        assert history[1] == "25"
        assert ["cause", "exception: ValueError: boom"] in tell("show", "digits/failed")

    def test_one_that_is_not_there(self, ask: Command) -> None:
        assert "'none'" in ask("show", "digits/none", code=3)
        assert ask("show", "01a20924-bd7b-7fe8-b556-0b5c9e8c8226", code=3).startswith("rund: ")

    def test_the_url_of_a_run_leads_to_its_daemon(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_in_process(["show", f"{root}/other/runs/last", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "last"
        assert run_in_process(["show", "/nowhere/other/runs/last"]) == 4
        assert "the root /nowhere" in capsys.readouterr().err


class TestTail:
    def test_the_last_rows_of_history(self, tell: Command) -> None:
        heading, *lines = tell("tail", "digits/first é", "-n", "3")
        assert heading == ["step", "time", "rank", "loss", "word"]
        assert [(line[0], line[3], line[4]) for line in lines] == [
            (str(step), repr(1 / (step + 1)), f"w\\t{step}") for step in (22, 23, 24)
        ]
        assert len(tell("tail", "digits/first é")) == 11
        assert len(tell("tail", "digits/first é", "-n", "1000")) == 26
        assert tell("tail", "digits/first é", "-n", "0") == []

    def test_another_table_and_some_columns(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        arguments = ["tail", "digits/first é/val", "-n", "2", "--json", "--root", str(root)]
        assert run_in_process(arguments) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert rows == [{"embedding": [1.0] * 8, "label": label} for label in (18, 19)]
        assert run_in_process([*arguments, "--columns", "label"]) == 0
        assert capsys.readouterr().out == '{"label": 18}\n{"label": 19}\n'
        assert run_in_process([*arguments, "--columns", "nonsense"]) == 1
        assert "nonsense" in capsys.readouterr().err

    def test_a_table_that_is_not_there(self, ask: Command) -> None:
        refusal = ask("tail", "digits/first é/none", code=3)
        assert "its tables are" in refusal
        assert {"history", "val"} <= set(refusal.replace(",", "").split())
        assert "nothing was recorded yet" in ask("tail", "other/last", code=3)
        assert ask("tail", "digits/none", code=3).startswith("rund: ")

    def test_it_goes_on_when_the_daemon_was_away(self, daemon: Any) -> None:
        running = daemon()
        with rund.init("live", "away", root_url=running.root) as run:
            run.log({"loss": 0.5}, step=0)
            run.flush()
            following = Following("live/away", "--follow", "--columns", "step", "--root", str(running.root))
            assert [following.line(), following.line()] == ["step", "0"]
            running.kill()
            running.start()
            run.log({"loss": 0.5}, step=1)
            run.flush()
            assert following.line() == "1"
            assert following.interrupt() == 130
        following.process.communicate()

    def test_whoever_has_read_enough_may_go(self, root: Path) -> None:
        command = [*RUND, "tail", "digits/first é/val", "--root", str(root)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(TIMEOUT_S) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.stderr.close()


class TestFollowing:
    @pytest.fixture
    def root(self, busy: Path) -> Path:
        """One of its own: other tests look at all runs of theirs."""
        return busy

    def test_it_follows_live(self, root: Path, follow: Callable[..., Following]) -> None:
        with rund.init("live", "run", root_url=root) as run:
            run.log({"loss": 0.5}, step=0)
            run.flush()
            following = follow("live/run", "--json")
            assert json.loads(following.line())["step"] == 0
            for step in range(1, 4):
                run.log({"loss": 0.5 / step}, step=step)
                run.flush()
                assert json.loads(following.line())["loss"] == 0.5 / step
            run.log({"loss": 0.0, "accuracy": 1.0}, step=4)
            run.flush()
            assert json.loads(following.line())["accuracy"] == 1.0
        assert following.process.wait(TIMEOUT_S) == 0, "it ends with the run"

    def test_it_waits_for_the_table(self, root: Path, follow: Callable[..., Following]) -> None:
        with rund.init("live", "later", root_url=root) as run:
            following = follow("live/later", "-n", "0")
            assert following.process.stderr is not None
            assert "no table 'history' yet" in following.process.stderr.readline()
            run.log({"loss": 0.25}, step=7)
            run.flush()
            assert following.line() == "step\ttime\trank\tloss"
            assert following.line().split("\t")[::3] == ["7", "0.25"]
            assert following.interrupt() == 130


class TestTrash:
    @pytest.fixture
    def root(self, busy: Path) -> Path:
        """One of its own, as above."""
        return busy

    @pytest.fixture
    def run(self, root: Path) -> rund.Run:
        run = rund.init("waste", root_url=root)
        run.finish()
        return run

    def test_there_and_back(self, run: rund.Run, ask: Command, tell: Command) -> None:
        [deleted] = ask("rm", f"waste/{run.name}", run.url, run.uid, "--yes")["deleted"]
        assert deleted["uid"] == run.uid
        assert ask("ls", "waste")["runs"] == []
        assert run.uid in [entry["uid"] for entry in ask("ls", "waste", "--deleted")["runs"]]
        assert tell("ls", "waste", "--deleted")[0][-1] == "DELETED"
        assert ask("show", f"waste/{run.name}", code=3).startswith("rund: ")
        assert ask("show", run.uid, "--deleted")["deleted"] is not None
        assert ask("undelete", f"waste/{run.name}")["restored"][0]["uid"] == run.uid
        assert ask("show", run.uid)["deleted"] is None
        ask("rm", run.uid, "--yes")

    def test_it_says_how_to_undelete(self, run: rund.Run, tell: Command) -> None:
        [[said]] = tell("rm", f"waste/{run.name}", "--yes")
        assert said.startswith(f"moved waste/{run.name} to trash; `rund undelete {run.uid}` restores it until")
        assert tell("undelete", run.uid) == [[f"restored waste/{run.name}"]]
        tell("rm", run.uid, "--yes")

    def test_a_run_that_is_not_there_keeps_the_others(self, run: rund.Run, ask: Command) -> None:
        assert "'none'" in ask("rm", f"waste/{run.name}", "waste/none", "--yes", code=3)
        assert ask("show", run.uid)["deleted"] is None
        ask("rm", run.uid, "--yes")

    def test_without_a_terminal_it_must_be_told(self, run: rund.Run, ask: Command) -> None:
        assert "--yes" in ask("rm", run.uid, code=2)
        assert ask("show", run.uid)["deleted"] is None
        ask("rm", run.uid, "--yes")

    def test_in_a_terminal_it_asks(self, run: rund.Run, ask: Command, root: Path) -> None:
        code, shown = in_terminal("rm", run.uid, "--root", str(root), typed="n\n")
        assert code == 1
        assert f"waste/{run.name}" in shown
        assert "nothing was moved" in shown
        assert ask("show", run.uid)["deleted"] is None
        code, shown = in_terminal("rm", run.uid, "--root", str(root), typed="y\n")
        assert code == 0
        assert "rund undelete" in shown
        assert ask("show", run.uid, "--deleted")["deleted"] is not None

    def test_a_name_that_is_taken_stays_taken(
        self, run: rund.Run, ask: Command, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ask("rm", run.uid, "--yes")
        rund.init("waste", run.name, root_url=root).finish()
        assert run_in_process(["undelete", run.uid, "--root", str(root)]) == 1
        captured = capsys.readouterr()
        assert captured.err.startswith(f"rund: waste/{run.name}: ")
        assert captured.out == ""
        ask("rm", f"waste/{run.name}", "--yes")


class TestCall:
    def test_by_name(self, ask: Command) -> None:
        assert ask("call", "GetServerInfo")["server_info"]["version"]
        request = '{"name": "projects/other/runs/last"}'
        for method in ("GetRun", "RunService.GetRun", "rund.v1.RunService/GetRun"):
            assert ask("call", method, request)["run"]["run_name"] == "last"

    def test_errors_are_those_of_the_daemon(self, ask: Command) -> None:
        assert ask("call", "GetRun", '{"name": "projects/other/runs/none"}', code=3).startswith("rund: ")
        assert ask("call", "GetRun", '{"name": "nonsense"}', code=1).startswith("rund: ")


class TestTerminal:
    def test_tables_and_colours(self, root: Path) -> None:
        code, shown = in_terminal("ls", "--root", str(root))
        assert code == 0
        assert "\x1b[1;31mFAILED" in shown
        assert "about\\x1b[31m" in shown
        assert "\t" not in shown

    def test_no_color(self, root: Path) -> None:
        _, shown = in_terminal("ls", "--root", str(root), environment={"NO_COLOR": "1"})
        assert "FAILED" in shown
        assert "31m" not in shown.replace("\\x1b[31m", "")

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["show", "digits/first é"], "{a: [1]}"),
            (["tail", "digits/first é", "-n", "1"], "0.04"),
            (["tail", "digits/first é/val", "-n", "1"], "[1, 1, … 8 values]"),
            (["status"], "running"),
            (["config", "show"], "not set"),
        ],
    )
    def test_every_command_shows_something(self, arguments: list[str], expected: str, root: Path) -> None:
        code, shown = in_terminal(*arguments, "--root", str(root))
        assert code == 0
        assert expected in shown
