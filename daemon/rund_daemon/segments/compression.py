"""Compressed bodies of sealed batches: made when they are worth it, decoded when they are no larger than is known.

Only the daemon's own files have them. On the wire bodies are plain, both ways.
"""

from __future__ import annotations

from enum import StrEnum

import pyarrow as pa

from rund_daemon.errors import CorruptError

from .messages import decoded_bytes, read_message

MAX_DECODED_BYTES = 256 * 1024 * 1024
"""A batch that is larger stays as it is: no compressed one may cost more than this, whatever its bytes say."""

# Decoding costs every reader; embeddings, which are almost noise, are not worth it.
_WORTHWHILE_SHARE = 0.9


class Compression(StrEnum):
    """How bodies of sealed batches are compressed."""

    NONE = "none"
    ZSTD = "zstd"


def compress(batch: pa.RecordBatch, compression: Compression) -> memoryview | None:
    """Gives a batch as a compressed message, or None if that is not wanted or hardly smaller."""
    if compression is Compression.NONE:
        return None
    plain = pa.ipc.get_record_batch_size(batch)
    if plain > MAX_DECODED_BYTES:
        return None
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    data = _second_message(memoryview(sink.getvalue()))
    return data if len(data) <= _WORTHWHILE_SHARE * plain else None


def _second_message(stream: memoryview) -> memoryview:
    """The batch of a stream: Arrow compresses only in streams and files, which begin with a schema."""
    schema = read_message(stream, 0, "")
    batch = read_message(stream, schema.end, "", compressed=True) if schema else None
    if batch is None:
        raise AssertionError("a stream that was just written has no batch")
    return stream[batch.begin : batch.end]


def decompress(data: memoryview, schema: pa.Schema, limit: int) -> pa.RecordBatch:
    """Decodes a message whose body may be compressed.

    Args:
        data: the message.
        schema: its schema.
        limit: bytes that its body may become.

    Raises:
        CorruptError: it says that it becomes more. Nothing has been allocated then.
        InvalidError: INVALID_ARROW, if its buffers are not in it.
    """
    if (size := decoded_bytes(data)) > limit:
        raise CorruptError(f"a compressed batch says that it becomes {size} bytes, of {limit} that are known")
    return pa.ipc.read_record_batch(pa.py_buffer(data), schema)
