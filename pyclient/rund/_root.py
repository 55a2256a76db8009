"""Roots, and the URLs and resource names of what lies in them. Text only; no file is touched.

URLs of a root are plain paths without percent-encoding. ``file:`` URLs and a trailing slash are accepted.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote, urlsplit

from ._errors import InvalidNameError, InvalidUrlError

PathLike: TypeAlias = str | os.PathLike[str]

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class RunPlace:
    """A run by its names; ``root`` is the folder it lies in."""

    root: Path
    project_name: str
    run_name: str


def default_root(environment: Mapping[str, str]) -> Path:
    """``RUND_ROOT``, else ``rund`` in the user's data folder."""
    if given := environment.get("RUND_ROOT"):
        return Path(given).expanduser().absolute()
    data_home = environment.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data_home).expanduser().absolute() / "rund"


def local_path(url: PathLike) -> Path:
    """The path that a URL or path names.

    Raises:
        InvalidUrlError: It is empty, of another host, or has a scheme other than ``file``.
    """
    text = os.fspath(url)
    if not text or "\0" in text:
        raise InvalidUrlError(f"{text!r} is no URL; give a path or a file: URL")
    scheme, separator, _ = text.partition(":")
    # A scheme has two letters or more; anything else with a colon is a file name.
    if not separator or not scheme.isalnum() or len(scheme) < 2 or not _looks_like_url(text):
        return Path(text).expanduser().absolute()
    parts = urlsplit(text)
    if parts.scheme != "file":
        raise InvalidUrlError(f"{text!r} has the scheme {parts.scheme!r}; give a path or a file: URL")
    if parts.netloc not in ("", "localhost"):
        raise InvalidUrlError(f"{text!r} names the host {parts.netloc!r}; a file: URL is of this host")
    return Path(unquote(parts.path)).absolute()


def parse_run_url(url: PathLike) -> RunPlace:
    """Takes ``<root>/<project>/runs/<run>`` apart.

    Raises:
        InvalidUrlError: It is not of that form.
    """
    path = local_path(url)
    if len(path.parts) < 5 or path.parts[-2] != "runs":
        raise InvalidUrlError(f"{os.fspath(url)!r} is no URL of a run; one is <root>/<project>/runs/<run>")
    return RunPlace(root=path.parents[2], project_name=path.parts[-3], run_name=path.name)


def run_resource(project_name: str, run_name: str) -> str:
    """``projects/{project}/runs/{run}``."""
    return f"projects/{checked_name(project_name, 'project_name')}/runs/{checked_name(run_name, 'run_name')}"


def checked_name(name: str, argument: str) -> str:
    """The name, if it can be part of a resource name; the daemon checks the rest.

    Raises:
        InvalidNameError: It is no text, is empty or has a slash in it.
    """
    if not isinstance(name, str) or not name or "/" in name:
        raise InvalidNameError(f"{argument} is {name!r}; a name is text without '/'")
    return name


def is_alias(url: str) -> bool:
    """Whether a URL begins with an alias of the daemon's configuration, ``<NAME>/...``."""
    return url.startswith("<") and ">" in url


def _looks_like_url(text: str) -> bool:
    return text.startswith("file:") or "://" in text
