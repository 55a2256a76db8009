"""Arrow messages as somebody would send them who means harm, or whose memory is broken."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

_SPECIAL = [0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]


def sample_batches() -> list[pa.RecordBatch]:
    """Batches of every kind of type that is taken on the wire."""
    rows = 5
    floats = pa.array(np.arange(rows * 4, dtype=np.float32))
    return [
        pa.record_batch({"i": pa.array(range(rows)), "f": pa.array([1.5, None, 2.5, float("nan"), 0.0])}),
        pa.record_batch({"s": ["a", None, "ü" * 20, "", "long text " * 9], "b": [True, None, False, True, True]}),
        pa.record_batch({"v": pa.FixedSizeListArray.from_arrays(floats, 4), "l": [[1], [], None, [2, 3], [4]]}),
        pa.record_batch(
            {
                "st": [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}, {"x": 2, "y": None}, {"x": 3, "y": "c"}],
                "m": pa.array([[("k", 1)], None, [], [("a", 2), ("b", 3)], []], pa.map_(pa.string(), pa.int64())),
                "n": pa.nulls(rows),
                "t": pa.array(range(rows), pa.timestamp("us", "UTC")),
                "d": pa.array([b"x", None, b"", b"yz", b"z"], pa.binary()),
            }
        ),
    ]


def many_nulls(count: int) -> pa.Array:
    """Nulls without a byte of memory: `pa.nulls` takes a bit for each."""
    return pa.Array.from_buffers(pa.null(), count, [None])


def huge_message(batch: pa.RecordBatch) -> bytes:
    """The record batch message of a batch of more than 2^31 values, which `serialize` does not write."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(allow_64bit=True)) as writer:
        writer.write_batch(batch)
    data = sink.getvalue().to_pybytes()
    return data[len(batch.schema.serialize()) : -8]


def mutated(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """Gives `count` broken copies of a message."""
    chance = random.Random(seed)
    for _ in range(count):
        yield _mutate(bytearray(data), chance)


def _mutate(data: bytearray, chance: random.Random) -> bytes:
    for _ in range(chance.choice([1, 1, 1, 2, 4, 16])):
        at = chance.randrange(len(data)) if data else 0
        kind = chance.randrange(7)
        if not data or kind == 0:
            data[at:at] = chance.randbytes(chance.choice([1, 4, 8]))
        elif kind == 1:
            data[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[at] = chance.randrange(256)
        elif kind == 3:
            del data[at : at + chance.choice([1, 4, 8, 64])]
        elif kind == 4:
            size = chance.choice([2, 4, 8])
            data[at : at + size] = (chance.choice(_SPECIAL) & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        elif kind == 5:
            data = data[:at]
        else:
            other = chance.randrange(len(data))
            data[at : at + 8], data[other : other + 8] = data[other : other + 8], data[at : at + 8]
    return bytes(data)
