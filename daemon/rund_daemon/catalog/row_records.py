"""Records of where the rows of a metrics table lie, to and from the words of the domain; a companion of `records`."""

from __future__ import annotations

from rund_pb.store.v1 import records_pb2 as pb

from rund_daemon.model import RANGED_COLUMNS, BatchRef, ColumnRange, Micros, Segment, StreamMark, TableMark


def mark_to_bytes(mark: TableMark) -> bytes:
    """Record of a table's mark."""
    return pb.TableMark(
        rows=mark.rows,
        batches=mark.batches,
        bytes=mark.bytes,
        commit_time=mark.commit_time,
        next_segment=mark.next_segment,
    ).SerializeToString()


def mark_from_bytes(data: bytes) -> TableMark:
    """A table's mark of its record."""
    record = pb.TableMark.FromString(data)
    return TableMark(record.rows, record.batches, record.bytes, Micros(record.commit_time), record.next_segment)


def segment_to_bytes(segment: Segment) -> bytes:
    """Record of a segment."""
    return pb.Segment(
        number=segment.number,
        sealed=segment.sealed,
        length=segment.length,
        rows=segment.rows,
        arrow_schema=segment.arrow_schema,
        batches=segment.batches,
    ).SerializeToString()


def segment_from_bytes(data: bytes) -> Segment:
    """A segment of its record."""
    record = pb.Segment.FromString(data)
    return Segment(record.number, record.sealed, record.length, record.rows, record.arrow_schema, record.batches)


def batch_to_bytes(batch: BatchRef) -> bytes:
    """Record of a committed batch."""
    record = pb.Batch(
        segment=batch.segment,
        offset=batch.offset,
        length=batch.length,
        rows=batch.rows,
        checksum=batch.checksum,
        first_row=batch.first_row,
        decoded_bytes=batch.decoded_bytes,
    )
    for item in batch.ranges:
        target: pb.Range = getattr(record, item.column)
        if isinstance(item.least, int):
            target.integers.extend((item.least, int(item.greatest)))
        else:
            target.floats.extend((item.least, item.greatest))
    return record.SerializeToString()


def batch_from_bytes(data: bytes) -> BatchRef:
    """A committed batch of its record."""
    record = pb.Batch.FromString(data)
    return BatchRef(
        record.segment,
        record.offset,
        record.length,
        record.rows,
        record.checksum,
        record.first_row,
        tuple(_range_from_pb(name, getattr(record, name)) for name in RANGED_COLUMNS if record.HasField(name)),
        record.decoded_bytes,
    )


def _range_from_pb(column: str, record: pb.Range) -> ColumnRange:
    least, greatest = record.integers or record.floats
    return ColumnRange(column, least, greatest)


def stream_to_bytes(stream: StreamMark) -> bytes:
    """Record of a write stream."""
    return pb.Stream(
        sequence=stream.sequence, commit_time=stream.commit_time, position=stream.position
    ).SerializeToString()


def stream_from_bytes(data: bytes) -> StreamMark:
    """A write stream of its record."""
    record = pb.Stream.FromString(data)
    return StreamMark(record.sequence, Micros(record.commit_time), record.position)
