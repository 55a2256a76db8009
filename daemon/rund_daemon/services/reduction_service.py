"""ReductionService: not in this release. Every method says so."""

from __future__ import annotations

from rund_pb.v1 import reduction_service_pb2 as pb
from rund_pb.v1 import reduction_service_pb2_grpc

from rund_daemon.errors import NotImplementedYetError

from .interceptor import Context


def _refusal() -> NotImplementedYetError:
    return NotImplementedYetError("reductions are not in this release; embeddings are kept for a later one")


class ReductionServicer(reduction_service_pb2_grpc.ReductionServiceServicer):
    """Answers UNIMPLEMENTED with a reason, and not with gRPC's bare one."""

    async def ReduceEmbeddingsByForeignTable(
        self, request: pb.ReduceEmbeddingsByForeignTableRequest, context: Context
    ) -> pb.ReduceEmbeddingsByForeignTableResponse:
        """Not in this release."""
        raise _refusal()

    async def ReduceEmbeddingsPerDataset(
        self, request: pb.ReduceEmbeddingsPerDatasetRequest, context: Context
    ) -> pb.ReduceEmbeddingsPerDatasetResponse:
        """Not in this release."""
        raise _refusal()

    async def ListReducers(self, request: pb.ListReducersRequest, context: Context) -> pb.ListReducersResponse:
        """Not in this release."""
        raise _refusal()

    async def GetReducer(self, request: pb.GetReducerRequest, context: Context) -> pb.GetReducerResponse:
        """Not in this release."""
        raise _refusal()

    async def TransformMetrics(
        self, request: pb.TransformMetricsRequest, context: Context
    ) -> pb.TransformMetricsResponse:
        """Not in this release."""
        raise _refusal()
