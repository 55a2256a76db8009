"""Chunks by threads: the same bytes by any number of them, and as many as the process may use."""

import os
from collections.abc import Iterator
from dataclasses import replace
from threading import Barrier

import numpy as np
import pytest
from rund_daemon.reducers import chunks
from rund_daemon.reducers.chunks import InPlace
from rund_daemon.reducers.fitted import Fitted
from rund_daemon.reducers.fitting import fit
from rund_daemon.reducers.local_threads import LocalThreads
from rund_daemon.reducers.neighbours import cores
from rund_daemon.reducers.parameters import Parameters
from rund_daemon.reducers.transforming import transform
from rund_daemon.reducers.vectors import Mapper

pytestmark = [pytest.mark.reduce, pytest.mark.filterwarnings("default")]

ROWS = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)
QUICK = {"umap": {"n_epochs": 20}, "pacmap": {"num_iters": 10}}


@pytest.mark.parametrize("by_cells", [False, True], ids=["exact", "cells"])
@pytest.mark.parametrize(
    "method", [pytest.param(one, marks=pytest.mark.xdist_group(one)) for one in ("umap", "pacmap")]
)
def test_any_number_of_threads_gives_the_same_bytes(
    method: str, by_cells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rund_daemon.reducers import kept_search

    if by_cells:
        monkeypatch.setattr(kept_search, "EXACT_ROWS", 50)
    fitted = replace(fit(ROWS[:100], Parameters(method=method, seed=1, options=QUICK[method]), "t", "e"), chunk_rows=32)
    assert ("cell_centres" in fitted.arrays) == by_cells
    expected = transform(fitted, ROWS, "t", "e", executor=InPlace()).tobytes()
    for threads in (1, 2, 5):
        assert transform(fitted, ROWS, "t", "e", executor=LocalThreads(threads)).tobytes() == expected


class Chunked:
    """Stands for a model: a method of two chunks, each of which waits for the other to have begun."""

    def __init__(self) -> None:
        self.begun = Barrier(2, timeout=100)

    def mapper(self, fitted: Fitted) -> Mapper:
        def mapped(rows: np.ndarray) -> np.ndarray:
            self.begun.wait()
            return rows[:, :3]

        return mapped


def test_chunks_are_mapped_side_by_side_and_given_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "reducer_of", lambda _: Chunked())
    none = np.empty((0, 3), dtype=np.float32)
    fitted = Fitted("umap", Parameters(), 0, none, none, none.astype(np.int32), none, chunk_rows=350)
    maps: Iterator[np.ndarray] = LocalThreads(2).map(fitted, ROWS)
    assert np.concatenate(list(maps)).tobytes() == ROWS[:, :3].tobytes()


def test_a_chunk_that_fails_fails_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = replace(fit(ROWS[:9], Parameters(), "t", "e"), chunk_rows=32)

    def refuse(rows: np.ndarray) -> np.ndarray:
        raise MemoryError("enough")

    monkeypatch.setattr("rund_daemon.reducers.local_threads.mapper_of", lambda _: refuse)
    with pytest.raises(MemoryError, match="enough"):
        transform(fitted, ROWS, "t", "e", executor=LocalThreads(2))


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("0", None), ("100000", None), ("", None), ("2,1", None)])
def test_cores_are_those_that_the_daemon_gives(
    said: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores() == (expected or len(os.sched_getaffinity(0)))
