"""Where a copy goes: names and root if any is given, else the destination URL, else a sibling."""

from __future__ import annotations

from dataclasses import dataclass

from rund_pb.v1 import run_pb2
from rund_pb.v1 import run_service_pb2 as pb

from rund_daemon.errors import InvalidError, NotImplementedYetError
from rund_daemon.model import IfExists
from rund_daemon.names import RunName, check_name, check_project
from rund_daemon.runs.copying import CopyTarget
from rund_daemon.segments.layout import Layout
from rund_daemon.urls import is_object_url, local_path, run_name_of_url

from .convert import if_exists_from_pb


@dataclass(frozen=True, slots=True)
class BundleTarget:
    """A place outside the root, as the caller named it."""

    url: str
    if_exists: IfExists


def copy_target(request: pb.CopyRunRequest, source: RunName, layout: Layout) -> CopyTarget | BundleTarget:
    """Gives the target of a copy.

    Raises:
        InvalidError: a name or URL is bad, or `if_exists` makes no sense for a copy.
        NotImplementedYetError: it lies in another root.
    """
    if_exists = copying_if_exists(request.if_exists)
    if request.root_url and str(local_path(request.root_url, "root_url")) != layout.url:
        raise NotImplementedYetError(
            "root_url: a daemon writes to no other root than its own; copy to a bundle with destination_url, such as a "
            "folder in incoming/ of the other root, and have the daemon there import it"
        )
    if request.run_name or request.project_name or request.root_url:
        project = check_project(request.project_name or source.project, "project_name")
        name = check_name(request.run_name or source.run, "run_name")
        return CopyTarget(project, name, if_exists)
    if request.destination_url:
        return _by_url(request.destination_url, layout, if_exists)
    return CopyTarget(source.project, "", if_exists)


def copying_if_exists(value: run_pb2.IfExists.ValueType) -> IfExists:
    """What to do when the name is taken. Raises InvalidError."""
    if_exists = if_exists_from_pb(value, IfExists.RAISE)
    if if_exists is IfExists.REUSE:
        raise InvalidError("if_exists", "a copy can't reuse a run; use RAISE, RENAME or OVERWRITE")
    return if_exists


def _by_url(url: str, layout: Layout, if_exists: IfExists) -> CopyTarget | BundleTarget:
    outside = url.startswith("<") or is_object_url(url)
    if outside or not local_path(url, "destination_url").is_relative_to(layout.url):
        return BundleTarget(url, if_exists)
    name = run_name_of_url(url, layout.url, "destination_url")
    return CopyTarget(name.project, name.run, if_exists)
