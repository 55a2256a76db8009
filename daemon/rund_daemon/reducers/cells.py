"""Nearest neighbours among many rows: only those cells of the space are searched that lie near.

The rows are split into cells by k-means, and each row is looked for in the cells whose centres are nearest to it. How
many cells that are is found by trial: so many that of some rows, nearly all neighbours that an exact search finds are
found. It costs a fiftieth of comparing all rows with all, has nothing to compile, and gives the same rows for a seed.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import faiss
import numpy as np
import numpy.typing as npt

from .neighbours import cores
from .vectors import Indices, Matrix

METRICS = ("euclidean", "cosine", "correlation")
"""Those that are distances between points on a straight line once rows are scaled."""

FOUND = 0.99
"""The share of neighbours that has to be found."""

_TRIED_ROWS = 256
_TRIED_NEIGHBOURS = 15
_FIRST_PROBES = 8
_TRAINING_ROUNDS = 8
_TRAINING_ROWS_A_CELL = 64
_ROWS_AT_ONCE = 4_096


@dataclass(frozen=True, slots=True)
class Cells:
    """A division of the space that some rows lie in.

    Attributes:
        centres: of each cell.
        shift: is subtracted from rows first, and
        scale: divides them; both for euclidean distances alone, so that no square overflows or rounds away.
        probes: cells that are searched for a row.
        found: the share of neighbours that this finds.
    """

    centres: Matrix
    shift: Matrix
    scale: float
    probes: int
    found: float

    def place(self, rows: Matrix, metric: str) -> Matrix:
        """Gives points whose distances are in the order of the rows' distances by the metric."""
        if metric == "euclidean":
            return (rows - self.shift) / np.float32(self.scale)
        around = rows - rows.mean(axis=1, keepdims=True) if metric == "correlation" else rows
        # By the greatest number first: squares of large and of tiny ones are no numbers.
        around = around / np.maximum(np.max(np.abs(around), axis=1, keepdims=True), np.finfo(np.float32).tiny)
        lengths = np.linalg.norm(around, axis=1, keepdims=True)
        return np.asarray(around / np.where(lengths > 0, lengths, 1), dtype=np.float32)

    def distances(self, squares: Matrix, metric: str) -> Matrix:
        """Gives the distances by the metric from those of points, squared."""
        squares = np.maximum(squares, 0)
        return np.sqrt(squares) * np.float32(self.scale) if metric == "euclidean" else squares / np.float32(2)


class CellSearch:
    """Finds neighbours among rows whose space is divided already."""

    def __init__(self, rows: Matrix, cells: Cells, metric: str) -> None:
        self.cells = cells
        self._metric = metric
        self._quantizer = faiss.IndexFlatL2(rows.shape[1])
        self._quantizer.add(np.ascontiguousarray(cells.centres))
        self._index = faiss.IndexIVFFlat(self._quantizer, rows.shape[1], len(cells.centres))
        begins = range(0, len(rows), _ROWS_AT_ONCE)

        def cell_of(begin: int) -> npt.NDArray[np.int64]:
            points = cells.place(rows[begin : begin + _ROWS_AT_ONCE], metric)
            found: npt.NDArray[np.int64] = self._quantizer.search(points, 1)[1].ravel()
            return found

        with _threads(cores()) as pool:
            cell = np.concatenate(list(pool.map(cell_of, begins)))
        # Room for each cell's rows beforehand: lists that grow take half as much again.
        for number, held in enumerate(np.bincount(cell, minlength=len(cells.centres)).tolist()):
            self._index.invlists.resize(number, held)
            self._index.invlists.resize(number, 0)
        for begin in begins:
            part = slice(begin, begin + _ROWS_AT_ONCE)
            points, own = np.ascontiguousarray(cells.place(rows[part], metric)), np.ascontiguousarray(cell[part])
            self._index.add_core(len(points), faiss.swig_ptr(points), None, faiss.swig_ptr(own))

    @classmethod
    def divide(cls, rows: Matrix, metric: str, seed: int) -> CellSearch:
        """Divides the space of rows, and tries how many cells have to be searched."""
        shift = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        scale = float(np.maximum(rows.max(axis=0) - shift, shift - rows.min(axis=0)).max()) or 1.0
        cells = Cells(np.empty((0, rows.shape[1]), dtype=np.float32), shift, scale, _FIRST_PROBES, 0.0)
        count = 2 * int(np.sqrt(len(rows)))
        random = np.random.default_rng(seed)
        points = cells.place(_some(rows, _TRAINING_ROWS_A_CELL * count, random), metric)
        with _threads(1) as pool:  # sums by several would depend on how many
            centres = pool.submit(_centres, points, count, seed % 2**31).result()
        del points
        search = cls(rows, replace(cells, centres=centres), metric)
        search._try(cells.place(_some(rows, _TRIED_ROWS, random), metric))
        return search

    def nearest(self, rows: Matrix, count: int, threads: int) -> tuple[Indices, Matrix]:
        """Gives, of each row, its `count` nearest rows, nearest first, and their distances.

        However many threads do it, the result is the same: each takes so many rows at once, alone.
        """
        indices = np.empty((len(rows), count), dtype=np.int32)
        distances = np.empty((len(rows), count), dtype=np.float32)

        def search(begin: int) -> None:
            part = slice(begin, begin + _ROWS_AT_ONCE)
            squares, indices[part] = self._among(self.cells.place(rows[part], self._metric), count, self.cells.probes)
            distances[part] = self.cells.distances(squares, self._metric)

        with _threads(threads) as pool:
            list(pool.map(search, range(0, len(rows), _ROWS_AT_ONCE)))
        return indices, distances

    def _among(self, points: Matrix, count: int, probes: int) -> tuple[Matrix, npt.NDArray[np.int64]]:
        """Gives squared distances and indices of the points nearest to points; all of them where cells were too few."""
        squares, indices = self._index.search(points, count, params=faiss.SearchParametersIVF(nprobe=probes))
        if (short := np.flatnonzero(indices[:, -1] < 0)).size:
            everywhere = faiss.SearchParametersIVF(nprobe=self._index.nlist)
            squares[short], indices[short] = self._index.search(points[short], count, params=everywhere)
        return squares, indices

    def _try(self, points: Matrix) -> None:
        """Searches more and more cells for some points, until what is found in all of them is found."""
        count = _TRIED_NEIGHBOURS + 1
        probes, most = self.cells.probes, len(self.cells.centres)
        with _threads(1) as pool:
            limit = pool.submit(self._among, points, count, most).result()[0][:, -1:] * np.float32(1 + 1e-4)
            while True:
                squares, _ = pool.submit(self._among, points, count, probes).result()
                found = float((squares <= limit).mean())
                self.cells = replace(self.cells, probes=probes, found=found)
                if found >= FOUND or probes >= most:
                    return
                probes = min(probes + probes // 2, most)


def _some(rows: Matrix, most: int, random: np.random.Generator) -> Matrix:
    return rows if len(rows) <= most else rows[np.sort(random.choice(len(rows), most, replace=False))]


def _centres(points: Matrix, count: int, seed: int) -> Matrix:
    means = faiss.Kmeans(
        points.shape[1],
        count,
        niter=_TRAINING_ROUNDS,
        seed=seed,
        max_points_per_centroid=_TRAINING_ROWS_A_CELL,
        min_points_per_centroid=1,
    )
    means.train(points)
    return np.asarray(means.centroids, dtype=np.float32).reshape(count, -1)


def _threads(count: int) -> ThreadPoolExecutor:
    """Threads that have OpenMP and its BLAS for themselves alone; the setting holds for the thread that makes it."""
    return ThreadPoolExecutor(count, initializer=faiss.omp_set_num_threads, initargs=(1,))
