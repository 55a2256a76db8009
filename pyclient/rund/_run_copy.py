"""``Run.copy``; bound in the body of the class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ._root import PathLike, local_path
from ._rows import table_url
from ._transport import daemon_calls, run_calls
from ._types import IfExists

if TYPE_CHECKING:  # Run binds this function, so it imports this module
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
    sibling with a generated name.

    Raises:
        RunExistsError: The destination is taken (a FileExistsError).
        UnsupportedError: The destination is outside a root (a NotImplementedError).
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
    assert operation.run is not None
    copied = operation.run
    if run.daemon.root in Path(copied.url).parents:
        return type(run)(run.daemon, copied)
    return type(run).from_url(copied.url)
