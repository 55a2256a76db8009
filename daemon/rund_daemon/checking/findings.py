"""What a check can find."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from rund_daemon.model import BatchRef, Uid


class Kind(enum.StrEnum):
    """What was found."""

    TAIL = "tail"  # bytes beyond the mark of an open segment: a killed daemon leaves them, a start cuts them off
    MISSING = "missing"  # a file that the catalog knows is not there
    SHORT = "short"  # a file is shorter than committed
    DAMAGED = "damaged"  # committed bytes do not match their checksum
    COUNT = "count"  # the rows of a table do not add up
    STRAY = "stray"  # a file or folder that the catalog does not know


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault. `loses` says that committed rows can't be read."""

    kind: Kind
    path: str
    message: str
    loses: bool = False
    table: Uid | None = None
    batch: BatchRef | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a check read, and what it found."""

    runs: int
    tables: int
    segments: int
    batches: int
    bytes: int
    input_tables: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether everything that is committed can be read."""
        return not any(finding.loses for finding in self.findings)
