"""What a rebuild has to say of a file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not as the lost catalog had it.

    Attributes:
        path: the file or folder.
        message: what was found, and what was made of it.
        loses: whether something that was recorded is not there any more.
    """

    path: str
    message: str
    loses: bool = False
