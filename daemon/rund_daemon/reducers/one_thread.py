"""Holds the libraries to one thread, so that a chunk has the same result wherever it is carried out.

Sums are added up in another order by two threads than by one, and the last bits differ.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Holds the libraries of this process that are loaded to one thread, of those that the calling thread starts."""
    numba = sys.modules.get("numba")
    before = numba.get_num_threads() if numba else 1
    with threadpool_limits(1):
        if numba:
            numba.set_num_threads(1)
        try:
            yield
        finally:
            if numba:
                numba.set_num_threads(before)
