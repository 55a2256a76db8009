"""Names of projects, runs, data sets and tables, and the resource names made of them.

A name is the name of a folder, so it must not be able to leave its parent, to hide, or to be two names on one disk.
It is brought into Unicode form NFC here, at the edge; inside, names are compared byte by byte.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from .errors import InvalidError, Reason

MAX_NAME_BYTES = 200

# Folders and files that lie beside the projects in a root, `run` with the socket among them. A project that takes the
# name of one would keep the daemon from its next start.
RESERVED_PROJECTS = frozenset(
    {
        "catalog",
        "incoming",
        "journals",
        "run",
        "trash",
        "daemon.error",
        "daemon.json",
        "daemon.lock",
        "daemon.log",
        "rund.toml",
        "tokens.json",
    }
)

ANY = "-"
"""Stands for 'all' in place of a name in a parent."""


class RunName(NamedTuple):
    """`projects/{project}/runs/{run}`."""

    project: str
    run: str


class MetricsTableName(NamedTuple):
    """`projects/{project}/runs/{run}/metrics/{table}`."""

    project: str
    run: str
    table: str


class DatasetName(NamedTuple):
    """`projects/{project}/datasets/{dataset}`."""

    project: str
    dataset: str


class ReducerName(NamedTuple):
    """`projects/{project}/reducers/{reducer}`."""

    project: str
    reducer: str


class TableName(NamedTuple):
    """`projects/{project}/datasets/{dataset}/tables/{table}`."""

    project: str
    dataset: str
    table: str


def check_name(name: str, field: str) -> str:
    """Gives the name in form NFC.

    Raises:
        InvalidError: INVALID_NAME, with what is wrong with it.
    """
    # Composition shortens a text, but never to a quarter; what is longer is not worth the time.
    if len(name) <= 4 * MAX_NAME_BYTES:
        name = unicodedata.normalize("NFC", name)
    if fault := _fault(name):
        raise InvalidError(
            field,
            f"the name {name[:60]!r} {fault}; a name is 1 to {MAX_NAME_BYTES} bytes of text without '/', '\\', "
            "control characters, a leading '.', or white space at its ends",
            reason=Reason.INVALID_NAME,
        )
    return name


def check_project(name: str, field: str) -> str:
    """As `check_name`; some names are taken by the root's own folders."""
    name = check_name(name, field)
    if name.lower() in RESERVED_PROJECTS or name == ANY:
        raise InvalidError(
            field,
            f"the project name {name!r} is reserved by rund; choose another",
            reason=Reason.INVALID_NAME,
        )
    return name


def with_number(name: str, number: int) -> str:
    """Gives `{name}_0001` and so on, with the name cut so that the whole is a name."""
    suffix = f"_{number:04d}"
    # Cut by bytes, because names are bounded by bytes.
    return name.encode()[: MAX_NAME_BYTES - len(suffix)].decode(errors="ignore") + suffix


def parse_project(name: str, field: str, *, allow_any: bool = False) -> str:
    """Parses `projects/{project}`; `projects/-` gives an empty text if it is allowed."""
    (project,) = _parse(name, field, ("projects",))
    if allow_any and project == ANY:
        return ""
    return check_project(project, field)


def parse_run(name: str, field: str) -> RunName:
    """Parses `projects/{project}/runs/{run}`."""
    project, run = _parse(name, field, ("projects", "runs"))
    return RunName(check_project(project, field), check_name(run, field))


def parse_metrics_table(name: str, field: str) -> MetricsTableName:
    """Parses `projects/{project}/runs/{run}/metrics/{table}`."""
    project, run, table = _parse(name, field, ("projects", "runs", "metrics"))
    return MetricsTableName(check_project(project, field), check_name(run, field), check_name(table, field))


def parse_dataset(name: str, field: str, *, allow_any: bool = False) -> DatasetName:
    """Parses `projects/{project}/datasets/{dataset}`; `-` gives empty texts where it is allowed."""
    project, dataset = _parse(name, field, ("projects", "datasets"))
    if allow_any:
        return DatasetName(
            "" if project == ANY else check_project(project, field),
            "" if dataset == ANY else check_name(dataset, field),
        )
    return DatasetName(check_project(project, field), check_name(dataset, field))


def parse_table(name: str, field: str) -> TableName:
    """Parses `projects/{project}/datasets/{dataset}/tables/{table}`."""
    project, dataset, table = _parse(name, field, ("projects", "datasets", "tables"))
    return TableName(check_project(project, field), check_name(dataset, field), check_name(table, field))


def parse_reducer(name: str, field: str) -> ReducerName:
    """Parses `projects/{project}/reducers/{reducer}`."""
    project, reducer = _parse(name, field, ("projects", "reducers"))
    return ReducerName(check_project(project, field), check_name(reducer, field))


def _parse(name: str, field: str, collections: tuple[str, ...]) -> list[str]:
    parts = name.split("/")
    if len(parts) != 2 * len(collections) or tuple(parts[::2]) != collections:
        pattern = "/".join(f"{collection}/{{{collection.rstrip('s')}}}" for collection in collections)
        raise InvalidError(
            field,
            f"{name[:200]!r} is not of the form {pattern}",
            reason=Reason.INVALID_NAME,
        )
    return parts[1::2]


def _fault(name: str) -> str:
    if not name:
        return "is empty"
    if len(name) > MAX_NAME_BYTES or len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return f"is longer than {MAX_NAME_BYTES} bytes"
    if "/" in name or "\\" in name:
        return "has a slash or backslash in it"
    if name.startswith("."):
        return "begins with a dot"
    if name != name.strip():
        return "has white space at an end"
    # Cc: controls; Cs: lone surrogates; Cf (joiners, direction marks) is part of living scripts and stays.
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "has a control character in it"
    return ""
