"""A daemon with one of everything, and what it takes to be refused by it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from google.protobuf.timestamp_pb2 import Timestamp
from rund_pb.v1 import (
    metrics_pb2,
    metrics_service_pb2,
    operation_service_pb2,
    reduction_service_pb2,
    run_pb2,
    run_service_pb2,
    table_service_pb2,
    value_pb2,
)

from tests.process.raw_daemon import (
    RawDaemon,
    Write,
    create_run,
    create_table,
    new_id,
    opening,
    stream_bytes,
    wait,
    write_batches,
    write_table,
)

Case = tuple[str, str, "Mapping[str, Any] | Callable[[World], Any]"]
"""The reason, the field that is to blame, and what provokes it: fields of the request, or a function."""

RUN, GONE = "projects/demo/runs/run", "projects/demo/runs/gone"
NOBODY, BAD = "projects/demo/runs/nobody", "projects/demo/runs/.."
TABLE, SEALED, FOREIGN = (f"{RUN}/metrics/{name}" for name in ("table", "sealed", "foreign"))
INPUT = "projects/demo/datasets/d/tables/input"

USED, TRASHED, OUTSIDE = "$USED", "$TRASHED", "$OUTSIDE"
"""Stand in fields for a request id that was used, the uid of a run in trash, and a folder beside the root."""

UNION = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
TWICE = value_pb2.MapValue(entries=[value_pb2.MapEntry(key="k")] * 2)
FAR = Timestamp(seconds=2**62)
FAR_CAUSE = run_pb2.Cause(last_heartbeat=FAR)

_MODULES = (
    run_service_pb2,
    metrics_service_pb2,
    table_service_pb2,
    operation_service_pb2,
    reduction_service_pb2,
)


@dataclass
class World:
    """A daemon with one of everything."""

    daemon: RawDaemon
    used_id: str
    trashed_uid: str
    outside: Path

    def call(self, rpc: str, **fields: Any) -> Any:
        """Calls an RPC with a request of these fields; of a stream, all answers."""
        module = next(module for module in _MODULES if hasattr(module, f"{rpc}Request"))
        request = getattr(module, f"{rpc}Request")(**{name: self._filled(value) for name, value in fields.items()})
        answer = getattr(self.daemon.rpc, rpc)(request)
        return list(answer) if isinstance(answer, Iterator) else answer

    def provoke(self, rpc: str, how: Mapping[str, Any] | Callable[[World], Any]) -> None:
        """Does what is refused."""
        if callable(how):
            how(self)
        else:
            self.call(rpc, **how)

    def _filled(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return value.replace(USED, self.used_id).replace(TRASHED, self.trashed_uid).replace(OUTSIDE, str(self.outside))


def build(daemon: RawDaemon, outside: Path) -> World:
    """Makes one of everything."""
    (outside / "text.txt").write_text("no table")
    (outside / "taken.csv").write_text("a,b\n1,2\n")
    (outside / "reused.csv").write_text("a,b\n1,2\n")
    with pa.ipc.new_file(outside / "union.arrow", pa.schema({"u": UNION.type})):
        pass
    create_run(daemon, "run")
    trashed = create_run(daemon, "gone")
    daemon.rpc.DeleteRun(run_service_pb2.DeleteRunRequest(name=GONE, request_id=new_id()))
    create_run(daemon, "gone")
    create_table(daemon, RUN, "table")
    create_table(daemon, RUN, "sealed")
    write_batches(daemon, TABLE, pa.record_batch({"x": [1, 2, 3]}))
    write_batches(daemon, SEALED, pa.record_batch({"x": [1]}), seal=True)
    write_table(daemon, pa.record_batch({"label": [0, 1, 2]}), table_id="input")
    create_table(daemon, RUN, "foreign", foreign_table_url=INPUT)
    _add_vectors(daemon)
    used = new_id()
    daemon.rpc.AddInputValue(run_service_pb2.AddInputValueRequest(run=RUN, request_id=used))
    return World(daemon, used, trashed.uid, outside)


def _add_vectors(daemon: RawDaemon) -> None:
    """Tables with vectors, and a run whose table was replaced by a map and whose name was taken again."""
    vectors = pa.array([[0, 1], [1, 0], [1, 1]], pa.list_(pa.float32(), 2))
    rows = pa.record_batch({"example_id": [0, 1, 2], "e": vectors, "x": [1, 2, 3]})
    create_run(daemon, "mapped")
    for run, table in ((RUN, "vectors"), ("projects/demo/runs/mapped", "vectors")):
        create_table(daemon, run, table, foreign_table_url=INPUT)
        write_batches(daemon, f"{run}/metrics/{table}", rows, seal=True)
    create_table(daemon, RUN, "growing", foreign_table_url=INPUT)
    growing = pa.record_batch({"example_id": [0, 1, 2], "e": vectors, "g": vectors})
    write_batches(daemon, f"{RUN}/metrics/growing", growing)
    request = reduction_service_pb2.ReduceEmbeddingsPerDatasetRequest(run="projects/demo/runs/mapped")
    ended = wait(daemon, daemon.rpc.ReduceEmbeddingsPerDataset(request).operation.name)
    assert ended.reduction.reducers == ["projects/demo/reducers/mapped_e_umap"], ended
    create_table(daemon, "projects/demo/runs/mapped", "vectors")


# --- streams, which take more than one message ---


def sending(*messages: Write, table: str = TABLE) -> Callable[[World], Any]:
    """Opens a write stream and sends messages."""
    return lambda w: list(w.daemon.rpc.WriteMetrics(iter([opening(table, new_id()), *messages])))


def beginning(*messages: Write) -> Callable[[World], Any]:
    """Sends messages, the first of which should open the stream."""
    return lambda w: list(w.daemon.rpc.WriteMetrics(iter(messages)))


def batch(sequence: int = 1, **payload: Any) -> Write:
    """A batch message."""
    return Write(batch=Write.Batch(sequence=sequence, **payload))


def rows(**columns: Any) -> Write:
    """The first batch, with rows as an Arrow stream."""
    return batch(arrow_stream=stream_bytes(pa.record_batch(columns)))


def plain(*named: tuple[str, list[int]]) -> Write:
    """The first batch, with plain columns."""
    made = [metrics_pb2.ColumnBatch.Column(name=n, ints=metrics_pb2.ColumnBatch.Ints(values=v)) for n, v in named]
    return batch(columns=metrics_pb2.ColumnBatch(columns=made))


def putting(*batches: pa.RecordBatch, data: bytes = b"", **fields: Any) -> Callable[[World], Any]:
    """Writes an input table."""
    fields.setdefault("parent", "projects/demo/datasets/d")
    request = table_service_pb2.WriteTableRequest

    def put(w: World) -> Any:
        opened = request.Open(**{**fields, "request_id": fields.get("request_id", "").replace(USED, w.used_id)})
        parts = [stream_bytes(part) for part in batches] + ([data] if data else [])
        return w.daemon.rpc.WriteTable(iter([request(open=opened), *(request(arrow_stream=part) for part in parts)]))

    return put


def both(*steps: Callable[[World], Any]) -> Callable[[World], Any]:
    """One after the other."""

    def carry_out(w: World) -> None:
        for step in steps:
            step(w)

    return carry_out


def taking_over(w: World) -> None:
    """Opens a stream twice and listens to the first."""
    end = threading.Event()

    def staying() -> Iterator[Write]:
        yield opening(TABLE, "taken")
        end.wait(60)

    first, second = (w.daemon.rpc.WriteMetrics(staying()) for _ in range(2))
    try:
        next(first)
        next(second)
        list(first)
    finally:
        end.set()
        second.close()


def logging_into_a_sealed_history(w: World) -> None:
    """Seals a run's history and logs into it."""
    run = create_run(w.daemon, "ended").name
    create_table(w.daemon, run, "history")
    write_batches(w.daemon, f"{run}/metrics/history", seal=True)
    w.call("LogScalars", run=run, rows=[metrics_service_pb2.LogScalarsRequest.Row(step=1)])
