"""The composition root: everything is built here and handed in.

Start: lock the root, open the catalog, recover the segments, build the services, listen, say where.
Stop: say NOT_SERVING, take nothing more, commit, seal, close, withdraw the address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from rund_pb.v1 import (
    metrics_service_pb2,
    metrics_service_pb2_grpc,
    operation_service_pb2,
    operation_service_pb2_grpc,
    reduction_service_pb2,
    reduction_service_pb2_grpc,
    run_service_pb2,
    run_service_pb2_grpc,
    server_service_pb2,
    server_service_pb2_grpc,
    table_service_pb2,
    table_service_pb2_grpc,
)

from .access import FileAccess
from .authorization import Authorizer, TokenFile
from .background import keep_running
from .bundles.importing import BundleImports
from .bundles.sweeping import BundleSweep
from .bundles.writing import BundleCopies
from .catalog.requests import forget_requests
from .config import Config, ConfigError
from .errors import DrainingError
from .failpoints import failpoint
from .identity import new_uid, now
from .ingest.adoption import JournalWatch
from .ingest.staging import Staging
from .limits import Limits
from .listeners import Listener, listeners_of, prepare_socket
from .processes import start_ticks
from .reading.run_lists import RunLists
from .reading.scan import MetricsReader
from .reading.table_scan import TableReader
from .reading.watch import RunWatch
from .rooms import Rooms, open_rooms
from .root import publish_address, withdraw_address
from .runs.capture import RunCapture
from .runs.copying import RunCopies
from .runs.tables_by_url import TablesByUrl
from .segments.compression import Compression
from .services.interceptor import CallInterceptor
from .services.metrics_service import MetricsServicer
from .services.open_calls import OpenCalls
from .services.operation_service import OperationServicer
from .services.reduction_service import ReductionServicer
from .services.run_service import RunServicer
from .services.server_service import Identity, ServerServicer
from .services.table_service import TableServicer
from .services.write_sessions import WriteSessions
from .urls import is_object_url

logger = logging.getLogger(__name__)

READY_SERVICE = "rund.v1"
_HOUSEKEEPING_SECONDS = 30.0
# How long callers have to hang up once all that they asked for is answered.
_GOODBYE_SECONDS = 1.0
_SERVICES = (
    run_service_pb2.DESCRIPTOR.services_by_name["RunService"],
    metrics_service_pb2.DESCRIPTOR.services_by_name["MetricsService"],
    table_service_pb2.DESCRIPTOR.services_by_name["TableService"],
    operation_service_pb2.DESCRIPTOR.services_by_name["OperationService"],
    reduction_service_pb2.DESCRIPTOR.services_by_name["ReductionService"],
    server_service_pb2.DESCRIPTOR.services_by_name["ServerService"],
)


class CannotListenError(Exception):
    """An address can't be bound."""


@dataclass(slots=True)
class Daemon:
    """A built daemon: its rooms and its doors."""

    rooms: Rooms
    sessions: WriteSessions
    calls: OpenCalls
    health: HealthServicer
    server: aio.Server
    listeners: tuple[Listener, ...]
    instance_id: str
    tasks: list[asyncio.Task[None]]

    async def start(self) -> None:
        """Listens and says where."""
        await self.server.start()
        await self.health.set(READY_SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        journals = JournalWatch(self.rooms.config.root, self.addresses[0])
        work = (
            self.rooms.sealer.run,
            self.rooms.snapshots.run,
            self.rooms.liveness.run,
            journals.run,
            self.rooms.collector.run,
            self.rooms.retirement.run,
            BundleSweep(self.rooms.operations, self.rooms.places).run,
            self._keep_house,
        )
        self.tasks = [asyncio.create_task(keep_running(run)) for run in work]
        publish_address(self.rooms.config.root, self._address())
        logger.info("ready", extra={"addresses": [listener.target for listener in self.listeners]})

    async def stop(self) -> None:
        """Commits and seals what there is within the grace period, then closes."""
        grace = self.rooms.config.grace_seconds
        deadline = time.monotonic() + grace
        logger.info("draining")
        withdraw_address(self.rooms.config.root)
        await self.health.enter_graceful_shutdown()
        self.calls.close()
        self.sessions.drain()
        self.rooms.feed.close(DrainingError())
        failpoint("drain.told")
        await self.rooms.operations.stop()
        await self.rooms.reductions.stop()
        # Connections are closed only then: one that still carries what its caller sends is reset, and takes the last
        # words of its calls with it.
        await self.calls.ended(grace / 2)
        await self.server.stop(min(_GOODBYE_SECONDS, grace / 4))
        failpoint("drain.ended")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.rooms.sealer.request_all()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self.rooms.sealer.finish()
                while await self.rooms.snapshots.write_pending():
                    pass
        failpoint("drain.sealed")
        await asyncio.get_running_loop().run_in_executor(None, self.rooms.catalog.close)
        failpoint("drain.closed")
        self.rooms.sink.close()
        logger.info("stopped")

    async def _keep_house(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)
            self.rooms.catalog.check_readers()
            while await self.rooms.catalog.submit(lambda change: forget_requests(change, now(), 1_000)):
                pass

    @property
    def addresses(self) -> list[str]:
        """What clients connect to."""
        return [_client_address(listener) for listener in self.listeners]

    def _address(self) -> dict[str, object]:
        return {
            "address": self.addresses[0],
            "addresses": self.addresses,
            "pid": os.getpid(),
            "start_ticks": start_ticks(os.getpid()),
            "instance_id": self.instance_id,
            "version": version(),
            "root": str(self.rooms.config.root),
        }


def version() -> str:
    """The version of rund."""
    return metadata.version("rund")


async def build(config: Config) -> Daemon:
    """Opens the root's catalog, brings its files in line, and builds the services. The root must be locked.

    Raises:
        StateError: the catalog is lost, damaged or of a newer version.
        ConfigError: an address can't be used.
        CannotListenError: an address can't be bound.
    """
    listeners = listeners_of(config, os.environ)
    rooms = await open_rooms(config, _access(config, listeners))
    sessions = WriteSessions(rooms.runs, rooms.ingest, rooms.sealer, Staging(rooms.layout, rooms.floor), rooms.limits)
    identity = Identity(version(), str(uuid.uuid4()), rooms.layout.url, os.getpid(), socket.gethostname(), now())
    authorizer = Authorizer(TokenFile(config.root))
    calls = OpenCalls()
    server = aio.server(interceptors=[CallInterceptor(authorizer, calls)], options=_server_options(rooms.limits))
    _add_services(server, rooms, sessions, identity)
    health = _add_introspection(server)
    bound = _bind(server, listeners, config)
    return Daemon(rooms, sessions, calls, health, server, bound, identity.instance_id, [])


def _add_services(server: aio.Server, rooms: Rooms, sessions: WriteSessions, identity: Identity) -> None:
    catalog, layout, feed, limits = rooms.catalog, rooms.layout, rooms.feed, rooms.limits
    capture = RunCapture(catalog, layout, rooms.floor, new_uid)
    run_servicer = RunServicer(
        runs=rooms.runs,
        lists=RunLists(catalog, limits.max_page_size),
        watch=RunWatch(catalog, feed),
        copies=RunCopies(catalog, layout, capture, feed, now, new_uid, quotas=rooms.quotas, retention=rooms.retention),
        bundles=BundleCopies(capture, layout, rooms.floor, Compression(rooms.config.seal_compression), now),
        imports=BundleImports(
            catalog=catalog,
            layout=layout,
            floor=rooms.floor,
            feed=feed,
            limits=limits,
            clock=now,
            new_uid=new_uid,
            quotas=rooms.quotas,
            retention=rooms.retention,
        ),
        places=rooms.places,
        operations=rooms.operations,
        tables=rooms.tables,
        metrics_by_url=TablesByUrl(catalog, layout, rooms.access),
        sealer=rooms.sealer,
        collector=rooms.collector,
        quotas=rooms.quotas,
        layout=layout,
        limits=limits,
        silence_seconds=rooms.config.writer_silence_seconds,
    )
    metrics_servicer = MetricsServicer(
        runs=rooms.runs,
        tables=rooms.tables,
        ingest=rooms.ingest,
        reader=MetricsReader(catalog, layout, feed),
        sessions=sessions,
        sealer=rooms.sealer,
        limits=limits,
        clock=now,
    )
    table_servicer = TableServicer(rooms.tables, TableReader(rooms.tables), limits)
    operation_servicer = OperationServicer(rooms.operations, rooms.runs, layout, limits)
    reduction_servicer = ReductionServicer(rooms.reductions, rooms.operations, rooms.tables, catalog, limits)
    server_servicer = ServerServicer(identity, catalog, limits)
    run_service_pb2_grpc.add_RunServiceServicer_to_server(run_servicer, server)
    metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(metrics_servicer, server)
    table_service_pb2_grpc.add_TableServiceServicer_to_server(table_servicer, server)
    operation_service_pb2_grpc.add_OperationServiceServicer_to_server(operation_servicer, server)
    reduction_service_pb2_grpc.add_ReductionServiceServicer_to_server(reduction_servicer, server)
    server_service_pb2_grpc.add_ServerServiceServicer_to_server(server_servicer, server)


def _add_introspection(server: aio.Server) -> HealthServicer:
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    names = (*(service.full_name for service in _SERVICES), reflection.SERVICE_NAME, "grpc.health.v1.Health")
    reflection.enable_server_reflection(names, server)
    return health


def _server_options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", limits.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        # Two servers must never share a port: each would get half of the callers.
        ("grpc.so_reuseport", 0),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]


def _bind(server: aio.Server, listeners: Iterable[Listener], config: Config) -> tuple[Listener, ...]:
    bound = []
    for listener in listeners:
        try:
            if listener.socket is not None:
                prepare_socket(listener.socket)
            if listener.secure:
                port = server.add_secure_port(listener.target, _credentials(config))
            else:
                port = server.add_insecure_port(listener.target)
            bound.append(listener.bound_to(port))
            if listener.socket is not None:
                listener.socket.chmod(0o600)
        except (RuntimeError, OSError) as error:
            raise CannotListenError(
                f"can't listen on {listener.target}: {error}; is the address in use? name another with --listen"
            ) from error
    return tuple(bound)


def _credentials(config: Config) -> grpc.ServerCredentials:
    try:
        key, certificate = Path(config.tls_key).read_bytes(), Path(config.tls_certificate).read_bytes()
    except OSError as error:
        raise ConfigError(f"tls_key or tls_certificate can't be read: {error}") from error
    return grpc.ssl_server_credentials([(key, certificate)])


def _access(config: Config, listeners: Iterable[Listener]) -> FileAccess:
    prefixes = config.url_prefixes
    if prefixes is None:
        # Whoever reaches the unix socket is the user and may read and write what the user may.
        local = all(listener.socket is not None for listener in listeners)
        return FileAccess(
            config.root, [Path("/")] if local else [], config.aliases, [""] if local else [], config.s3_endpoint
        )
    objects = [prefix for prefix in prefixes if is_object_url(prefix)]
    folders = [Path(prefix).expanduser() for prefix in prefixes if not is_object_url(prefix)]
    return FileAccess(config.root, folders, config.aliases, objects, config.s3_endpoint)


def _client_address(listener: Listener) -> str:
    if listener.socket is not None:
        return listener.target
    return f"{'tls' if listener.secure else 'tcp'}:{listener.target}"
