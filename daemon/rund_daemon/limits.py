"""What the daemon accepts. ServerInfo tells clients, so that they split and bound what they send."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on requests.

    Attributes:
        max_message_bytes: one gRPC message. Larger than a batch, to leave room for its frame.
        max_batch_bytes: Arrow data of one batch.
        max_batch_rows: rows of one batch; a batch of nulls has no bytes to bound it.
        max_inflight_bytes: batches of one stream that wait for their ack.
        max_total_inflight_bytes: batches of all streams that wait; bounds the daemon's memory.
        max_columns: columns of a table.
        max_value_bytes: one free-form value, and all parameters of a run together.
        max_page_size: entries of a page.
        max_labels: labels of a run.
        max_writers: writers of a run.
    """

    max_message_bytes: int = 66 * MIB
    max_batch_bytes: int = 64 * MIB
    max_batch_rows: int = 16 * MIB
    max_inflight_bytes: int = 16 * MIB
    max_total_inflight_bytes: int = 96 * MIB
    max_columns: int = 10_000
    max_value_bytes: int = 1 * MIB
    max_page_size: int = 1_000
    max_labels: int = 64
    max_writers: int = 4_096
