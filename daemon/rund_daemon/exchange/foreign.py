"""What every reader of a foreign format gives: runs, their tables, and the rows of these in pieces.

A position says where a piece ends in its source. It grows with each piece, means something to its reader alone, and is
kept by the daemon in the commit of the rows: a reader that is asked to go on behind a position gives the rest.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
from rund._types import Cause, RunStatus, Value

HISTORY = "history"
MAX_NAME_BYTES = 200


class SourceError(Exception):
    """The source is not there, or not what it was said to be; the message says what to do."""


class MissingSourceError(SourceError):
    """There is nothing at the path."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows, and where they end in the source.

    Attributes:
        batch: the rows.
        position: 1 or more, greater than that of the chunk before.
    """

    batch: pa.RecordBatch
    position: int


@dataclass(slots=True)
class Notes:
    """What could not be kept, as it is found.

    Attributes:
        left_out: how many things of each kind were left out, by a name that says what they are.
        damage: what could not be read although it was there, for people.
        cut_off: files that end in the middle of a record, as that of a live writer does.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    damage: list[str] = field(default_factory=list)
    cut_off: list[str] = field(default_factory=list)


Read = Callable[[int, Mapping[str, pa.DataType]], Iterator[Chunk]]
"""Gives the rows behind a position (0: all). The mapping holds the types of the columns that are there already."""


@dataclass(frozen=True, slots=True)
class ForeignTable:
    """A table of a foreign run, or a part of one that grows by itself.

    Attributes:
        name: the table that the rows go to; several parts may go to one.
        part: names this part within the run, for ever.
        read: gives its rows.
        stream_name: what the rows are a stream of; empty: the default.
    """

    name: str
    part: str
    read: Read
    stream_name: str = ""


@dataclass(slots=True)
class ForeignRun:
    """A run of another tool. What is found while its rows are read is filled in then.

    Attributes:
        format: the tool, such as `wandb`.
        identity: names the run for ever, wherever its files lie.
        source: where it was read from, for people.
        project: name of its project.
        name: its own name.
        tables: its rows.
        description: for people.
        labels: tags and the like.
        parameters: settings and hyperparameters.
        inputs: free-form inputs.
        outputs: free-form outputs.
        status: how it ended; RUNNING when its source says that it goes on.
        cause: why, when it failed.
        started: when it began.
        ended: when it ended.
        notes: what could not be kept.
    """

    format: str
    identity: str
    source: str
    project: str
    name: str
    tables: tuple[ForeignTable, ...] = ()
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, Value] = field(default_factory=dict)
    inputs: list[dict[str, Value]] = field(default_factory=list)
    outputs: list[dict[str, Value]] = field(default_factory=list)
    status: RunStatus = RunStatus.COMPLETED
    cause: Cause | None = None
    started: datetime | None = None
    ended: datetime | None = None
    notes: Notes = field(default_factory=Notes)


def clean_name(text: str) -> str:
    """A name that rund takes, as near to the text as can be: slashes become underscores."""
    text = unicodedata.normalize("NFC", text.encode(errors="replace").decode())
    text = re.sub(r"[/\\]", "_", "".join("_" if unicodedata.category(c) in _CONTROLS else c for c in text))
    text = text.encode()[:MAX_NAME_BYTES].decode(errors="ignore").strip()
    return "_" + text[1:] if text.startswith(".") else text or "_"


_CONTROLS = ("Cc", "Cs", "Zl", "Zp")
