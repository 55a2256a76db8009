"""The connection to one daemon, and the one funnel through which every unary call goes.

Everything above speaks in the plain data of ``_types``; everything that gRPC needs to know (options,
deadlines, request ids, retries, errors, forks) is decided here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import grpc
from google.protobuf.message import Message
from rund_pb.v1.metrics_service_pb2 import WriteMetricsResponse
from rund_pb.v1.metrics_service_pb2_grpc import MetricsServiceStub
from rund_pb.v1.operation_service_pb2_grpc import OperationServiceStub
from rund_pb.v1.reduction_service_pb2_grpc import ReductionServiceStub
from rund_pb.v1.run_service_pb2_grpc import RunServiceStub
from rund_pb.v1.server_service_pb2_grpc import ServerServiceStub
from rund_pb.v1.table_service_pb2_grpc import TableServiceStub

from rund._apart import apart, begin_apart
from rund._errors import ForkedProcessError, InvalidUrlError, RundError
from rund._identity import new_request_id

from .fork_guard import ForkGuard, in_forked_child
from .retry import pauses
from .status import code_of, error_from_rpc
from .write_call import encode

Request = TypeVar("Request", bound=Message)
Answer = TypeVar("Answer", bound=Message)

CALL_TIMEOUT_S = 60.0
"""Deadline of one call, all tries together."""

UNAVAILABLE_TIMEOUT_S = 10.0
"""How long a daemon that does not answer is asked again: every RPC may be repeated with its request id."""

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    # The daemon states its own limits, and batches are split by them; a second limit here could only lose
    # answers.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A frozen peer is noticed after 3 to 9 s; without ping_timeout_ms it takes a minute. The daemon allows a ping
    # every 5 s.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    # gRPC's own bound of two minutes is far too long for a daemon that is back in a second.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # For all its name it is how long one try may take, the daemon's first answer included: on a busy host that is
    # more than the 0.1 s which gRPC gives it at least. A daemon that is gone refuses at once.
    ("grpc.min_reconnect_backoff_ms", 3_000),
    # Retries are made by call(), which keeps the request id and knows when to stop.
    ("grpc.enable_retries", 0),
    # A proxy variable of the training environment must not divert calls to a daemon on this host.
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.primary_user_agent", "rund-python"),
)


@dataclass(frozen=True, slots=True)
class Stubs:
    """The services of one channel."""

    runs: RunServiceStub
    metrics: MetricsServiceStub
    write_metrics: Any  # grpc's own types know no serializer that takes bytes
    tables: TableServiceStub
    operations: OperationServiceStub
    reductions: ReductionServiceStub
    server: ServerServiceStub


UnaryCall: TypeAlias = Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[Request, Answer]"]
StreamCall: TypeAlias = Callable[[Stubs], "grpc.UnaryStreamMultiCallable[Request, Answer]"]
Relocate: TypeAlias = Callable[[], str | None]


class Transport:
    """One process's connection to one daemon. Safe for use by many threads; dead in a forked child.

    Args:
        address: ``unix:PATH``, ``tcp:HOST:PORT`` or ``tls:HOST:PORT``.
        token: Sent to daemons on TCP; a unix socket needs none.
        relocate: Says where the daemon is now, after it was lost: another address, or None for the same.
    """

    def __init__(self, address: str, *, token: str = "", relocate: Relocate | None = None) -> None:
        """Opens no connection yet.

        Raises:
            ForkedProcessError: This process was forked from one that uses gRPC.
            InvalidUrlError: The address can't be parsed.
        """
        _refuse_forked_child()
        self.token = token
        self._address = address
        self._relocate = relocate
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: Stubs | None = None
        self._closed = False
        self._guard = ForkGuard(self._release_after_fork)
        self._open(address)

    @property
    def address(self) -> str:
        """Where the daemon is."""
        return self._address

    @property
    def closed(self) -> bool:
        """Whether it is of no use any more, here or because the process forked."""
        return self._closed

    @property
    def stubs(self) -> Stubs:
        """The services on the live channel.

        Raises:
            ForkedProcessError: This process was forked from the one that made the transport.
        """
        stubs = self._stubs
        if stubs is None:
            _refuse_forked_child()
            raise RundError("the connection was closed", code="UNAVAILABLE")
        return stubs

    @property
    def write_metrics(self) -> Any:
        """WriteMetrics on the live channel, for write streams: it takes messages that are encoded, too."""
        return self.stubs.write_metrics

    @property
    def maps_files(self) -> bool:
        """Whether the daemon is on this host, and its sealed files are to be mapped and not sent."""
        return self._address.startswith("unix:") and os.environ.get("RUND_MAPPING") != "0"

    def call_metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call must carry to be let in."""
        if self.token and not self._address.startswith("unix:"):
            return (("authorization", f"Bearer {self.token}"),)
        return ()

    def map_error(self, error: grpc.RpcError) -> RundError:
        """The client's own error for one of gRPC."""
        return error_from_rpc(error, self._address)

    def call(
        self,
        method: UnaryCall[Request, Answer],
        request: Request,
        *,
        timeout_s: float = CALL_TIMEOUT_S,
        unavailable_timeout_s: float = UNAVAILABLE_TIMEOUT_S,
    ) -> Answer:
        """Makes a unary call; while the daemon is away it is repeated with the same request id.

        Args:
            method: Picks the method from the stubs.
            request: Its ``request_id``, if it has the field and it is empty, is filled in.
            timeout_s: Deadline of all tries together.
            unavailable_timeout_s: How long a daemon that does not answer is asked again.

        Raises:
            RundError: The call failed; the subclass says how.
        """
        _stamp(request)
        return apart(lambda: self._call(method, request, timeout_s, min(unavailable_timeout_s, timeout_s)))

    def begin(self, method: UnaryCall[Request, Answer], request: Request) -> Callable[[], Answer]:
        """Begins a call that is made as by ``call``, and gives what waits for its answer, once.

        The request must not be changed afterwards.
        """
        _stamp(request)
        return begin_apart(lambda: self._call(method, request, CALL_TIMEOUT_S, UNAVAILABLE_TIMEOUT_S))

    def _call(
        self, method: UnaryCall[Request, Answer], request: Request, timeout_s: float, unavailable_timeout_s: float
    ) -> Answer:
        deadline = time.monotonic() + timeout_s
        give_up = time.monotonic() + unavailable_timeout_s
        for pause in pauses():
            try:
                left = max(0.001, deadline - time.monotonic())
                return method(self.stubs)(request, timeout=left, metadata=self.call_metadata())
            except grpc.RpcError as error:
                if code_of(error) != "UNAVAILABLE" or time.monotonic() + pause > give_up:
                    raise self.map_error(error) from None
            time.sleep(pause)
            self.reconnect()
        raise AssertionError("pauses() is endless")

    def stream(self, method: StreamCall[Request, Answer], request: Request) -> Iterator[Answer]:
        """Makes a call with many answers. It is made once; who reads knows where to go on after an error.

        Raises:
            RundError: The call failed; the subclass says how.
        """
        call = method(self.stubs)(request, metadata=self.call_metadata())
        try:
            yield from call
        except grpc.RpcError as error:
            raise self.map_error(error) from None
        finally:
            call.cancel()

    def upload(
        self,
        method: Callable[[Stubs], grpc.StreamUnaryMultiCallable[Request, Answer]],
        requests: Callable[[], Iterator[Request]],
        *,
        unavailable_timeout_s: float = UNAVAILABLE_TIMEOUT_S,
    ) -> Answer:
        """Makes a call with many requests, from the start again while the daemon is away.

        Args:
            method: Picks the method from the stubs.
            requests: Makes the same requests each time it is called; it must not raise.
            unavailable_timeout_s: How long a daemon that does not answer is asked again.

        Raises:
            RundError: The call failed; the subclass says how.
        """
        return apart(lambda: self._upload(method, requests, unavailable_timeout_s))

    def _upload(
        self,
        method: Callable[[Stubs], grpc.StreamUnaryMultiCallable[Request, Answer]],
        requests: Callable[[], Iterator[Request]],
        unavailable_timeout_s: float,
    ) -> Answer:
        give_up = time.monotonic() + unavailable_timeout_s
        for pause in pauses():
            try:
                return method(self.stubs)(requests(), metadata=self.call_metadata())
            except grpc.RpcError as error:
                if code_of(error) != "UNAVAILABLE" or time.monotonic() + pause > give_up:
                    raise self.map_error(error) from None
            time.sleep(pause)
            self.reconnect()
        raise AssertionError("pauses() is endless")

    def reconnect(self) -> None:
        """Goes where the daemon is now, if it has moved. At its old address gRPC reconnects by itself."""
        address = self._relocate() if self._relocate is not None else None
        if address is None or address == self._address:
            return
        with self._lock:
            if self._closed or address == self._address:
                return
            old = self._channel
            self._open(address)
        if old is not None:
            old.close()

    def close(self) -> None:
        """Ends all calls. A closed transport stays closed."""
        with self._lock:
            channel, self._channel, self._stubs, self._closed = self._channel, None, None, True
        if channel is not None:
            channel.close()

    def _open(self, address: str) -> None:
        channel = open_channel(address)
        self._address = address
        self._channel = channel
        self._stubs = Stubs(
            runs=RunServiceStub(channel),
            metrics=MetricsServiceStub(channel),
            write_metrics=channel.stream_stream(
                "/rund.v1.MetricsService/WriteMetrics",
                request_serializer=encode,
                response_deserializer=WriteMetricsResponse.FromString,
            ),
            tables=TableServiceStub(channel),
            operations=OperationServiceStub(channel),
            reductions=ReductionServiceStub(channel),
            server=ServerServiceStub(channel),
        )

    def _release_after_fork(self) -> object:
        abandoned = (self._channel, self._stubs)
        self._lock = threading.Lock()  # a thread that is not in this process may have held it
        self._channel, self._stubs, self._closed = None, None, True
        return abandoned


def open_channel(address: str) -> grpc.Channel:
    """A channel to an address, not yet connected.

    Raises:
        InvalidUrlError: The address can't be parsed.
    """
    scheme, _, rest = address.partition(":")
    if scheme == "unix" and rest:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    rest = rest.removeprefix("//")
    host, _, port = rest.rpartition(":")
    if scheme == "tcp" and host and port.isdecimal():
        return grpc.insecure_channel(rest, options=CHANNEL_OPTIONS)
    if scheme == "tls" and host and port.isdecimal():
        return grpc.secure_channel(rest, _tls_credentials(), options=CHANNEL_OPTIONS)
    raise InvalidUrlError(f"{address!r} is no address of a daemon; use unix:PATH, tcp:HOST:PORT or tls:HOST:PORT")


def _tls_credentials() -> grpc.ChannelCredentials:
    path = os.environ.get("RUND_TLS_CA")
    if not path:
        return grpc.ssl_channel_credentials()
    return grpc.ssl_channel_credentials(root_certificates=Path(path).read_bytes())


def _refuse_forked_child() -> None:
    if in_forked_child():
        raise ForkedProcessError(
            "this process was forked from one that talks to a daemon, and gRPC does not survive a fork: only "
            "log() works here; start the process with the method 'spawn', or call rund in the parent"
        )


def _stamp(request: Message) -> None:
    if "request_id" in request.DESCRIPTOR.fields_by_name and not getattr(request, "request_id"):  # noqa: B009
        setattr(request, "request_id", new_request_id())  # noqa: B010
