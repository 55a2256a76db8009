"""A training that writes in every way there is, and notes what it was promised.

A program of its own, because it is killed. Its notes are lines of a file, `kind number`: so many of that kind were kept
when the line was written. Numbers count from 0 in each kind, so that whoever reads the run later can tell what is lost,
doubled, or out of its order.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import rund
from rund import Run, RundError
from rund_pb.v1 import metrics_service_pb2, metrics_service_pb2_grpc, run_service_pb2, run_service_pb2_grpc, value_pb2

PROJECT = "kills"
ROWS_OF_A_LOOP = 150
ROWS_OF_A_BATCH = 50
ROWS_OF_A_PART = 10
ROWS_OF_A_FILE = 33
# Together they have more than 1 MiB, from which on batches are handed over as files.
VECTOR = np.zeros(8192, np.float32)


class Trainer:
    """Writes into one run until it is killed, or for so many loops."""

    def __init__(self, root: Path, run_name: str, notes: Path) -> None:
        self.notes = os.open(notes, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.run: Run = patiently(lambda: rund.init(PROJECT, run_name, root_url=root, if_exists="reuse"))
        self.name = f"projects/{PROJECT}/runs/{run_name}"
        self.channel = grpc.insecure_channel(
            os.environ["RUND_ADDRESS"],
            options=[("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 20)],
        )
        self.counts: dict[str, int] = {}
        self.copied = ""

    def note(self, kind: str, number: int) -> None:
        """From here on so many of a kind are promised."""
        self.counts[kind] = number
        os.write(self.notes, f"{kind} {number}\n".encode())

    def count(self, kind: str) -> int:
        return self.counts.get(kind, 0)

    def log(self) -> None:
        begin = self.count("log")
        for step in range(begin, begin + ROWS_OF_A_LOOP):
            self.run.log({"n": step, "loss": 1.0 / (step + 1)}, step)
        self.note("log", begin + ROWS_OF_A_LOOP)

    def add_batches(self, writer: Any) -> None:
        begin = self.count("bulk")
        for batch in range(begin, begin + 4 * ROWS_OF_A_BATCH, ROWS_OF_A_BATCH):
            writer.add_batch({"n": list(range(batch, batch + ROWS_OF_A_BATCH))})
        writer.flush()
        self.note("bulk", begin + 4 * ROWS_OF_A_BATCH)

    def hand_over(self, writer: Any) -> None:
        begin = self.count("large")
        rows = range(begin, begin + ROWS_OF_A_FILE)
        writer.add_batch({"n": list(rows), "vector": np.tile(VECTOR, (ROWS_OF_A_FILE, 1))})
        writer.flush()
        self.note("large", rows.stop)

    def add_part(self) -> None:
        number = self.count("part")
        try:
            self.run.add_metrics({"n": list(range(ROWS_OF_A_PART))}, name=f"part-{number}")
        except (ConnectionError, FileExistsError):
            self.counts["part"] = number + 1  # whether it was made nobody knows; it is not promised
            return
        os.write(self.notes, f"part-{number} {ROWS_OF_A_PART}\n".encode())
        self.counts["part"] = number + 1

    def add_scalars(self) -> None:
        """By hand, with a request id that stays the same until an answer comes."""
        number = self.count("scalar")
        row = metrics_service_pb2.LogScalarsRequest.Row(step=number, values=values(scalar=number))
        request = metrics_service_pb2.LogScalarsRequest(run=self.name, rows=[row], request_id=str(uuid.uuid4()))
        stub = metrics_service_pb2_grpc.MetricsServiceStub(self.channel)
        patiently(lambda: stub.LogScalars(request, timeout=20, wait_for_ready=True))
        self.note("scalar", number + 1)

    def add_output(self) -> None:
        number = self.count("output")
        request = run_service_pb2.AddOutputValueRequest(
            run=self.name, value=values(n=number), request_id=str(uuid.uuid4())
        )
        patiently(lambda: self.runs.AddOutputValue(request, timeout=20, wait_for_ready=True))
        self.note("output", number + 1)

    def copy(self) -> None:
        """Copies the run, and deletes the copy before it."""
        number = self.count("copy")
        name = f"{self.run.name}-copy-{number}"
        request = run_service_pb2.CopyRunRequest(name=self.name, run_name=name, request_id=str(uuid.uuid4()))
        patiently(lambda: self.runs.CopyRun(request, timeout=20, wait_for_ready=True))
        if number:
            delete = run_service_pb2.DeleteRunRequest(name=f"{self.name}-copy-{number - 1}")
            try:
                self.runs.DeleteRun(delete, timeout=20)
            except grpc.RpcError as error:
                # NOT_FOUND: the copy was not made, because the daemon was killed meanwhile.
                if error.code().name not in ("NOT_FOUND", "UNAVAILABLE", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED"):
                    raise
        self.counts["copy"] = number + 1

    @property
    def runs(self) -> Any:
        return run_service_pb2_grpc.RunServiceStub(self.channel)

    def train(self, loops: int) -> None:
        with self.run.metrics_writer("bulk") as writer, self.run.metrics_writer("large") as large:
            for loop in range(loops):
                self.log()
                self.add_batches(writer)
                self.add_scalars()
                self.add_output()
                if loop % 3 == 0:
                    self.add_part()
                if loop % 4 == 0:
                    self.hand_over(large)
                if loop % 4 == 0:
                    self.copy()
                time.sleep(0.005)
        self.run.finish(timeout=60)
        self.note("finished", 1)


def values(**content: int) -> value_pb2.MapValue:
    return value_pb2.MapValue(
        entries=[value_pb2.MapEntry(key=key, value=value_pb2.Value(int_value=item)) for key, item in content.items()]
    )


def patiently(call: Callable[[], Any]) -> Any:
    """Calls again while no daemon answers."""
    while True:
        try:
            return call()
        except ConnectionError:
            time.sleep(0.05)
        except RundError as error:
            if error.reason or error.code not in ("INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"):
                raise
            time.sleep(0.05)
        except grpc.RpcError as error:
            # gRPC's own words for a connection that broke.
            if error.code().name not in ("UNAVAILABLE", "CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED"):
                raise
            time.sleep(0.05)


def main() -> None:
    """Arguments: root, run name, file for the notes, number of loops."""
    root, run_name, notes, loops = sys.argv[1:]
    Trainer(Path(root), run_name, Path(notes)).train(int(loops))


if __name__ == "__main__":
    main()
