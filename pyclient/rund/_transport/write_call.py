"""One WriteMetrics call: what it sends comes from an outbox, and what it hears goes there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import grpc
from rund_pb.v1 import metrics_service_pb2 as pb

from rund._errors import DaemonUnavailableError, RundError

from .outbox import Outbox
from .parcels import Bundle, Closing, Parcel, StreamLimits
from .staging import StagingFolder

# Numbers of `batch` in WriteMetricsRequest and of `arrow_batch` in Batch, both with the wire type of bytes.
_BATCH_TAG = bytes([pb.WriteMetricsRequest.BATCH_FIELD_NUMBER << 3 | 2])
_DATA_TAG = bytes([pb.WriteMetricsRequest.Batch.ARROW_BATCH_FIELD_NUMBER << 3 | 2])


class StreamTransport(Protocol):
    """What a write stream needs of the connection to the daemon."""

    @property
    def write_metrics(self) -> Any:
        """WriteMetrics on the live channel; it takes messages that are encoded, too (``encode``)."""

    def call_metadata(self) -> Sequence[tuple[str, str]]:
        """What every call must carry to be let in."""

    def map_error(self, error: grpc.RpcError) -> RundError:
        """The client's own error for one of gRPC."""

    def reconnect(self) -> None:
        """Looks where the daemon is now."""


class WriteCall:
    """A call that was opened, and the thread that reads its answers.

    Args:
        transport: The connection.
        outbox: Where batches come from and acks go to.
        opening: The first message; its schema is filled in.
    """

    def __init__(self, transport: StreamTransport, outbox: Outbox, opening: pb.WriteMetricsRequest.Open) -> None:
        self._transport = transport
        self._outbox = outbox
        self._opening = opening
        self._folder: StagingFolder | None = None
        # Any: grpc has no public name for a call that is also an iterator.
        self._call: Any = None

    def start(self, schema: bytes) -> None:
        """Opens the call.

        Raises:
            RundError: There is no connection to open it on.
        """
        opening = pb.WriteMetricsRequest.Open()
        opening.CopyFrom(self._opening)
        opening.arrow_schema = schema or opening.arrow_schema
        requests = _Requests(self, self._outbox, opening)
        self._call = self._transport.write_metrics(requests, metadata=tuple(self._transport.call_metadata()))
        threading.Thread(target=self._read, name="rund-acks", daemon=True).start()

    def cancel(self) -> None:
        """Ends the call at once."""
        if self._call is not None:
            self._call.cancel()

    def put_down(self, bundle: Bundle) -> str | None:
        """Puts batches into a file for the daemon and gives its name; None if they have to be sent."""
        if self._folder is None:
            return None
        try:
            return self._folder.write(bundle.parcels)
        except OSError:
            self._outbox.stop_files(self)
            return None

    def _read(self) -> None:
        error: RundError = DaemonUnavailableError("the daemon ended the stream without a word")
        try:
            for response in self._call or ():
                self._hear(response)
        except grpc.RpcError as rpc_error:
            error = self._transport.map_error(rpc_error)
        self._outbox.ended(self, error)

    def _hear(self, response: pb.WriteMetricsResponse) -> None:
        kind = response.WhichOneof("message")
        if kind == "opened":
            said = response.opened
            table = said.metrics_table
            limits = StreamLimits(
                said.max_batch_bytes,
                said.max_inflight_bytes,
                said.committed_position,
                table.input_table_id if table.foreign_table_url else None,
            )
            if said.HasField("staging"):
                self._folder = StagingFolder.find(said.staging)
            self._outbox.opened(self, said.committed_sequence, limits, self._folder)
        elif kind == "ack":
            self._outbox.acked(self, response.ack.committed_sequence)
        elif kind == "draining":
            # The call ends with UNAVAILABLE next; that is what opens another one.
            self._outbox.acked(self, response.draining.committed_sequence)
        elif kind == "closed":
            self._outbox.closed(self, response.closed.metrics_table)


class _Requests:
    """The messages of a call. gRPC asks for them on a thread of its own.

    An exception that left this iterator would hide the call's real error and lose later acks: it has none.
    """

    def __init__(self, call: WriteCall, outbox: Outbox, opening: pb.WriteMetricsRequest.Open) -> None:
        self._call = call
        self._outbox = outbox
        self._schema = opening.arrow_schema
        self._ahead: list[Callable[[], pb.WriteMetricsRequest | bytes]] = [lambda: pb.WriteMetricsRequest(open=opening)]

    def __iter__(self) -> Iterator[pb.WriteMetricsRequest | bytes]:
        return self

    def __next__(self) -> pb.WriteMetricsRequest | bytes:
        if not self._ahead:
            message = self._outbox.next_message(self._call)
            if message is None:
                raise StopIteration
            self._prepare(message)
        return self._ahead.pop(0)()

    def _prepare(self, message: Parcel | Bundle | Closing) -> None:
        if isinstance(message, Closing):
            close = pb.WriteMetricsRequest.Close(seal=message.seal)
            self._ahead.append(lambda: pb.WriteMetricsRequest(close=close))
        elif isinstance(message, Parcel):
            self._send(message)
        elif (name := self._call.put_down(message)) is not None:
            self._ahead.append(lambda: _staged(name, message))
        else:
            for parcel in message.parcels:
                self._send(parcel)

    def _send(self, parcel: Parcel) -> None:
        if parcel.schema != self._schema:
            self._schema = parcel.schema
            schema = pb.WriteMetricsRequest.Schema(arrow_schema=parcel.schema)
            self._ahead.append(lambda: pb.WriteMetricsRequest(schema=schema))
        # The bytes are copied as late as possible, and once.
        self._ahead.append(lambda: _encoded(parcel))


def encode(message: pb.WriteMetricsRequest | bytes) -> bytes:
    """The serializer of the call: what is bytes already goes as it is."""
    return message if isinstance(message, bytes) else message.SerializeToString()


def _encoded(parcel: Parcel) -> bytes:
    """A batch as a message: joined by hand, because protobuf would copy its bytes three times."""
    size = parcel.data.size
    rest = pb.WriteMetricsRequest.Batch(sequence=parcel.sequence, position=parcel.position).SerializeToString()
    inner = rest + _DATA_TAG + _varint(size)
    return b"".join((_BATCH_TAG, _varint(len(inner) + size), inner, memoryview(parcel.data)))


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _staged(name: str, bundle: Bundle) -> pb.WriteMetricsRequest:
    staged = pb.WriteMetricsRequest.Staged(file_name=name, first_sequence=bundle.parcels[0].sequence)
    position = max(parcel.position for parcel in bundle.parcels)
    last = bundle.parcels[-1].sequence
    return pb.WriteMetricsRequest(batch=pb.WriteMetricsRequest.Batch(sequence=last, staged=staged, position=position))
