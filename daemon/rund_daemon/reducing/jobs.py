"""A job's files: links to what it reads, folders for what it makes, and the order that says so."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.model import KeptReducer
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.layout import REDUCER_MODEL, make_durable_folder

from .orders import FitOrder, Order, TableOrder
from .planning import Plan, Source, maps_of, new_columns, new_head, new_schema


@dataclass(frozen=True, slots=True)
class Job:
    """A plan with what it takes to carry it out and to publish it.

    Attributes:
        plan: the tables and models.
        parameters: how to fit, or those of the reducer.
        retain_source: whether the new tables keep the vectors.
        delete_sources: whether the sources go to trash.
        reducer: the reducer to use, if one is named.
        wanted: digest of what a fit is asked for; empty if a reducer is named.
    """

    plan: Plan
    parameters: Parameters
    retain_source: bool
    delete_sources: bool
    reducer: KeptReducer | None = None
    wanted: bytes = b""


def take_files(plan: Plan, staging: Path) -> None:
    """Takes hold of the segments of all sources: they stay, whatever is sealed, renamed or deleted meanwhile.

    Raises:
        FileNotFoundError: one is not where the plan says any more.
    """
    for number, source in enumerate(plan.sources):
        _link(source, _links(staging, number))


def order_of(
    job: Job, staging: Path, model: Path | None, known: Mapping[bytes, Path], compression: Compression, memory: int
) -> Order:
    """Makes the order of a job whose files are taken.

    Args:
        job: the job.
        staging: its folder.
        model: file of the reducer to use, if one is named.
        known: files of models that were asked for in the same words, by the digest of their vectors.
        compression: of the new segments.
        memory: bytes that the process may hold.
    """
    tables = []
    for number, source in enumerate(job.plan.sources):
        maps = maps_of(job.plan, number)
        schema = new_schema(source, maps, job.retain_source, job.parameters)
        columns = new_columns(source, maps, job.retain_source, job.parameters)
        head = new_head(source, schema, columns)
        state = source.state
        links, made = _links(staging, number), staging / "tables" / str(number)
        tables.append(
            TableOrder(state.table.url, links, source.segments, source.refs, state.table.arrow_schema, head, made)
        )
    fits = []
    for number, fit in enumerate(job.plan.fits):
        folder = staging / "reducers" / str(number)
        make_durable_folder(folder)
        fits.append(FitOrder(fit.column, fit.target, fit.members, fit.fitted_on, model, known, folder / REDUCER_MODEL))
    return Order(tuple(tables), tuple(fits), job.parameters, compression, memory)


def _links(staging: Path, number: int) -> Path:
    return staging / "sources" / str(number)


def _link(source: Source, folder: Path) -> None:
    make_durable_folder(folder)
    for segment in source.segments:
        origin, target = source.folder / segment.file_name, folder / segment.file_name
        try:
            # Open segments, too: they only grow, and are read up to their mark.
            os.link(origin, target)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(origin, target)  # the file system has no hard links, or too many of this file
