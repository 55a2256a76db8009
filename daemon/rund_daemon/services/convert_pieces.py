"""What a read gives, as messages."""

from __future__ import annotations

from rund_pb.v1 import metrics_service_pb2 as pb
from rund_pb.v1 import table_service_pb2

from rund_daemon.reading.scan import Piece
from rund_daemon.reading.stored import StoredFile


def piece_to_pb(piece: Piece) -> pb.ReadMetricsResponse:
    """An answer of ReadMetrics."""
    return pb.ReadMetricsResponse(
        schema=piece.schema,
        batch=piece.data,
        next_row=piece.next_row,
        row_count=piece.row_count,
        stored_files=map(_file_to_pb, piece.files),
        stored_schema=piece.stored_schema,
        stored_constants=piece.stored_constants,
    )


def table_piece_to_pb(piece: Piece) -> table_service_pb2.ReadTableResponse:
    """An answer of ReadTable."""
    return table_service_pb2.ReadTableResponse(
        schema=piece.schema,
        batch=piece.data,
        next_row=piece.next_row,
        stored_files=map(_file_to_pb, piece.files),
        stored_schema=piece.stored_schema,
    )


def _file_to_pb(file: StoredFile) -> pb.StoredFile:
    state = file.state
    batches = (
        pb.StoredFile.Batch(
            offset=batch.offset, length=batch.length, skipped_rows=batch.skipped_rows, row_count=batch.rows
        )
        for batch in file.batches
    )
    return pb.StoredFile(
        path=str(file.path),
        inode=state.inode,
        size=state.size,
        modify_time_ns=state.modify_time_ns,
        batches=batches,
    )
