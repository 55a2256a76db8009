"""How far a long job is, and whether it should end."""

from __future__ import annotations

from .errors import OperationCancelledError


class Progress:
    """What a job tells of itself, and how it learns that it should end. May be used from any thread."""

    def __init__(self) -> None:
        self.share = 0.0
        self.message = ""
        self.cancelled = False

    def report(self, share: float, message: str) -> None:
        """Says how far the job is.

        Raises:
            OperationCancelledError: it should end.
        """
        if self.cancelled:
            raise OperationCancelledError
        self.share, self.message = share, message
