"""Numbers that a table's segments leave free, for the files that they are joined into.

No file `<number>.arrow` comes after another one of that name: whoever has read old records may still look for it. And
numbers go on in the order of rows, because a rebuild without a log has nothing else to go by. So a segment that is
begun leaves the number behind its own free. A joined file takes one of the free numbers of what it replaces and keeps
another, so that it can be joined again.
"""

from __future__ import annotations

NUMBERS_A_SEGMENT = 2
"""How many numbers a new segment takes: its own and a free one."""

_PREFIX = b"spare "


def spare_state(number: int) -> bytes:
    """State of a sealed segment that may still be joined with others, and has a number free for that."""
    return _PREFIX + b"%d" % number


def spare_of(state: bytes | None) -> int | None:
    """The number that a state keeps free; None if it keeps none."""
    return int(state.removeprefix(_PREFIX)) if state is not None and state.startswith(_PREFIX) else None
