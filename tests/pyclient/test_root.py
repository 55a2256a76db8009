"""Roots, URLs and names: text in, places out."""

from __future__ import annotations

from pathlib import Path

import pytest
from rund import InvalidNameError, InvalidUrlError
from rund._root import RunPlace, default_root, is_alias, local_path, parse_run_url, run_resource


def test_the_default_root() -> None:
    assert default_root({"RUND_ROOT": "/a", "XDG_DATA_HOME": "/b"}) == Path("/a")
    assert default_root({"XDG_DATA_HOME": "/b"}) == Path("/b/rund")
    assert default_root({}) == Path.home() / ".local/share/rund"
    assert default_root({"RUND_ROOT": "~/x"}) == Path.home() / "x"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b"),
        (Path("/a/b"), "/a/b"),
        ("file:///a/b", "/a/b"),
        ("file:///a/b/", "/a/b"),
        ("file://localhost/a", "/a"),
        ("file:/a", "/a"),
        ("file:///a/with%20space", "/a/with space"),
        ("/a/with%20percent", "/a/with%20percent"),
        ("/a/é c:d", "/a/é c:d"),
        ("~/x", str(Path.home() / "x")),
    ],
)
def test_paths_and_file_urls(url: str | Path, path: str) -> None:
    assert local_path(url) == Path(path)


def test_a_relative_path_is_of_the_current_folder() -> None:
    assert local_path("x/y") == Path.cwd() / "x/y"


@pytest.mark.parametrize("url", ["", "s3://bucket/x", "https://host/x", "file://host/x", "/a\0b"])
def test_what_is_no_local_url(url: str) -> None:
    with pytest.raises(InvalidUrlError):
        local_path(url)


@pytest.mark.parametrize("url", ["/r/p/runs/x y", "file:///r/p/runs/x%20y/"])
def test_urls_of_runs(url: str) -> None:
    assert parse_run_url(url) == RunPlace(Path("/r"), "p", "x y")


@pytest.mark.parametrize("url", ["/", "/a", "/a/runs/b", "/r/p/run/x", "/r/p/runs", "s3://r/p/runs/x"])
def test_what_is_no_url_of_a_run(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|scheme"):
        parse_run_url(url)


def test_names() -> None:
    assert run_resource("p q", "é") == "projects/p q/runs/é"
    for name in ("", "a/b", None, 3):
        with pytest.raises(InvalidNameError, match="run_name"):
            run_resource("p", name)  # type: ignore[arg-type]  # what a caller may do


def test_aliases() -> None:
    assert is_alias("<DATA>/x")
    assert not is_alias("/x")
