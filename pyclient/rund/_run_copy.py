"""``Run.copy`` and ``Run.to_bundle``; bound in the body of the class."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from ._client import Client
from ._job_types import OperationInfo
from ._locate import same_path
from ._root import PathLike, local_path
from ._rows import table_url
from ._start import connect
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
    the run in a folder or an object store, with checksums, that needs no daemon. A ``root_url`` that is not the run's
    is another root of this host: its daemon, which is started if none runs, imports the run.

    Args:
        run: The run.
        run_name: Name of a copy in the root.
        project_name: Its project.
        root_url: The root; not given, the run's own.
        if_exists: ``raise``, ``rename``, or ``overwrite``, which leaves the old one until the new one is complete.
        destination_url: ``<root>/<project>/runs/<run>``, or the bundle's folder or URL, such as ``s3://bucket/path``.

    Raises:
        RunExistsError: The destination is taken (a FileExistsError).
        PermissionDeniedError: The daemon's configuration does not allow the destination (a PermissionError).
        NoSpaceError: There is no room for it (an OSError).
    """
    run.flush()
    other = None if root_url is None else local_path(root_url)
    if other is not None and not same_path(run.daemon.root, other):
        return _to_root(run, other, run_name, project_name, if_exists)
    target = run_calls.CopyTarget(
        run_name=run_name or "",
        project_name=project_name or "",
        root_url="" if other is None else str(other),
        destination_url="" if destination_url is None else table_url(os.fspath(destination_url)),
        if_exists=if_exists,
    )
    operation = _copied(run, target)
    if operation.bundle_url:
        return type(run).from_url(operation.bundle_url)
    assert operation.run is not None
    copied = operation.run
    if run.daemon.root in Path(copied.url).parents:
        return type(run)(run.daemon, copied)
    return type(run).from_url(copied.url)


def _copied(run: Run, target: run_calls.CopyTarget) -> OperationInfo:
    transport = run.daemon.transport
    operation = run_calls.copy_run(transport, run.resource_name, target)
    operation = daemon_calls.wait_operation(transport, operation.name)
    if operation.error is not None:
        raise operation.error
    return operation


def _to_root(run: Run, root: Path, run_name: str | None, project_name: str | None, if_exists: IfExists) -> Run:
    """One daemon writes a bundle where the other's next start removes what is left over, and the other imports it."""
    client = Client(connect(root))
    bundle = root / "incoming" / uuid.uuid4().hex
    try:
        _copied(run, run_calls.CopyTarget(destination_url=str(bundle)))
        info = client.import_bundle(bundle, run_name or run.name, project_name or run.project_name, if_exists)
    finally:
        shutil.rmtree(bundle, ignore_errors=True)
    return type(run)(client.daemon, info)


def to_bundle(run: Run, destination_url: PathLike, if_exists: IfExists = "raise") -> Run:
    """Copies the run to a folder or an object store outside the root, as ``copy`` does, and gives the bundle opened.

    Raises:
        RunExistsError: There is a bundle, or with a folder anything else (a FileExistsError).
        PermissionDeniedError: The daemon's configuration does not allow the destination (a PermissionError).
        NoSpaceError: There is no room for it (an OSError).
    """
    return copy(run, if_exists=if_exists, destination_url=destination_url)
