"""The commands that work on a root's files, and those that find no daemon there."""

from __future__ import annotations

import fcntl
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from rund_daemon.authorization import Scope, TokenFile
from rund_daemon.cli.app import run


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUND_"):
            monkeypatch.delenv(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def result(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


class TestTokens:
    def test_a_token_is_made_listed_and_removed(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["token", "create", "--scope", "read", "--project", "p", "--root", str(root), "--json"]) == 0
        made = result(capsys)
        assert (made["token"]["scope"], made["token"]["project"]) == ("read", "p")
        [kept] = TokenFile(root).tokens()
        assert (kept.scope, kept.project) == (Scope.READ, "p")
        assert made["secret"] not in (root / "tokens.json").read_text()
        assert stat.S_IMODE(root.stat().st_mode) == 0o700

        assert run(["token", "ls", "--root", str(root), "--json"]) == 0
        listed = result(capsys)
        assert listed == {"tokens": [made["token"]]}
        assert kept.digest not in json.dumps(listed)

        token_id = made["token"]["token_id"]
        assert run(["token", "rm", token_id, token_id, "--root", str(root), "--json"]) == 0
        assert result(capsys) == {"removed": [token_id]}
        assert TokenFile(root).tokens() == ()

    def test_the_secret_alone_goes_to_stdout(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["token", "create", "--root", str(root)]) == 0
        captured = capsys.readouterr()
        assert captured.out == captured.out.strip() + "\n"
        assert len(captured.out) > 30
        assert captured.out.strip() not in captured.err

    def test_one_that_is_not_there_removes_none(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        token, _ = TokenFile(root).add(Scope.READ, "")
        assert run(["token", "rm", token.token_id, "nonsense", "--root", str(root)]) == 3
        assert "'nonsense'" in capsys.readouterr().err
        assert len(TokenFile(root).tokens()) == 1

    def test_a_damaged_file_is_named(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root.mkdir()
        (root / "tokens.json").write_text("{")
        assert run(["token", "ls", "--root", str(root)]) == 1
        assert str(root / "tokens.json") in capsys.readouterr().err


class TestConfig:
    def test_it_says_where_each_setting_comes_from(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root.mkdir()
        (root / "rund.toml").write_text('grace_seconds = 3\nlog_level = "ERROR"\nlisten = ["tcp:127.0.0.1:1"]\n')
        monkeypatch.setenv("RUND_LOG_LEVEL", "warning")
        monkeypatch.setenv("RUND_LISTEN", "tcp:127.0.0.1:2")
        assert run(["config", "show", "--root", str(root), "--listen", "tcp:127.0.0.1:3", "--json"]) == 0
        shown = result(capsys)
        assert (shown["file"], shown["file_exists"]) == (str(root / "rund.toml"), True)
        settings = {setting["name"]: setting for setting in shown["settings"]}
        found = {name: (entry["value"], entry["source"], entry["origin"]) for name, entry in settings.items()}
        assert found["root"] == (str(root), "flag", "--root")
        assert found["listen"] == (["tcp:127.0.0.1:3"], "flag", "--listen")
        assert found["log_level"] == ("WARNING", "environment", "RUND_LOG_LEVEL")
        assert found["grace_seconds"] == (3.0, "file", str(root / "rund.toml"))
        assert found["tls_key"] == ("", "default", "default")

    def test_text_names_every_setting_once(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["config", "show", "--root", str(root)]) == 0
        captured = capsys.readouterr()
        heading, *lines = captured.out.splitlines()
        assert heading == "SETTING\tVALUE\tFROM"
        assert f"root\t{root}\t--root" in lines
        assert len({line.split("\t")[0] for line in lines}) == len(lines)
        assert "rund.toml" in captured.err

    def test_a_bad_file_is_named(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root.mkdir()
        (root / "rund.toml").write_text("nonsense = 1\n")
        assert run(["config", "show", "--root", str(root)]) == 2
        assert "'nonsense' is no setting" in capsys.readouterr().err


class TestNoDaemon:
    @pytest.mark.parametrize(
        "arguments", [["ls"], ["show", "p/r"], ["tail", "p/r"], ["rm", "p/r", "-y"], ["call", "GetServerInfo"]]
    )
    def test_it_says_so_and_how_to_start_one(
        self, arguments: list[str], root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert run([*arguments, "--root", str(root)]) == 4
        captured = capsys.readouterr()
        assert captured.err == f"rund: no daemon runs for the root {root}; start one with `rund serve --root {root}`\n"
        assert captured.out == ""
        assert not root.exists()

    def test_status(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root.mkdir()
        (root / "daemon.error").write_text("can't listen\n")
        assert run(["status", "--root", str(root), "--json"]) == 4
        found = result(capsys)
        assert (found["state"], found["running"], found["last_failure"]) == ("stopped", False, "can't listen")
        assert run(["status", "--root", str(root)]) == 4
        captured = capsys.readouterr()
        assert "state\tstopped" in captured.out
        assert "rund serve" in captured.err

    def test_stop_is_content(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["stop", "--root", str(root), "--json"]) == 0
        assert result(capsys)["stopped"] is False

    def test_nobody_at_an_address(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        address = f"unix:{root}.sock"
        assert run(["ls", "--address", address]) == 4
        assert address in capsys.readouterr().err
        assert run(["status", "--address", address, "--json"]) == 4
        assert result(capsys)["state"] == "unreachable"

    def test_a_daemon_that_starts_or_stops_is_not_taken_for_none(
        self, root: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root.mkdir()
        with (root / "daemon.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert run(["ls", "--root", str(root)]) == 4
            assert "starting or stopping" in capsys.readouterr().err
            assert run(["status", "--root", str(root), "--json"]) == 4
            assert result(capsys)["state"] == "unsettled"
            assert run(["stop", "--root", str(root), "--timeout", "0.1"]) == 6

    def test_a_damaged_address_file_is_no_daemon(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        root.mkdir()
        (root / "daemon.json").write_text("{")
        assert run(["ls", "--root", str(root)]) == 4
        assert "no daemon runs" in capsys.readouterr().err
        assert run(["stop", "--root", str(root)]) == 0
