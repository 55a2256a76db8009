"""How large a journal may grow, and what happens then."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ._errors import InvalidFieldError

MIB = 1024 * 1024
LEAST_TOTAL_BYTES = MIB


@dataclass(frozen=True, slots=True)
class JournalLimits:
    """Bounds of one process's journal.

    Attributes:
        total_bytes: All its files together.
        first_file_bytes: Its first file.
        file_bytes: Each later one.
        block_seconds: How long ``log`` waits for room. When one call has waited in vain, the next ones do not
            wait until there is room again.
        when_full: What happens then: ``raise`` raises JournalFullError, ``drop`` counts the row and goes on.
    """

    total_bytes: int = 256 * MIB
    first_file_bytes: int = MIB
    file_bytes: int = 16 * MIB
    block_seconds: float = 10.0
    when_full: Literal["raise", "drop"] = "raise"

    def next_file_bytes(self, number: int, allocated: int) -> int:
        """Size of the file with that number when the others have ``allocated`` bytes; 0: there is no room."""
        # Room comes back file by file, so a small journal is made of several files all the same.
        most = self.total_bytes // 4
        wanted = min(self.first_file_bytes if number == 1 else self.file_bytes, most)
        size = min(wanted, self.total_bytes - allocated) // 4096 * 4096
        return size if 2 * size >= wanted else 0


def limits_from_environment(environment: Mapping[str, str]) -> JournalLimits:
    """The limits that ``RUND_JOURNAL_BYTES``, ``_BLOCK_SECONDS`` and ``_WHEN_FULL`` ask for.

    Raises:
        InvalidFieldError: One of them is not what it should be.
    """
    defaults = JournalLimits()
    total = _number(environment, "RUND_JOURNAL_BYTES", defaults.total_bytes, LEAST_TOTAL_BYTES)
    seconds = _number(environment, "RUND_JOURNAL_BLOCK_SECONDS", defaults.block_seconds, 0)
    return JournalLimits(total_bytes=int(total), block_seconds=seconds, when_full=_when_full(environment))


def _when_full(environment: Mapping[str, str]) -> Literal["raise", "drop"]:
    choices: dict[str, Literal["raise", "drop"]] = {"": "raise", "raise": "raise", "drop": "drop"}
    text = environment.get("RUND_JOURNAL_WHEN_FULL", "")
    if text not in choices:
        raise InvalidFieldError(f"RUND_JOURNAL_WHEN_FULL is {text!r}; it may be raise or drop")
    return choices[text]


def _number(environment: Mapping[str, str], name: str, default: float, least: float) -> float:
    text = environment.get(name)
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number < 2**60:
        raise InvalidFieldError(f"{name} is {text!r}; it is a number of at least {least:g}")
    return number
