"""Finds a run by its URL."""

from __future__ import annotations

from ._errors import DaemonUnavailableError, RunNotFoundError
from ._locate import Daemon, same_path
from ._root import is_alias, local_path, parse_run_url
from ._session import daemon_for, daemon_of_url, root_of
from ._transport import run_calls
from ._types import RunInfo


def run_at(url: str, address: str | None, *, deleted: bool) -> tuple[Daemon, RunInfo]:
    """The run at a URL, and the daemon that keeps it.

    Raises:
        RunNotFoundError: There is no such run.
        InvalidUrlError: The URL is no run's.
    """
    if is_alias(url):
        daemon = daemon_for(None, address)
    else:
        url, daemon = str(local_path(url)), _daemon_of_run(url, address)
    return daemon, run_calls.get_run(daemon.transport, url=url, deleted=deleted, full=False)


def _daemon_of_run(url: str, address: str | None) -> Daemon:
    place, path = parse_run_url(url), local_path(url)
    try:
        daemon = daemon_of_url(url, address)
    except DaemonUnavailableError:
        if root_of(path) is not None or address is not None:
            raise
    else:
        if same_path(daemon.root, place.root):
            return daemon
    raise RunNotFoundError(f"there is no run {path}: {place.root} is no root of rund that can be reached")
