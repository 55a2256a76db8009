"""A writer that hands files over by hand, over raw gRPC: it can do what the client never would."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pyarrow as pa
from rund_daemon.segments.file_format import PREAMBLE

from tests.process.raw_daemon import RawDaemon, Write, batch_bytes, closing, opening


class HandOver:
    """One call, with the folder that the daemon offers for it.

    Attributes:
        committed: the last sequence that is acknowledged.
    """

    def __init__(self, daemon: RawDaemon, table: str, schema: pa.Schema, stream_id: str = "w") -> None:
        self._messages: queue.SimpleQueue[Write | None] = queue.SimpleQueue()
        self._messages.put(opening(table, stream_id, schema, staging=True))
        self._answers: Any = daemon.rpc.WriteMetrics(iter(self._messages.get, None))
        opened = next(self._answers).opened
        self.committed: int = opened.committed_sequence
        self.folder = Path(opened.staging.folder)
        self._head = opened.staging.arrow_schema

    def put_down(self, sequence: int, batch: pa.RecordBatch) -> Path:
        """Writes a file of one batch and says nothing."""
        path = self.folder / f"{sequence}.arrow"
        path.write_bytes(PREAMBLE + self._head + batch_bytes(batch))
        return path

    def name(self, sequence: int) -> None:
        """Says that the file is the daemon's. Whether it is taken, `wait` says."""
        staged = Write.Staged(file_name=f"{sequence}.arrow", first_sequence=sequence)
        self._messages.put(Write(batch=Write.Batch(sequence=sequence, staged=staged)))

    def wait(self, sequence: int) -> None:
        """Waits for the ack of a sequence.

        Raises:
            RefusedError: the call has ended.
        """
        while self.committed < sequence:
            self.committed = max(self.committed, next(self._answers).ack.committed_sequence)

    def close(self) -> None:
        """Ends the call well."""
        self._messages.put(closing())
        for _ in self._answers:
            pass

    def give_up(self) -> None:
        """Ends the call as a killed client does."""
        self._messages.put(None)
        self._answers.close()
