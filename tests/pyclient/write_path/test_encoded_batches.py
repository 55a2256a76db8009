"""Batch messages that the client joins by hand are those that protobuf would have written."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as some
from rund._transport.parcels import Parcel
from rund._transport.write_call import _encoded
from rund_pb.v1 import metrics_service_pb2 as pb

# Lengths around which a varint takes one byte more, for the data and for the message around it.
SIZES = some.sampled_from([0, 1, 100, 126, 127, 128, 16_360, 16_383, 16_384, 2_097_140, 2_097_152]) | some.integers(
    0, 300
)
NUMBERS = some.integers(0, (1 << 63) - 1)


@given(sequence=NUMBERS, size=SIZES, position=NUMBERS)
def test_a_joined_message_is_protobufs_own(sequence: int, size: int, position: int) -> None:
    data = b"\x0a\xff" * (size // 2) + b"\x80" * (size % 2)
    encoded = _encoded(Parcel(sequence, b"", pa.py_buffer(data), position))
    batch = pb.WriteMetricsRequest.Batch(sequence=sequence, arrow_batch=data, position=position)
    assert pb.WriteMetricsRequest.FromString(encoded) == pb.WriteMetricsRequest(batch=batch)
