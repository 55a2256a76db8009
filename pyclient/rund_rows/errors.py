"""What is wrong with a text that a caller wrote."""

from __future__ import annotations


class FilterError(ValueError):
    """A filter, or another such text, can't be carried out.

    Attributes:
        message: what is wrong and what helps, with the place.
        position: the place: the column, from 1.
    """

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
