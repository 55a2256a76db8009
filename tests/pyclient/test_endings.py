"""What leaves a block decides how its run ends."""

from __future__ import annotations

import sys

import pytest
from rund import Cause, CauseKind, RunStatus
from rund._endings import Ending, ending_of, ending_of_interpreter

FAILED = RunStatus.FAILED


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (None, Ending()),
        (SystemExit(), Ending()),
        (SystemExit(0), Ending()),
        (SystemExit(3), Ending(FAILED, Cause(CauseKind.EXIT_CODE, "exit code 3", exit_code=3))),
        (SystemExit("bye"), Ending(FAILED, Cause(CauseKind.EXCEPTION, "SystemExit: bye"))),
        (KeyboardInterrupt(), Ending(RunStatus.CANCELLED)),
        (ValueError("a\nb"), Ending(FAILED, Cause(CauseKind.EXCEPTION, "ValueError: a\nb"))),
        (MemoryError(), Ending(FAILED, Cause(CauseKind.EXCEPTION, "MemoryError"))),
    ],
)
def test_endings(error: BaseException | None, ending: Ending) -> None:
    assert ending_of(error) == ending


def test_the_interpreter_ends_by_the_exception_that_nobody_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ending_of_interpreter() == Ending()
    monkeypatch.setattr(sys, "last_value", KeyError("k"), raising=False)
    assert ending_of_interpreter() == ending_of(KeyError("k"))
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert ending_of_interpreter() == Ending()
