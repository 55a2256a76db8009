"""The methods of ``Run`` that set its status. They are bound in the body of the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._types import Cause, CauseKind, RunStatus

if TYPE_CHECKING:  # Run binds these functions, so it imports this module
    from ._run import Run


def set_status_empty(run: Run) -> None:
    """Nothing is recorded yet."""
    run.update(status=RunStatus.EMPTY)


def set_status_running(run: Run) -> None:
    """It trains."""
    run.update(status=RunStatus.RUNNING)


def set_status_collecting(run: Run) -> None:
    """It collects per-sample metrics."""
    run.update(status=RunStatus.COLLECTING)


def set_status_post_processing(run: Run) -> None:
    """Training is over; reductions and the like go on."""
    run.update(status=RunStatus.POST_PROCESSING)


def set_status_paused(run: Run) -> None:
    """It is held."""
    run.update(status=RunStatus.PAUSED)


def set_status_completed(run: Run) -> None:
    """It ended as it should."""
    run.update(status=RunStatus.COMPLETED)


def set_status_cancelled(run: Run) -> None:
    """It was ended by its owner."""
    run.update(status=RunStatus.CANCELLED)


def set_status_failed(run: Run, cause: Cause | str = "") -> None:
    """It was ended by a fault; a text is a cause of kind REQUEST."""
    given = cause if isinstance(cause, Cause) else Cause(CauseKind.REQUEST, cause)
    run.update(status=RunStatus.FAILED, cause=given)
