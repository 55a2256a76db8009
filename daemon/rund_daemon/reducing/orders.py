"""What the daemon and the process that carries out a job tell each other. Plain data; both are of one version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rund_daemon.model import BatchRef, Segment
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.segments.compression import Compression


@dataclass(frozen=True, slots=True)
class TableOrder:
    """A table to make of another.

    Attributes:
        url: what errors call the source.
        folder: where links to its segments lie.
        segments: their records.
        refs: its batches, in order.
        head: schema message of its rows.
        new_head: that of the new table's. A column of it that the source lacks is a map.
        made: folder for the new table's segments.
    """

    url: str
    folder: Path
    segments: tuple[Segment, ...]
    refs: tuple[BatchRef, ...]
    head: bytes
    new_head: bytes
    made: Path


@dataclass(frozen=True, slots=True)
class FitOrder:
    """A model to fit, or to use, and the tables to map with it.

    Attributes:
        column: the column of vectors.
        target: the column of their places.
        members: numbers of the tables to map.
        fitted_on: number of the table to fit on; None if there is a model.
        model: file of a model that is to be used, whatever it was fitted on.
        known: files of models that were fitted as this one is to be, by the digest of their vectors.
        made: file for the new model.
    """

    column: str
    target: str
    members: tuple[int, ...]
    fitted_on: int | None
    model: Path | None
    known: Mapping[bytes, Path]
    made: Path


@dataclass(frozen=True, slots=True)
class Order:
    """A job.

    Attributes:
        tables: the tables, by number.
        fits: the models.
        parameters: how to fit.
        compression: of the new segments.
        memory: bytes that the process may hold.
    """

    tables: tuple[TableOrder, ...]
    fits: tuple[FitOrder, ...]
    parameters: Parameters
    compression: Compression
    memory: int


@dataclass(frozen=True, slots=True)
class MadeTable:
    """The new table's segments and batches."""

    segments: tuple[Segment, ...]
    refs: tuple[BatchRef, ...]


@dataclass(frozen=True, slots=True)
class MadeFit:
    """A model that was fitted, or used.

    Attributes:
        vectors: digest of the vectors of the table it is for; empty if one was named.
        used: the file that was used; None if it was fitted.
        fit_rows: rows it was fitted on.
        width: numbers of the vectors that it takes.
        library_versions: what made it.
        quality: how well the map turned out.
        warnings: what there is to know.
    """

    vectors: bytes
    used: Path | None
    fit_rows: int = 0
    width: int = 0
    library_versions: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What came of an order."""

    tables: tuple[MadeTable, ...]
    fits: tuple[MadeFit, ...]
