"""Begins a run, and what can be done without a handle on it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ._errors import InvalidFieldError, WrongStateError
from ._identity import launch_id, new_writer_id, this_writer
from ._root import DEFAULT_PROJECT, PathLike, checked_name
from ._run import Run
from ._session import session
from ._start import connect
from ._transport import run_calls
from ._types import IfExists


def init(
    project_name: str | None = None,
    run_name: str | None = None,
    description: str | None = None,
    parameters: Mapping[str, object] | None = None,
    if_exists: IfExists = "rename",
    *,
    root_url: PathLike | None = None,
    labels: Mapping[str, str] | None = None,
    address: str | None = None,
    resume: bool = False,
) -> Run:
    """Begins a run and makes it the active one.

    As a context manager it finishes the run at the end of the block; an exception in the block ends it as
    FAILED with its cause, Ctrl-C as CANCELLED. Without a block, the run is finished when the interpreter
    ends.

    Under torchrun or Slurm all processes that call it with the same names join one run; set
    ``RUND_LAUNCH_ID`` for other launchers.

    Args:
        project_name: The project; ``default`` when not given.
        run_name: The run's name; generated when not given.
        description: For people.
        parameters: Hyperparameters and other settings, JSON-like.
        if_exists: When the name is taken: ``rename`` (a free name is made of it), ``reuse``, ``overwrite`` or
            ``raise``.
        root_url: Folder of all runs; ``RUND_ROOT``, else ``rund`` in the user's data folder when not given.
        labels: Short words for finding runs.
        address: Where a daemon listens (``unix:PATH`` or ``tcp:HOST:PORT``). Without it ``RUND_ADDRESS`` is
            used, else the daemon of the root, which is started when there is none.
        resume: Whether a run of this name goes on: it is RUNNING again, and steps go on. One is created if
            there is none.

    Raises:
        DaemonUnavailableError: No daemon answers, and none can be started (a ConnectionError).
        RunExistsError: The name is taken, and ``if_exists`` is ``raise`` (a FileExistsError).
        InvalidNameError: A name can't be one (a ValueError).
        InvalidValueError: A parameter can't be kept; the message names its key (a ValueError).
    """
    if resume and not run_name:
        raise InvalidFieldError("resume=True needs the run_name of the run that is to go on")
    if resume and if_exists not in ("rename", "reuse"):
        raise InvalidFieldError(f"resume=True goes on with a run, and if_exists={if_exists!r} does not; leave one out")
    project = checked_name(project_name or DEFAULT_PROJECT, "project_name")
    if run_name is not None:
        checked_name(run_name, "run_name")
    daemon = connect(root_url, address)
    launch = session.launch(launch_id(os.environ), (daemon.root, project, run_name or ""))
    writer = this_writer(new_writer_id())
    new = run_calls.NewRun(
        project_name=project,
        run_name=run_name or "",
        description=description or "",
        labels=labels,
        parameters=parameters,
        if_exists="reuse" if resume else if_exists,
        launch_id=launch.launch_id,
        writer=writer,
    )
    info, _ = run_calls.create_run(daemon.transport, new)
    run = Run(daemon, info, writer.writer_id)
    session.opened(run, launch)
    session.active = run
    run.writer.open_history(run.resource_name)
    return run


def active_run() -> Run | None:
    """The run that ``log`` writes to; None when there is none."""
    return session.active


def set_active_run(run: Run | None) -> None:
    """Makes another run the active one, or none. The one that was active goes on."""
    session.active = run


def log(values: Mapping[str, object], step: int | None = None) -> None:
    """Keeps one row of the active run; see ``Run.log``.

    Raises:
        WrongStateError: There is no active run (a RuntimeError).
    """
    run = session.active
    if run is None:
        raise WrongStateError("there is no active run; call rund.init() first")
    run.log(values, step)


def close(timeout: float | None = None) -> None:
    """Finishes the active run, if there is one; see ``Run.finish``."""
    run = session.active
    if run is not None:
        run.finish(timeout)
