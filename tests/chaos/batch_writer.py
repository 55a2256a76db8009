"""A writer of batches over raw gRPC that never gives up: it opens its stream again and sends what is not committed.

A program of its own, because eight of them run beside each other. It ends when all its rows are acked, and prints how
often it had to begin again.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pyarrow as pa
from rund_pb.v1 import metrics_service_pb2, metrics_service_pb2_grpc

ROWS_OF_A_BATCH = 50
# Ended streams are opened again; these ends are final, and none of them may happen here.
FINAL = {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "ABORTED", "INTERNAL", "DATA_LOSS", "NOT_FOUND"}

Write = metrics_service_pb2.WriteMetricsRequest


def batch(rank: int, sequence: int, steps: int) -> bytes:
    """The rows of a batch: they say who sent them and which they are."""
    begin = (sequence - 1) * ROWS_OF_A_BATCH
    rows = range(begin, min(begin + ROWS_OF_A_BATCH, steps))
    made = pa.record_batch(
        {
            "step": pa.array(rows, pa.int64()),
            "rank": pa.array([rank] * len(rows), pa.int32()),
            "loss": [0.5] * len(rows),
        }
    )
    return made.serialize().to_pybytes()


SCHEMA = pa.schema({"step": pa.int64(), "rank": pa.int32(), "loss": pa.float64()}).serialize().to_pybytes()


def messages(
    table: str, rank: int, steps: int, opened: queue.SimpleQueue[int | None], pause_s: float
) -> Iterator[Write]:
    """What is still to be sent, once the daemon has said what it holds."""
    yield Write(open=Write.Open(metrics_table=table, stream_id=f"writer-{rank}", arrow_schema=SCHEMA))
    committed = opened.get()
    if committed is None:
        return
    last = -(-steps // ROWS_OF_A_BATCH)
    for sequence in range(committed + 1, last + 1):
        yield Write(batch=Write.Batch(sequence=sequence, arrow_batch=batch(rank, sequence, steps)))
        time.sleep(pause_s)
    yield Write(close=Write.Close())


def write_all(root: Path, table: str, rank: int, steps: int, pause_s: float, acked: list[int]) -> bool:
    """Opens the stream and sends; says whether all is committed. `acked` is what was promised, over all connections."""
    address = json.loads((root / "daemon.json").read_text())["address"]
    opened: queue.SimpleQueue[int | None] = queue.SimpleQueue()
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = metrics_service_pb2_grpc.MetricsServiceStub(channel)
        try:
            for answer in stub.WriteMetrics(messages(table, rank, steps, opened, pause_s), timeout=120):
                kind = answer.WhichOneof("message")
                if kind == "opened":
                    assert answer.opened.committed_sequence >= acked[-1], "an acked batch is gone"
                    opened.put(answer.opened.committed_sequence)
                elif kind == "ack":
                    acked.append(answer.ack.committed_sequence)
                elif kind == "closed":
                    return True
        finally:
            opened.put(None)
    return False


def main() -> None:
    """Arguments: root, table, rank, steps and the pause between batches in seconds."""
    root, table, rank, steps, pause_s = sys.argv[1:]
    begun_again, acked = 0, [0]
    while True:
        try:
            if write_all(Path(root), table, int(rank), int(steps), float(pause_s), acked):
                break
        except grpc.RpcError as error:
            if error.code().name in FINAL:
                raise
        except (FileNotFoundError, ValueError, KeyError):
            pass  # no daemon, or one that is starting
        begun_again += 1
        time.sleep(0.02)
    sys.stdout.write(f"{begun_again}\n")


if __name__ == "__main__":
    main()
