"""ServerService: what the daemon is and what it takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rund_pb.v1 import server_service_pb2 as pb
from rund_pb.v1 import server_service_pb2_grpc

from rund_daemon.catalog import Catalog, shelves
from rund_daemon.limits import Limits
from rund_daemon.model import Micros

from .convert_times import time_to_pb
from .interceptor import Context

CAPABILITIES = ("copy", "filters", "follow", "watch")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which daemon this is."""

    version: str
    instance_id: str
    root_url: str
    pid: int
    host: str
    start_time: Micros


class ServerServicer(server_service_pb2_grpc.ServerServiceServicer):
    """Tells clients whom they talk to."""

    def __init__(self, identity: Identity, catalog: Catalog, limits: Limits) -> None:
        self._identity = identity
        self._catalog = catalog
        self._limits = limits

    async def GetServerInfo(self, request: pb.GetServerInfoRequest, context: Context) -> pb.GetServerInfoResponse:
        """Gives facts."""
        with self._catalog.snapshot() as snapshot:
            runs, revision = snapshot.count(shelves.RUN_NAMES), snapshot.revision
        limits = asdict(self._limits)
        known = {field.name for field in pb.ServerLimits.DESCRIPTOR.fields}
        return pb.GetServerInfoResponse(
            server_info=pb.ServerInfo(
                version=self._identity.version,
                instance_id=self._identity.instance_id,
                root_url=self._identity.root_url,
                pid=self._identity.pid,
                host=self._identity.host,
                start_time=time_to_pb(self._identity.start_time),
                capabilities=CAPABILITIES,
                limits=pb.ServerLimits(**{key: value for key, value in limits.items() if key in known}),
                run_count=runs,
                revision=revision,
            )
        )
