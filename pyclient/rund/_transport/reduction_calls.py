"""ReductionService, one function an RPC: plain data in, plain data out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rund_pb.v1 import reducer_pb2
from rund_pb.v1 import reduction_service_pb2 as pb

from rund._job_types import OperationInfo, ReducerInfo

from . import convert
from .channel import Transport
from .values import map_to_pb


@dataclass(frozen=True, slots=True)
class Reduction:
    """How to reduce; what is None is the daemon's choice. ``options`` go to the method."""

    method: str = ""
    n_components: int | None = None
    n_neighbors: int | None = None
    metric: str = ""
    min_dist: float | None = None
    source_embedding_column: str | None = None
    target_embedding_column: str | None = None
    retain_source_embedding_column: bool = False
    standard_scaler_normalize: bool = False
    random_state: int | None = None
    fit_table_url: str | None = None
    delete_source_tables: bool = True
    options: Mapping[str, object] = field(default_factory=dict)


def reduce_by_foreign_table(
    transport: Transport, run: str, foreign_table_url: str, reduction: Reduction, request_id: str = ""
) -> OperationInfo:
    """Begins a reduction by one input table."""
    request = pb.ReduceEmbeddingsByForeignTableRequest(
        run=run, foreign_table_url=foreign_table_url, spec=_spec(reduction), request_id=request_id
    )
    answer = transport.call(lambda stubs: stubs.reductions.ReduceEmbeddingsByForeignTable, request)
    return convert.operation_from_pb(answer.operation)


def reduce_per_dataset(transport: Transport, run: str, reduction: Reduction, request_id: str = "") -> OperationInfo:
    """Begins a reduction by every input table."""
    request = pb.ReduceEmbeddingsPerDatasetRequest(run=run, spec=_spec(reduction), request_id=request_id)
    answer = transport.call(lambda stubs: stubs.reductions.ReduceEmbeddingsPerDataset, request)
    return convert.operation_from_pb(answer.operation)


def transform_metrics(
    transport: Transport, reducer: str, tables: Sequence[str], *, delete_source_tables: bool, request_id: str = ""
) -> OperationInfo:
    """Begins to map tables with a reducer, both by resource name."""
    request = pb.TransformMetricsRequest(
        reducer=reducer, metrics_tables=tables, delete_source_tables=delete_source_tables, request_id=request_id
    )
    return convert.operation_from_pb(transport.call(lambda stubs: stubs.reductions.TransformMetrics, request).operation)


def list_reducers(transport: Transport, project_name: str) -> Iterator[ReducerInfo]:
    """Gives reducers, newest first; an empty project means all."""
    request = pb.ListReducersRequest(parent=f"projects/{project_name or '-'}")
    while True:
        answer = transport.call(lambda stubs: stubs.reductions.ListReducers, request)
        yield from map(convert.reducer_from_pb, answer.reducers)
        if not answer.next_page_token:
            return
        request.page_token = answer.next_page_token


def get_reducer(transport: Transport, name: str) -> ReducerInfo:
    """Gives a reducer by its resource name."""
    request = pb.GetReducerRequest(name=name)
    return convert.reducer_from_pb(transport.call(lambda stubs: stubs.reductions.GetReducer, request).reducer)


def delete_reducer(transport: Transport, name: str, request_id: str = "") -> None:
    """Removes a reducer by its resource name."""
    request = pb.DeleteReducerRequest(name=name, request_id=request_id)
    transport.call(lambda stubs: stubs.reductions.DeleteReducer, request)


def _spec(reduction: Reduction) -> reducer_pb2.ReductionSpec:
    return reducer_pb2.ReductionSpec(
        method=reduction.method,
        n_components=reduction.n_components,
        n_neighbors=reduction.n_neighbors,
        metric=reduction.metric,
        min_dist=reduction.min_dist,
        source_embedding_column=reduction.source_embedding_column or "",
        target_embedding_column=reduction.target_embedding_column or "",
        retain_source_embedding_column=reduction.retain_source_embedding_column,
        standard_scaler_normalize=reduction.standard_scaler_normalize,
        random_state=reduction.random_state,
        fit_table_url=reduction.fit_table_url or "",
        delete_source_tables=reduction.delete_source_tables,
        method_options=map_to_pb(reduction.options, "method_options"),
    )
