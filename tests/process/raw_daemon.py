"""A real daemon as a process of its own, called with the generated stubs alone: no client library stands between.

`RawDaemon` starts, stops and kills it. `RawDaemon.rpc` has every RPC by its name; a call that fails raises
`RefusedError`, which says what the trailer says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rund_pb.v1 import (
    error_reason_pb2,
    metrics_pb2,
    metrics_service_pb2,
    metrics_service_pb2_grpc,
    operation_pb2,
    operation_service_pb2,
    operation_service_pb2_grpc,
    reduction_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    server_service_pb2_grpc,
    table_service_pb2,
    table_service_pb2_grpc,
    value_pb2,
)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
CALL_TIMEOUT_S = 60.0
DETAILS_KEY = "grpc-status-details-bin"

Write = metrics_service_pb2.WriteMetricsRequest

_STUBS = (
    run_service_pb2_grpc.RunServiceStub,
    metrics_service_pb2_grpc.MetricsServiceStub,
    table_service_pb2_grpc.TableServiceStub,
    operation_service_pb2_grpc.OperationServiceStub,
    reduction_service_pb2_grpc.ReductionServiceStub,
    server_service_pb2_grpc.ServerServiceStub,
)
_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # After a kill the next daemon must be found at once and not after a back-off of seconds.
    ("grpc.initial_reconnect_backoff_ms", 20),
    # The time that one attempt has, whatever its name: on a busy machine a handshake takes longer than that back-off.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 200),
    # Channels of one process to one address would share a connection otherwise, a dead one too.
    ("grpc.use_local_subchannel_pool", 1),
]


class RefusedError(Exception):
    """A call that failed, with all that its trailer says. `reason` is empty if gRPC itself gave the error."""

    def __init__(self, rpc: str, error: grpc.RpcError) -> None:
        self.rpc = rpc
        self.code: str = error.code().name
        self.message: str = error.details() or ""
        self.reason, self.field, self.metadata, self.retry_after_s = "", "", {}, None
        trailer = dict(error.trailing_metadata() or ())
        self.details = trailer.get(DETAILS_KEY, b"")
        status = error_reason_pb2.ErrorStatus.FromString(self.details)
        for detail in status.details:
            self._read(detail.type_url.rpartition(".")[2], detail.value)
        super().__init__(f"{rpc}: {self.code} {self.reason} {self.field}: {self.message}")

    def _read(self, kind: str, value: bytes) -> None:
        if kind == "ErrorInfo":
            info = error_reason_pb2.ErrorInfo.FromString(value)
            assert info.domain == "rund"
            self.reason, self.metadata = info.reason, dict(info.metadata)
        elif kind == "BadRequest":
            (violation,) = error_reason_pb2.BadRequest.FromString(value).field_violations
            self.field = violation.field
        elif kind == "RetryInfo":
            delay = error_reason_pb2.RetryInfo.FromString(value).retry_delay
            self.retry_after_s = delay.seconds + delay.nanos / 1e9


class Rpcs:
    """Every RPC of the daemon as an attribute."""

    def __init__(self, channel: grpc.Channel, metadata: Iterable[tuple[str, str]] = ()) -> None:
        self._metadata = tuple(metadata)
        self._calls: dict[str, Any] = {}
        for stub in _STUBS:
            self._calls |= vars(stub(channel))

    def __getattr__(self, rpc: str) -> Callable[..., Any]:
        call = self._calls[rpc]
        streams = isinstance(call, (grpc.UnaryStreamMultiCallable, grpc.StreamStreamMultiCallable))
        return lambda request, timeout=CALL_TIMEOUT_S: (self._stream if streams else self._unary)(
            rpc, call, request, timeout
        )

    def _unary(self, rpc: str, call: Any, request: Any, timeout: float) -> Any:
        try:
            return call(request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise RefusedError(rpc, error) from None

    def _stream(self, rpc: str, call: Any, request: Any, timeout: float) -> Iterator[Any]:
        stream = call(request, timeout=timeout, metadata=self._metadata)
        try:
            yield from stream
        except grpc.RpcError as error:
            raise RefusedError(rpc, error) from None
        finally:
            stream.cancel()


@dataclass
class RawDaemon:
    """A daemon on a root of its own."""

    root: Path
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] = field(init=False)
    channel: grpc.Channel | None = field(init=False, default=None)
    health_channel: grpc.Channel | None = field(init=False, default=None)

    @property
    def log_path(self) -> Path:
        """What it says on stderr, one JSON object a line, of all its starts."""
        return self.root.with_name(f"{self.root.name}.log")

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self.address_file()["address"])

    def address_file(self) -> dict[str, Any]:
        """What `daemon.json` says."""
        content: dict[str, Any] = json.loads((self.root / "daemon.json").read_text())
        return content

    @property
    def rpc(self) -> Rpcs:
        """Its RPCs, over one channel."""
        if self.channel is None:
            self.channel = self.new_channel()
        return Rpcs(self.channel)

    def rpc_over(self, channel: grpc.Channel, token: str = "") -> Rpcs:
        """Its RPCs over another channel, with a token."""
        return Rpcs(channel, [("authorization", f"Bearer {token}")] if token else [])

    def new_channel(self, address: str = "") -> grpc.Channel:
        """A channel of one's own. `tcp:` is not gRPC's word for it."""
        return grpc.insecure_channel((address or self.address).removeprefix("tcp:"), options=_CHANNEL_OPTIONS)

    def health(self, service: str = "rund.v1") -> str:
        """What grpc.health.v1.Health says of a service."""
        if self.health_channel is None:
            self.health_channel = self.new_channel()
        stub = health_pb2_grpc.HealthStub(self.health_channel)
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=CALL_TIMEOUT_S)
        return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)

    def spawn(self) -> None:
        """Starts it, without waiting."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUND_")}
        environment.pop("XDG_RUNTIME_DIR", None)
        command = [*self.wrapper, sys.executable, "-m", "rund_daemon", "serve", "--root", str(self.root), *self.flags]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, env={**environment, **self.environment}, stderr=log)

    def start(self) -> RawDaemon:
        """Starts it, again if it was killed, and returns when it is ready."""
        self.spawn()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._is_ready():
            assert self.process.poll() is None, self.log_path.read_text()[-4000:]
            assert time.monotonic() < deadline, "the daemon was not ready in time"
            time.sleep(0.01)
        return self

    def stop(self) -> int:
        """Ends it as a service manager does, and gives its exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_TIMEOUT_S)
        self._hang_up()
        return code

    def kill(self) -> None:
        """Ends it with no chance to say goodbye."""
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        self._hang_up()

    def restart(self) -> None:
        """Kills it and starts it again."""
        self.kill()
        self.start()

    def end(self) -> None:
        """Leaves no process behind, whatever a test did."""
        if self.process.poll() is None:
            self.kill()
        self._hang_up()

    def log(self, event: str = "") -> list[dict[str, Any]]:
        """The lines of its log, or those of one event. One that a full disk has cut short is left out."""
        found = []
        for text in self.log_path.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                line = json.loads(text)
                if isinstance(line, dict) and event in ("", line["event"]):
                    found.append(line)
        return found

    def _hang_up(self) -> None:
        for channel in (self.channel, self.health_channel):
            if channel is not None:
                channel.close()
        self.channel = self.health_channel = None

    def _is_ready(self) -> bool:
        try:
            return bool(self.address_file()["pid"] == self.process.pid)
        except (FileNotFoundError, ValueError):
            return False


def running(root: Path, *flags: str, **environment: str) -> Iterator[RawDaemon]:
    """A daemon for a fixture: starts it, and ends it whatever became of it."""
    daemon = RawDaemon(root, flags, environment).start()
    try:
        yield daemon
    finally:
        daemon.end()


# --- the words of requests ---


def new_id() -> str:
    """A request id."""
    return str(uuid.uuid4())


def value(content: object) -> value_pb2.Value:
    """A free-form value."""
    message = value_pb2.Value()
    if isinstance(content, bool):
        message.bool_value = content
    elif isinstance(content, int):
        message.int_value = content
    elif isinstance(content, float):
        message.double_value = content
    elif isinstance(content, str):
        message.string_value = content
    elif isinstance(content, bytes):
        message.bytes_value = content
    elif isinstance(content, dict):
        message.map_value.CopyFrom(values(content))
    elif isinstance(content, list):
        message.list_value.SetInParent()
        message.list_value.items.extend(value(item) for item in content)
    return message


def values(content: Mapping[str, object]) -> value_pb2.MapValue:
    """A map of free-form values."""
    return value_pb2.MapValue(entries=[value_pb2.MapEntry(key=key, value=value(item)) for key, item in content.items()])


def plain(message: value_pb2.MapValue) -> dict[str, object]:
    """The content of a map of free-form values."""
    return {entry.key: _plain_value(entry.value) for entry in message.entries}


def _plain_value(message: value_pb2.Value) -> object:
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    if kind == "map_value":
        return plain(message.map_value)
    if kind == "list_value":
        return [_plain_value(item) for item in message.list_value.items]
    return int(message.big_int_value) if kind == "big_int_value" else getattr(message, kind)


# --- what tests do again and again ---


def create_run(daemon: RawDaemon, run_name: str = "", project: str = "demo", **fields: Any) -> run_pb2.Run:
    """Creates a run; `fields` are those of CreateRunRequest."""
    run = fields.pop("run", run_pb2.Run())
    run.run_name = run_name
    fields.setdefault("request_id", new_id())
    request = run_service_pb2.CreateRunRequest(parent=f"projects/{project}", run=run, **fields)
    return daemon.rpc.CreateRun(request).run


def get_run(daemon: RawDaemon, name: str, **fields: Any) -> run_pb2.Run:
    """Gives a run."""
    return daemon.rpc.GetRun(run_service_pb2.GetRunRequest(name=name, **fields)).run


def create_table(daemon: RawDaemon, run: str, table_id: str = "", **fields: Any) -> metrics_pb2.MetricsTable:
    """Creates a metrics table; `fields` are those of MetricsTable."""
    request = metrics_service_pb2.CreateMetricsTableRequest(
        parent=run, table_id=table_id, metrics_table=metrics_pb2.MetricsTable(**fields), request_id=new_id()
    )
    return daemon.rpc.CreateMetricsTable(request).metrics_table


def get_table(daemon: RawDaemon, name: str) -> metrics_pb2.MetricsTable:
    """Gives a metrics table."""
    return daemon.rpc.GetMetricsTable(metrics_service_pb2.GetMetricsTableRequest(name=name)).metrics_table


def schema_bytes(schema: pa.Schema) -> bytes:
    """A schema message."""
    return schema.serialize().to_pybytes()


def batch_bytes(batch: pa.RecordBatch) -> bytes:
    """A record batch message."""
    return batch.serialize().to_pybytes()


def stream_bytes(*batches: pa.RecordBatch, schema: pa.Schema | None = None, options: Any = None) -> bytes:
    """An Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema or batches[0].schema, options=options) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def opening(table: str, stream_id: str = "w", schema: pa.Schema | None = None, **fields: Any) -> Write:
    """The first message of a write stream."""
    data = schema_bytes(schema) if schema is not None else b""
    return Write(open=Write.Open(metrics_table=table, stream_id=stream_id, arrow_schema=data, **fields))


def arrow_batch(sequence: int, batch: pa.RecordBatch) -> Write:
    """A batch in its cheapest form."""
    return Write(batch=Write.Batch(sequence=sequence, arrow_batch=batch_bytes(batch)))


def arrow_stream(sequence: int, *batches: pa.RecordBatch, schema: pa.Schema | None = None) -> Write:
    """A batch as a stream of its own."""
    return Write(batch=Write.Batch(sequence=sequence, arrow_stream=stream_bytes(*batches, schema=schema)))


def closing(*, seal: bool = False) -> Write:
    """The last message of a write stream."""
    return Write(close=Write.Close(seal=seal))


def write(daemon: RawDaemon, *messages: Write) -> list[Any]:
    """Sends a write stream and gives the answers."""
    return list(daemon.rpc.WriteMetrics(iter(messages)))


def write_batches(
    daemon: RawDaemon, table: str, *batches: pa.RecordBatch, stream_id: str = "", seal: bool = False
) -> int:
    """Writes batches, each with a schema of its own, and gives the last acked sequence."""
    messages = [opening(table, stream_id or new_id())]
    messages += [arrow_stream(number, batch) for number, batch in enumerate(batches, 1)]
    answers = write(daemon, *messages, closing(seal=seal))
    assert answers[-1].WhichOneof("message") == "closed"
    return max((answer.ack.committed_sequence for answer in answers if answer.HasField("ack")), default=0)


def read(daemon: RawDaemon, table: str, **fields: Any) -> pa.Table:
    """Reads rows of a metrics table; `fields` are those of ReadMetricsRequest, `columns` a list of names."""
    names = fields.pop("columns", None)
    if names is not None:
        fields["columns"] = metrics_service_pb2.ColumnSelection(names=names)
    request = metrics_service_pb2.ReadMetricsRequest(metrics_table=table, **fields)
    return joined(daemon.rpc.ReadMetrics(request))


def read_input_table(daemon: RawDaemon, table: str, **fields: Any) -> pa.Table:
    """Reads rows of an input table."""
    names = fields.pop("columns", None)
    if names is not None:
        fields["columns"] = metrics_service_pb2.ColumnSelection(names=names)
    return joined(daemon.rpc.ReadTable(table_service_pb2.ReadTableRequest(name=table, **fields)))


def joined(pieces: Iterable[Any]) -> pa.Table:
    """The rows of a read."""
    return pa.ipc.open_stream(b"".join(piece.schema + piece.batch for piece in pieces)).read_all()


def copy_run(daemon: RawDaemon, name: str, **fields: Any) -> operation_pb2.Operation:
    """Copies a run and gives the operation when it has ended."""
    fields.setdefault("request_id", new_id())
    operation = daemon.rpc.CopyRun(run_service_pb2.CopyRunRequest(name=name, **fields)).operation
    return wait(daemon, operation.name)


def wait(daemon: RawDaemon, operation: str) -> operation_pb2.Operation:
    """Gives an operation when it has ended."""
    request = operation_service_pb2.WaitOperationRequest(name=operation, timeout=Duration(seconds=20))
    while not (answer := daemon.rpc.WaitOperation(request).operation).done:
        pass  # a test that waits for too long is ended by its timeout
    return answer


def write_table(
    daemon: RawDaemon, *batches: pa.RecordBatch, dataset: str = "projects/demo/datasets/d", **fields: Any
) -> Any:
    """Writes an input table; `fields` are those of WriteTableRequest.Open."""
    fields.setdefault("request_id", new_id())
    request = table_service_pb2.WriteTableRequest
    messages = [request(open=request.Open(parent=dataset, **fields))]
    messages += [request(arrow_stream=stream_bytes(batch)) for batch in batches]
    return daemon.rpc.WriteTable(iter(messages)).table
