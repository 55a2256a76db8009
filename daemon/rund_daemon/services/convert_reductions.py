"""Reductions of the wire to and from words of the domain. Pure."""

from __future__ import annotations

from rund_pb.v1 import reducer_pb2

from rund_daemon.errors import InvalidError
from rund_daemon.identity import uid_text
from rund_daemon.limits import Limits
from rund_daemon.model import KeptReducer
from rund_daemon.reducers.parameters import Parameters, check_parameters
from rund_daemon.reducing.request import ReductionRequest
from rund_daemon.values import fill_map

from .convert import values_from_pb
from .convert_times import time_to_pb

_DEFAULTS = Parameters()


def request_from_pb(spec: reducer_pb2.ReductionSpec, foreign_table_url: str | None, limits: Limits) -> ReductionRequest:
    """What a reduction is asked for. Raises InvalidError if it can't be carried out."""
    for name in ("source_embedding_column", "target_embedding_column"):
        if len(getattr(spec, name).encode()) > 255:
            raise InvalidError(f"spec.{name}", "it is longer than 255 bytes, and no column has such a name")
    parameters = Parameters(
        method=spec.method or _DEFAULTS.method,
        n_components=spec.n_components if spec.HasField("n_components") else _DEFAULTS.n_components,
        n_neighbors=spec.n_neighbors if spec.HasField("n_neighbors") else _DEFAULTS.n_neighbors,
        metric=spec.metric or _DEFAULTS.metric,
        min_dist=spec.min_dist if spec.HasField("min_dist") else _DEFAULTS.min_dist,
        standard_scaler_normalize=spec.standard_scaler_normalize,
        seed=spec.random_state,
        options=values_from_pb(spec.method_options, "spec.method_options", limits),
    )
    return ReductionRequest(
        check_parameters(parameters),
        seeded=spec.HasField("random_state"),
        source_column=spec.source_embedding_column,
        target_column=spec.target_embedding_column,
        retain_source=spec.retain_source_embedding_column,
        delete_sources=spec.delete_source_tables if spec.HasField("delete_source_tables") else True,
        fit_table_url=spec.fit_table_url,
        foreign_table_url=foreign_table_url,
    )


def reducer_to_pb(reducer: KeptReducer) -> reducer_pb2.Reducer:
    """A reducer."""
    parameters = Parameters.from_json(reducer.parameters)
    spec = reducer_pb2.ReductionSpec(
        method=parameters.method,
        n_components=parameters.n_components,
        n_neighbors=parameters.n_neighbors,
        metric=parameters.metric,
        min_dist=parameters.min_dist,
        source_embedding_column=reducer.source_column,
        target_embedding_column=reducer.target_column,
        standard_scaler_normalize=parameters.standard_scaler_normalize,
        random_state=parameters.seed,
        fit_table_url=reducer.fit_table_url,
    )
    fill_map(spec.method_options, dict(parameters.options))
    return reducer_pb2.Reducer(
        name=reducer.resource_name,
        uid=uid_text(reducer.uid),
        spec=spec,
        fit_table_url=reducer.fit_table_url,
        fit_row_count=reducer.fit_row_count,
        input_width=reducer.input_width,
        library_versions=dict(reducer.library_versions),
        quality=dict(reducer.quality),
        create_time=time_to_pb(reducer.create_time),
        warnings=reducer.warnings,
    )
