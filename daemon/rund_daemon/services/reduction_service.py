"""ReductionService: maps of embeddings, and the reducers that make them."""

from __future__ import annotations

from rund_pb.v1 import reduction_service_pb2 as pb
from rund_pb.v1 import reduction_service_pb2_grpc

from rund_daemon.catalog import Catalog
from rund_daemon.limits import Limits
from rund_daemon.names import parse_metrics_table, parse_project, parse_reducer, parse_run
from rund_daemon.operations import Operations
from rund_daemon.reading.pages import check_page_size, make_token, read_token
from rund_daemon.reducing.kept import find_reducer, reducers_of
from rund_daemon.reducing.reductions import Reductions
from rund_daemon.tables import InputTables

from .convert_operations import operation_to_pb
from .convert_reductions import reducer_to_pb, request_from_pb
from .interceptor import Context
from .requests import request_key


class ReductionServicer(reduction_service_pb2_grpc.ReductionServiceServicer):
    """Each method checks, calls the domain once and translates back."""

    def __init__(
        self, reductions: Reductions, operations: Operations, tables: InputTables, catalog: Catalog, limits: Limits
    ) -> None:
        self._reductions = reductions
        self._operations = operations
        self._tables = tables
        self._catalog = catalog
        self._limits = limits

    async def ReduceEmbeddingsByForeignTable(
        self, request: pb.ReduceEmbeddingsByForeignTableRequest, context: Context
    ) -> pb.ReduceEmbeddingsByForeignTableResponse:
        """Begins a reduction by one input table."""
        run = parse_run(request.run, "run")
        table = await self._tables.resolve(request.foreign_table_url, "foreign_table_url")
        wanted = request_from_pb(request.spec, self._tables.url_of(table), self._limits)
        operation = await self._operations.start(
            "ReduceEmbeddingsByForeignTable",
            request.run,
            request_key(request, "ReduceEmbeddingsByForeignTable"),
            lambda uid, progress: self._reductions.reduce(run, wanted, uid, progress),
            lambda snapshot: self._reductions.check(snapshot, run, wanted),
        )
        return pb.ReduceEmbeddingsByForeignTableResponse(operation=operation_to_pb(operation, None))

    async def ReduceEmbeddingsPerDataset(
        self, request: pb.ReduceEmbeddingsPerDatasetRequest, context: Context
    ) -> pb.ReduceEmbeddingsPerDatasetResponse:
        """Begins a reduction by every input table."""
        run = parse_run(request.run, "run")
        wanted = request_from_pb(request.spec, None, self._limits)
        operation = await self._operations.start(
            "ReduceEmbeddingsPerDataset",
            request.run,
            request_key(request, "ReduceEmbeddingsPerDataset"),
            lambda uid, progress: self._reductions.reduce(run, wanted, uid, progress),
            lambda snapshot: self._reductions.check(snapshot, run, wanted),
        )
        return pb.ReduceEmbeddingsPerDatasetResponse(operation=operation_to_pb(operation, None))

    async def ListReducers(self, request: pb.ListReducersRequest, context: Context) -> pb.ListReducersResponse:
        """Gives a page of reducers."""
        project = parse_project(request.parent, "parent", allow_any=True)
        size = check_page_size(request.page_size, self._limits.max_page_size)
        begin = int(read_token(request.page_token, request.parent) or 0)
        with self._catalog.snapshot() as snapshot:
            kept = reducers_of(snapshot, project)
        following = begin + size if begin + size < len(kept) else 0
        return pb.ListReducersResponse(
            reducers=map(reducer_to_pb, kept[begin : begin + size]),
            next_page_token=make_token(request.parent, str(following)) if following else "",
        )

    async def GetReducer(self, request: pb.GetReducerRequest, context: Context) -> pb.GetReducerResponse:
        """Gives a reducer."""
        name = parse_reducer(request.name, "name")
        with self._catalog.snapshot() as snapshot:
            return pb.GetReducerResponse(reducer=reducer_to_pb(find_reducer(snapshot, name)))

    async def DeleteReducer(self, request: pb.DeleteReducerRequest, context: Context) -> pb.DeleteReducerResponse:
        """Removes a reducer."""
        name = parse_reducer(request.name, "name")
        await self._reductions.remove(name, request_key(request, "DeleteReducer"))
        return pb.DeleteReducerResponse()

    async def TransformMetrics(
        self, request: pb.TransformMetricsRequest, context: Context
    ) -> pb.TransformMetricsResponse:
        """Begins to map tables with a kept reducer."""
        name = parse_reducer(request.reducer, "reducer")
        tables = [
            parse_metrics_table(table, f"metrics_tables[{number}]")
            for number, table in enumerate(request.metrics_tables)
        ]
        with self._catalog.snapshot() as snapshot:
            reducer = find_reducer(snapshot, name)
        operation = await self._operations.start(
            "TransformMetrics",
            request.reducer,
            request_key(request, "TransformMetrics"),
            lambda uid, progress: self._reductions.transform(
                reducer, tables, uid, progress, delete_sources=request.delete_source_tables
            ),
            lambda snapshot: self._reductions.check_transformation(snapshot, reducer, tables),
        )
        return pb.TransformMetricsResponse(operation=operation_to_pb(operation, None))
