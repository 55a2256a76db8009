"""The documentation is whole: whatever a user may type or set is in it, and every page can be reached."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import rund
from rund_daemon.__main__ import ExitCode
from rund_daemon.config import Config

REPOSITORY = Path(__file__).parent.parent
DOCS = REPOSITORY / "docs"
OPERATIONS = (DOCS / "operations.md").read_text()


@pytest.mark.parametrize("setting", [item.name for item in fields(Config)])
def test_every_setting_is_described(setting: str) -> None:
    assert f"`RUND_{setting.upper()}`" in OPERATIONS
    assert setting == "root" or f"| `{setting}` |" in OPERATIONS


def test_every_variable_is_described() -> None:
    sources = (
        path for folder in ("pyclient/rund", "daemon/rund_daemon") for path in (REPOSITORY / folder).rglob("*.py")
    )
    used = {name for path in sources for name in re.findall(r"\bRUND_[A-Z_]*[A-Z]\b", path.read_text())}
    # Set by the shell when it asks for completions, by click's convention.
    used.discard("RUND_COMPLETE")
    assert used, "no variable was found: have the sources moved?"
    assert {name for name in used if f"`{name}`" not in OPERATIONS} == set()


def test_every_exit_code_of_the_daemon_is_described() -> None:
    table = OPERATIONS.partition("`rund serve` exits with")[2].partition("\n\n\n")[0]
    described = {int(code) for code in re.findall(r"^\| (\d+) \|", table, flags=re.MULTILINE)}
    assert described == {int(code) for code in ExitCode}


def test_every_public_name_is_described() -> None:
    page = (DOCS / "reference/python.md").read_text()
    assert set(re.findall(r"^::: rund\.([A-Za-z]\w*)$", page, flags=re.MULTILINE)) == set(rund.__all__)


def test_every_page_can_be_reached() -> None:
    nav = tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"]
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    made = {f"reference/protocol/{path.stem}.md" for path in (REPOSITORY / "protos/rund_pb/v1").glob("*.proto")}
    assert set(pages_of(nav)) == written | made


def pages_of(nav: object) -> Iterator[str]:
    match nav:
        case str(page):
            yield page
        case dict(entries):
            for entry in entries.values():
                yield from pages_of(entry)
        case list(entries):
            for entry in entries:
                yield from pages_of(entry)
