"""When to try again: the pauses between tries."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 1.0


def pauses(first_s: float = FIRST_PAUSE_S, longest_s: float = LONGEST_PAUSE_S) -> Iterator[float]:
    """Endless seconds to wait, doubling up to a bound, each shortened at random by up to a half.

    The randomness keeps processes that lost one daemon together from asking the next one together.
    """
    pause = first_s
    while True:
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads callers, keeps no secret
        pause = min(2 * pause, longest_s)
