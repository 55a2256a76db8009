"""Names that can be folders and nothing else, and URLs that stay where they may."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund_daemon.access import FileAccess
from rund_daemon.errors import AccessError, InvalidError, Reason
from rund_daemon.names import (
    MAX_NAME_BYTES,
    RESERVED_PROJECTS,
    DatasetName,
    MetricsTableName,
    RunName,
    TableName,
    check_name,
    check_project,
    parse_dataset,
    parse_metrics_table,
    parse_project,
    parse_run,
    parse_table,
    with_number,
)
from rund_daemon.root import ADDRESS_FILE, ERROR_FILE, LOCK_FILE
from rund_daemon.segments.layout import Layout
from rund_daemon.urls import local_path, metrics_table_of_url, run_name_of_url, table_of_url

GOOD = ["a", "a b", "ünïcödé", "日本語", "🦊", "a..b", "-", "~", "con", "%2e%2e", "a:b", "x" * 200, "é" * 100, "नमस्ते"]
BAD = [
    "",
    ".",
    "..",
    ".hidden",
    "a/b",
    "../a",
    "a\\b",
    "a\0b",
    "a\nb",
    "\x7f",
    "\x85",
    "\u2028",
    " a",
    "a ",
    "\u00a0a",
    "x" * 201,
    "é" * 101,
    "a\ud800",
    "x" * 1_000_000,
]


@pytest.mark.parametrize("name", GOOD)
def test_names_that_are_taken(name: str, tmp_path: Path) -> None:
    assert check_name(name, "field") == unicodedata.normalize("NFC", name)
    (tmp_path / name).mkdir()


@pytest.mark.parametrize("name", BAD, ids=lambda name: repr(name[:8]))
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(InvalidError) as refused:
        check_name(name, "run.run_name")
    assert (refused.value.reason, refused.value.field) == (Reason.INVALID_NAME, "run.run_name")
    assert len(refused.value.message) < 500


def test_one_name_is_one_name_however_it_is_composed() -> None:
    assert check_name("u\u0308", "field") == "ü"
    assert check_name("u\u0308" * 100, "field") == "ü" * 100, "the bytes of the composed form count"


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_whatever_is_taken_is_a_folder_of_its_own_in_its_parent(name: str) -> None:
    try:
        checked = check_name(name, "field")
    except InvalidError:
        return
    path = Layout(Path("/root")).run("p", checked)
    assert path.parts == ("/", "root", "p", "runs", checked)
    assert path.resolve() == path
    assert check_name(checked, "field") == checked


@pytest.mark.parametrize("name", [*sorted(RESERVED_PROJECTS), "Trash", "RUND.TOML", "-"])
def test_no_project_takes_the_place_of_the_roots_own_files(name: str) -> None:
    with pytest.raises(InvalidError):
        check_project(name, "field")
    assert check_name(name, "field") == name, "a run may be called so"


def test_all_files_of_a_root_are_reserved() -> None:
    assert {
        ADDRESS_FILE,
        ERROR_FILE,
        LOCK_FILE,
        "rund.toml",
        "tokens.json",
        "catalog",
        "trash",
        "run",
    } <= RESERVED_PROJECTS


def test_numbered_names_are_names() -> None:
    assert with_number("run", 3) == "run_0003"
    assert with_number("run", 12_345) == "run_12345"
    for name in ("x" * MAX_NAME_BYTES, "é" * 100, "🦊" * 50):
        numbered = with_number(name, 1)
        assert check_name(numbered, "field") == numbered
        assert numbered.endswith("_0001")


def test_resource_names() -> None:
    assert parse_project("projects/p", "field") == "p"
    assert parse_project("projects/-", "field", allow_any=True) == ""
    assert parse_run("projects/p/runs/a b", "field") == RunName("p", "a b")
    assert parse_metrics_table("projects/p/runs/r/metrics/t", "field") == MetricsTableName("p", "r", "t")
    assert parse_dataset("projects/-/datasets/-", "field", allow_any=True) == DatasetName("", "")
    assert parse_table("projects/p/datasets/d/tables/t", "field") == TableName("p", "d", "t")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "p",
        "projects",
        "projects/",
        "projects/p/runs",
        "projects/p/runs/r/",
        "projects/p/run/r",
        "/projects/p/runs/r",
        "projects/p/runs/../r",
        "projects/../runs/r",
        "projects/-/runs/r",
        "projects/p/runs/r/metrics/t",
        "runs/r",
    ],
)
def test_what_is_no_name_of_a_run(name: str) -> None:
    with pytest.raises(InvalidError) as refused:
        parse_run(name, "name")
    assert refused.value.reason is Reason.INVALID_NAME


# --- URLs ---

ROOT = "/home/me/rund root"


@pytest.mark.parametrize(
    "url",
    [f"{ROOT}/p/runs/r", f"{ROOT}/p/runs/r/", f"file://{ROOT}/p/runs/r", "file:///home/me/rund%20root/p/runs/r/",
     "file://localhost/home/me/rund%20root/p/runs/r"],
)  # fmt: skip
def test_urls_of_a_run(url: str) -> None:
    assert run_name_of_url(url, ROOT, "url") == RunName("p", "r")


@pytest.mark.parametrize(
    "url",
    ["", "relative/p/runs/r", f"{ROOT}/p/runs", f"{ROOT}/p/datasets/r", f"{ROOT}/p/runs/r/metrics",
     "/elsewhere/p/runs/r", f"{ROOT}/../rund root/p/runs/r", f"{ROOT}/p/runs/..", "s3://bucket/p/runs/r", "file://other/p/runs/r",
     "file:p/runs/r", f"{ROOT}/p/runs/\0", f"{ROOT}/trash/runs/r", f"{ROOT}/p/runs/.r", "file:///%2e%2e/x"],
)  # fmt: skip
def test_urls_of_no_run(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        run_name_of_url(url, ROOT, "url")
    assert refused.value.reason in (Reason.INVALID_URL, Reason.INVALID_NAME)
    assert refused.value.field == "url"


def test_urls_of_tables() -> None:
    assert metrics_table_of_url(f"{ROOT}/p/runs/r/metrics/t", ROOT, "url") == MetricsTableName("p", "r", "t")
    assert metrics_table_of_url(f"{ROOT}/p/runs/r", ROOT, "url") is None
    assert table_of_url(f"{ROOT}/p/datasets/d/tables/t/", ROOT, "url") == TableName("p", "d", "t")
    assert table_of_url("/elsewhere/p/datasets/d/tables/t", ROOT, "url") is None


def test_a_url_that_is_percent_encoded_names_the_decoded_path() -> None:
    assert str(local_path("file:///a%20b/%C3%BC.csv", "url")) == "/a b/ü.csv"
    assert str(local_path("/a%20b", "url")) == "/a%20b", "a plain path is plain"


def test_files_are_reached_in_allowed_folders_alone(tmp_path: Path) -> None:
    for name in ("root", "allowed", "secret"):
        (tmp_path / name).mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "allowed" / "inner").symlink_to(tmp_path / "allowed")
    access = FileAccess(tmp_path / "root", [tmp_path / "allowed"], {"DATA": f"{tmp_path}/allowed/", "OUT": "/etc"})
    for url in ("allowed/x.csv", "root/x", "allowed/inner/x", "allowed"):
        assert access.path_of(f"{tmp_path}/{url}", "url") == tmp_path / url
    assert access.path_of("<DATA>/deep/x.csv", "url") == tmp_path / "allowed/deep/x.csv"
    for url in (f"{tmp_path}/secret/x", f"{tmp_path}/allowed/link/x", f"{tmp_path}/allowed-not/x", "<OUT>/passwd", "/"):
        with pytest.raises(AccessError) as denied:
            access.path_of(url, "url")
        assert denied.value.reason is Reason.PERMISSION_DENIED
    for url in ("<NONE>/x", "<DATA", "<DATA>/../secret/x", "x.csv"):
        with pytest.raises(InvalidError) as refused:
            access.path_of(url, "url")
        assert refused.value.reason is Reason.INVALID_URL
