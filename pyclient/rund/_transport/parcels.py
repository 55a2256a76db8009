"""What goes through an outbox, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

FILE_BYTES = 16 << 20
"""About the size of a full file; its batches are in memory until they are durable."""
FILES_BYTES = 3 * FILE_BYTES
"""How much may wait for its ack where files are handed over: as much as the daemon looks at."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A batch on its way.

    Attributes:
        sequence: Its place in the stream.
        schema: The Arrow schema message that it belongs to.
        data: The Arrow record batch message.
        position: Where the writer stands in its own source behind it; 0: as before.
    """

    sequence: int
    schema: bytes
    data: pa.Buffer
    position: int = 0


@dataclass(frozen=True, slots=True)
class Bundle:
    """Batches that follow each other and go into one file."""

    parcels: tuple[Parcel, ...]


class Files(Protocol):
    """Where files are handed over; see ``staging``."""

    def takes(self, schema: bytes) -> bool:
        """Whether batches of this schema message may be put into a file."""


@dataclass(frozen=True, slots=True)
class Closing:
    """The wish to end the stream, and perhaps to seal the table."""

    seal: bool


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """What the daemon said when it opened the stream.

    Attributes:
        batch_bytes: The largest Arrow message.
        inflight_bytes: How much may wait for its ack.
        position: Where the writer stood in its own source when the stream last committed; 0 when it did not say.
        input_table_id: What stands for the table's input table in a column of that name; None without one.
    """

    batch_bytes: int
    inflight_bytes: int
    position: int = 0
    input_table_id: int | None = None
