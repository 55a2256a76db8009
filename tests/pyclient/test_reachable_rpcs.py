"""Each RPC of the schema is reached by something that the client offers, or is excused here with its reason.

The server is a real one over a real socket; it notes which method was called and answers as little as it can.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest
import rund
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from rund import Client, Run, Table
from rund._start import connect
from rund._transport import run_calls
from rund_pb.v1 import (
    metrics_service_pb2,
    operation_service_pb2,
    reduction_service_pb2,
    run_service_pb2,
    server_service_pb2,
    table_service_pb2,
)

FILES = (
    metrics_service_pb2,
    operation_service_pb2,
    reduction_service_pb2,
    run_service_pb2,
    server_service_pb2,
    table_service_pb2,
)
METHODS = {
    f"{service.name}.{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

NOT_REACHED = {
    "MetricsService.LogScalars": "is for callers without Arrow; Run.log goes through the journal and WriteMetrics",
}

Use = Callable[[Run, Client], Any]

REACHED: dict[str, Use] = {
    "RunService.CreateRun": lambda run, client: rund.init("p", address=client.address),
    "RunService.GetRun": lambda run, client: run.status,
    "RunService.ListRuns": lambda run, client: list(client.list_runs()),
    "RunService.UpdateRun": lambda run, client: run.set_description("x"),
    "RunService.DeleteRun": lambda run, client: run.delete(),
    "RunService.UndeleteRun": lambda run, client: run.undelete(),
    "RunService.CollectTrash": lambda run, client: client.collect_trash(dry_run=True),
    "RunService.GetUsage": lambda run, client: client.list_usage(),
    "RunService.CopyRun": lambda run, client: run.copy(),
    "RunService.ImportRun": lambda run, client: client.import_bundle("/bundle"),
    "RunService.AddInputTable": lambda run, client: run.add_input_table("/t"),
    "RunService.AddInputValue": lambda run, client: run.add_input_value({}),
    "RunService.AddOutputValue": lambda run, client: run.add_output_value({}),
    "RunService.SetParameters": lambda run, client: run.set_parameters({}),
    "RunService.UpdateMetrics": lambda run, client: run.update_metrics(),
    "RunService.AddMetricsTable": lambda run, client: run.add_metrics_table("/t"),
    "RunService.FinishRun": lambda run, client: run.finish(),
    "RunService.ReportWriter": lambda run, client: run_calls.report_dropped_rows(
        run.daemon.transport, run.resource_name, "writer", 1
    ),
    "RunService.WatchRuns": lambda run, client: list(run.watch()),
    "MetricsService.CreateMetricsTable": lambda run, client: run.add_metrics({"a": [1]}),
    "MetricsService.WriteMetrics": lambda run, client: run.add_metrics({"a": [1]}),
    "MetricsService.ListMetricsTables": lambda run, client: run.metrics,
    "MetricsService.GetMetricsTable": lambda run, client: Table.from_url(
        f"{run.url}/metrics/m", address=client.address
    ),
    "MetricsService.ReadMetrics": lambda run, client: Table.from_url(
        f"{run.url}/metrics/m", address=client.address
    ).to_arrow(),
    "TableService.WriteTable": lambda run, client: Table.from_dict({"a": [1]}, address=client.address),
    "TableService.RegisterTable": lambda run, client: Table.register("/t", address=client.address),
    "TableService.GetTable": lambda run, client: Table.from_url("/t", address=client.address),
    "TableService.ListTables": lambda run, client: list(client.list_tables()),
    "TableService.ReadTable": lambda run, client: Table.from_url("/t", address=client.address).to_arrow(),
    "OperationService.GetOperation": lambda run, client: client.get_operation("operations/x"),
    "OperationService.ListOperations": lambda run, client: list(client.list_operations()),
    "OperationService.CancelOperation": lambda run, client: client.cancel_operation("operations/x"),
    "OperationService.WaitOperation": lambda run, client: client.wait_operation("operations/x", timeout=0),
    "ReductionService.ReduceEmbeddingsByForeignTable": lambda run, client: run.reduce_embeddings_by_foreign_table_url(
        "/t"
    ),
    "ReductionService.ReduceEmbeddingsPerDataset": lambda run, client: run.reduce_embeddings_per_dataset(),
    "ReductionService.ListReducers": lambda run, client: list(client.list_reducers()),
    "ReductionService.GetReducer": lambda run, client: rund.Reducer.from_names("r", "p", address=client.address),
    "ReductionService.DeleteReducer": lambda run, client: rund.Reducer(
        client.daemon, rund.ReducerInfo("projects/p/reducers/r")
    ).delete(),
    "ReductionService.TransformMetrics": lambda run, client: rund.Reducer(
        client.daemon, rund.ReducerInfo("projects/p/reducers/r")
    ).transform([rund.MetricTableInfo("metrics/m", resource_name="projects/p/runs/r/metrics/m")]),
    "MetricsService.UndeleteMetricsTable": lambda run, client: run.undelete_metrics_table("m"),
    "ServerService.GetServerInfo": lambda run, client: client.server_info(),
}


class Notebook(grpc.GenericRpcHandler):
    """Answers every method of the schema with an empty message, and notes its name."""

    def __init__(self) -> None:
        self.called: set[str] = set()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = handler_call_details.method.removeprefix("/rund.v1.").replace("/", ".")
        method = METHODS[name]
        self.called.add(name)
        answer: Any = GetMessageClass(method.output_type)()
        if "operation" in method.output_type.fields_by_name:
            answer.operation.done = True  # who waits for it need not wait
        parse, serialize = GetMessageClass(method.input_type).FromString, type(answer).SerializeToString
        if method.client_streaming and method.server_streaming:

            def refuse(requests: Iterator[Message], context: grpc.ServicerContext) -> Iterator[Message]:
                next(requests)
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "only noted")

            return grpc.stream_stream_rpc_method_handler(refuse, parse, serialize)
        if method.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                lambda requests, context: (list(requests), answer)[1], parse, serialize
            )
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(lambda request, context: iter(()), parse, serialize)
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer, parse, serialize)


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Notebook, str]]:
    server, notes = grpc.server(futures.ThreadPoolExecutor(4)), Notebook()
    address = f"unix:{tmp_path_factory.mktemp('s') / 's'}"
    server.add_generic_rpc_handlers((notes,))
    server.add_insecure_port(address)
    server.start()
    yield notes, address
    server.stop(0).wait()


def test_every_rpc_is_reached_or_excused() -> None:
    assert set(REACHED) | set(NOT_REACHED) == set(METHODS)
    assert not set(REACHED) & set(NOT_REACHED)


@pytest.mark.parametrize("method", sorted(REACHED))
def test_reached(notebook: tuple[Notebook, str], method: str, tmp_path: Path) -> None:
    notes, address = notebook
    daemon = connect(address=address)
    run = Run(daemon, rund.RunInfo("projects/p/runs/r", "uid", f"{tmp_path}/p/runs/r", "p", "r"), "writer")
    notes.called.clear()
    with contextlib.suppress(rund.RundError, AssertionError):
        begun = REACHED[method](run, Client(daemon))
        if method == "RunService.CreateRun":
            begun.finish()
    assert method in notes.called
