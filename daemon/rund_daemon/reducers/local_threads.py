"""Maps chunks on all cores by threads of this process.

What a chunk takes time for, the search of neighbours and the moving of rows, is compiled code that holds no lock. So
threads do what processes would, and have nothing to load, no memory of their own, and no chunk to be sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from .chunks import chunks_of, mapper_of
from .fitted import Fitted
from .neighbours import cores
from .one_thread import one_thread
from .vectors import Matrix


class LocalThreads:
    """Maps as many chunks at a time as it has threads.

    Args:
        threads: how many; as many as there are cores if nothing is said.
    """

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads or cores()

    def map(self, fitted: Fitted, rows: Matrix) -> Iterator[Matrix]:
        """Gives the map of each chunk."""
        mapper = mapper_of(fitted)
        # Held for all threads while any of them works: what one sets of BLAS when it ends would hold for the others.
        with one_thread(), ThreadPoolExecutor(self._threads) as pool:
            yield from pool.map(mapper, chunks_of(fitted, rows))
