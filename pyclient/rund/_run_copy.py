"""``Run.copy`` and ``Run.to_bundle``; bound in the body of the class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ._root import PathLike, local_path
from ._rows import table_url
from ._transport import daemon_calls, run_calls
from ._types import IfExists

if TYPE_CHECKING:  # Run binds these functions, so it imports this module
    from ._run import Run


def copy(
    run: Run,
    run_name: str | None = None,
    project_name: str | None = None,
    root_url: PathLike | None = None,
    if_exists: IfExists = "raise",
    *,
    destination_url: PathLike | None = None,
) -> Run:
    """Copies the run with its metrics tables and bulk data, and gives the copy when it is complete.

    The destination is made of names and root if any is given, else it is ``destination_url``, else a
    sibling with a generated name. A ``destination_url`` outside the root becomes a bundle: one committed state of
    the run in a folder or an object store, with checksums, that needs no daemon.

    Args:
        run: The run.
        run_name: Name of a copy in the root.
        project_name: Its project.
        root_url: The root; a daemon writes to no other than its own.
        if_exists: ``raise``, ``rename``, or ``overwrite``, which leaves the old one until the new one is complete.
        destination_url: ``<root>/<project>/runs/<run>``, or the bundle's folder or URL, such as ``s3://bucket/path``.

    Raises:
        RunExistsError: The destination is taken (a FileExistsError).
        PermissionDeniedError: The daemon's configuration does not allow the destination (a PermissionError).
        NoSpaceError: There is no room for it (an OSError).
        UnsupportedError: The destination is in another root (a NotImplementedError).
    """
    run.flush()
    target = run_calls.CopyTarget(
        run_name=run_name or "",
        project_name=project_name or "",
        root_url="" if root_url is None else str(local_path(root_url)),
        destination_url="" if destination_url is None else table_url(os.fspath(destination_url)),
        if_exists=if_exists,
    )
    transport = run.daemon.transport
    operation = run_calls.copy_run(transport, run.resource_name, target)
    operation = daemon_calls.wait_operation(transport, operation.name)
    if operation.error is not None:
        raise operation.error
    if operation.bundle_url:
        return type(run).from_url(operation.bundle_url)
    assert operation.run is not None
    copied = operation.run
    if run.daemon.root in Path(copied.url).parents:
        return type(run)(run.daemon, copied)
    return type(run).from_url(copied.url)


def to_bundle(run: Run, destination_url: PathLike, if_exists: IfExists = "raise") -> Run:
    """Copies the run to a folder or an object store outside the root, as ``copy`` does, and gives the bundle opened.

    Raises:
        RunExistsError: There is a bundle, or with a folder anything else (a FileExistsError).
        PermissionDeniedError: The daemon's configuration does not allow the destination (a PermissionError).
        NoSpaceError: There is no room for it (an OSError).
    """
    return copy(run, if_exists=if_exists, destination_url=destination_url)
