"""Folders and files that a transaction gives another place. They are moved after its commit."""

from __future__ import annotations

from rund_daemon.model import FolderMove

from . import keys, shelves
from .transaction import Change


def add_move(change: Change, source: str, destination: str) -> None:
    """Has a folder or file moved after the commit, or removed if `destination` is empty.

    Both paths are relative to the root.
    """
    last = change.last(shelves.MOVES)
    number = int.from_bytes(last[0], "big") + 1 if last else 1
    change.put(shelves.MOVES, keys.u64(number), FolderMove(source, destination))
