"""Commands on a real daemon, and sources made by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rund_daemon.cli.app import run as run_in_process

Command = Callable[..., Any]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("RUND_"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_root(daemon: Any) -> Path:
    folder: Path = daemon().root
    return folder


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    """A project of the test's own."""
    return str(request.node.name)


@pytest.fixture
def ask(shared_root: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command with `--json` and gives its document, or its errors when it has none."""

    def command(*arguments: object, code: int = 0) -> Any:
        words = [*map(str, arguments), "--json", "--root", str(shared_root)]
        assert run_in_process(words) == code, capsys.readouterr().err
        captured = capsys.readouterr()
        return json.loads(captured.out) if captured.out else captured.err

    return command


@pytest.fixture
def rows(shared_root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], list[dict[str, Any]]]:
    """The rows of a run's table, as `rund tail` gives them."""

    def read(table: str) -> list[dict[str, Any]]:
        assert run_in_process(["tail", table, "-n", "10000000", "--json", "--root", str(shared_root)]) == 0
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return read
