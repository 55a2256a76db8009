"""How a run ends: decided from what left its block, or from how the interpreter ends."""

from __future__ import annotations

import sys
import traceback
from dataclasses import dataclass

from ._types import Cause, CauseKind, RunStatus


@dataclass(frozen=True, slots=True)
class Ending:
    """A status to end with, and the cause of a failure."""

    status: RunStatus = RunStatus.COMPLETED
    cause: Cause | None = None


def ending_of(error: BaseException | None) -> Ending:
    """How a run ends whose block was left by an exception, or by none."""
    match error:
        case None | GeneratorExit():
            return Ending()
        case KeyboardInterrupt():
            return Ending(RunStatus.CANCELLED)
        case SystemExit(code=None | 0):
            return Ending()
        case SystemExit(code=int(code)):
            return Ending(RunStatus.FAILED, Cause(CauseKind.EXIT_CODE, f"exit code {code}", exit_code=code))
    last_line = traceback.format_exception_only(error)[-1].strip()
    return Ending(RunStatus.FAILED, Cause(CauseKind.EXCEPTION, last_line))


def ending_of_interpreter() -> Ending:
    """How the interpreter ends. The cause of ``sys.exit(1)`` can't be seen from here; an exception's can.

    Python keeps an exception that nobody caught as ``sys.last_value`` before it prints it. At a prompt every
    error is kept there, and means nothing.
    """
    interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
    return Ending() if interactive else ending_of(getattr(sys, "last_value", None))
