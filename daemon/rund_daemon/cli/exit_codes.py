"""What `rund` exits with: the one table, and how a failure finds its row."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Self

import click


class ExitCode(enum.IntEnum):
    """Exit codes of every command but `rund serve`, whose own are in `rund_daemon.__main__`."""

    meaning: str

    def __new__(cls, value: int, meaning: str) -> Self:
        """A code and what it means, for the documentation."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    OK = 0, "done"
    REFUSED = 1, "the request was refused: the message says why and what to do"
    USAGE = 2, "the command line or the configuration can't be right"
    NOT_FOUND = 3, "what was named is not there"
    UNAVAILABLE = 4, "no daemon runs, or it does not answer"
    DENIED = 5, "no token, or one that does not allow this"
    TIMED_OUT = 6, "it did not happen in the time that was given"
    DAMAGED = 7, "what was to be imported is damaged: what could be read of it was imported"
    INTERNAL = 70, "a fault of rund"
    INTERRUPTED = 130, "Ctrl-C"
    BROKEN_PIPE = 141, "whoever read the output went away"


class Failure(click.ClickException):
    """A command can't go on; `main` writes the message and exits with the code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.REFUSED) -> None:
        super().__init__(message)
        self.code = code


def exit_code_of_status(code: str) -> ExitCode:
    """The exit code of a failed call, by the name of its gRPC code."""
    return _BY_STATUS.get(code, ExitCode.REFUSED)


_BY_STATUS: Mapping[str, ExitCode] = {
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "UNAUTHENTICATED": ExitCode.DENIED,
    "PERMISSION_DENIED": ExitCode.DENIED,
    "DEADLINE_EXCEEDED": ExitCode.TIMED_OUT,
    "INTERNAL": ExitCode.INTERNAL,
}
