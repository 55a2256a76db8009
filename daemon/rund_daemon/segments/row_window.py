"""A range of rows of a table, followed while its chunks pass by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class RowWindow:
    """What is still wanted of a range of rows.

    Attributes:
        skip: rows that pass before the next one that is wanted.
        left: rows that are wanted from there; None means all.
    """

    skip: int = 0
    left: int | None = None

    @property
    def done(self) -> bool:
        """Whether no further row is wanted."""
        return self.left == 0

    def take(self, rows: int) -> tuple[int, int]:
        """Lets the next chunk of the table pass.

        Args:
            rows: how many rows it has.

        Returns:
            The first row of the chunk that is wanted, and how many are.
        """
        first = min(self.skip, rows)
        count = rows - first if self.left is None else min(rows - first, self.left)
        self.skip -= first
        if self.left is not None:
            self.left -= count
        return first, count
