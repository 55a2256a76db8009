"""Chunks: a model maps so many rows together as it says, and the same whoever does it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from .fitted import Fitted
from .methods import reducer_of
from .one_thread import one_thread
from .vectors import Mapper, Matrix


class Executor(Protocol):
    """Maps chunks, in any order and place, and gives the results in theirs."""

    def map(self, fitted: Fitted, rows: Matrix) -> Iterator[Matrix]:
        """Gives the map of each chunk of `fitted.chunk_rows` rows."""


class InPlace:
    """Maps chunks one after the other in this process."""

    def map(self, fitted: Fitted, rows: Matrix) -> Iterator[Matrix]:
        """Gives the map of each chunk."""
        mapper = mapper_of(fitted)
        return (mapper(chunk) for chunk in chunks_of(fitted, rows))


def chunks_of(fitted: Fitted, rows: Matrix) -> list[Matrix]:
    """Cuts rows, without a copy of them."""
    return [rows[begin : begin + fitted.chunk_rows] for begin in range(0, len(rows), fitted.chunk_rows)]


def mapper_of(fitted: Fitted) -> Mapper:
    """Makes what maps one chunk after the other, on one thread; what a model needs once is done here.

    Raises:
        InvalidError: NOT_IMPLEMENTED: the libraries of its method are not installed.
    """
    reducer = reducer_of(fitted.kind)
    with one_thread():
        mapper = reducer.mapper(fitted)

    def mapped(rows: Matrix) -> Matrix:
        with one_thread():
            return mapper(rows)

    return mapped
