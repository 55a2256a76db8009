"""The README and the guide are true: their code runs, from top to bottom, against a real daemon."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from rund_daemon.cli.app import rund as command_line

REPOSITORY = Path(__file__).parent.parent
PAGES = ("README.md", *(f"docs/guide/{page.name}" for page in sorted((REPOSITORY / "docs/guide").glob("*.md"))))

# Their code makes maps, with libraries that `make test-reduce` has.
NEED_REDUCERS = ("docs/guide/reducing.md",)


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.reduce) if page in NEED_REDUCERS else page for page in PAGES]
)
def test_python_runs(page: str, daemon: Callable[[], Any], tmp_path: Path) -> None:
    # One program a page: later blocks go on from earlier ones.
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
    environment["RUND_ROOT"] = str(daemon().root)
    result = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_shows_twenty_lines() -> None:
    (code,) = blocks("README.md", "python")
    assert len(code.splitlines()) <= 20


def test_the_readme_commands_exist() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    commands = "\n".join(blocks("README.md", "sh"))
    targets = re.findall(r"^make ([a-z-]+)", commands, flags=re.MULTILINE)
    assert targets[:2] == ["demo", "test"]
    for target in targets:
        assert f"\n{target}:" in makefile


@pytest.mark.parametrize("page", PAGES)
def test_rund_commands_exist(page: str) -> None:
    context = click.Context(command_line)
    named = re.findall(r"\brund ([a-z]+)(.*)", "\n".join(blocks(page, "sh")))
    for name, rest in named:
        command = command_line.get_command(context, name)
        assert command is not None, f"{page}: there is no `rund {name}`"
        if isinstance(command, click.Group) and (below := rest.split()[:1]):
            command = command.get_command(context, below[0])
            assert command is not None, f"{page}: there is no `rund {name} {below[0]}`"
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest.partition("#")[0])) <= known
