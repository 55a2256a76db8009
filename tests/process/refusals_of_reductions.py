"""What ReductionService refuses, by RPC, and what MetricsService does of tables that a reduction has replaced."""

from __future__ import annotations

from rund_pb.v1 import reducer_pb2

from tests.process.refusals import BAD, FOREIGN, INPUT, NOBODY, RUN, SEALED, USED, Case

Spec = reducer_pb2.ReductionSpec
MAPPED = "projects/demo/runs/mapped"
REDUCER = "projects/demo/reducers/mapped_e_umap"
VECTORS = f"{RUN}/metrics/vectors"

_OF_BOTH: list[Case] = [
    ("INVALID_NAME", "run", {"run": BAD}),
    ("INVALID_FIELD", "spec.method", {"run": RUN, "spec": Spec(method="tsne")}),
    ("INVALID_FIELD", "spec.n_neighbors", {"run": RUN, "spec": Spec(n_neighbors=1)}),
    ("INVALID_FIELD", "spec.fit_table_url", {"run": RUN, "spec": Spec(fit_table_url="metrics/table")}),
    ("INVALID_FIELD", "spec.source_embedding_column", {"run": RUN, "spec": Spec(source_embedding_column="e" * 256)}),
    ("INVALID_COLUMN", "spec.target_embedding_column", {"run": RUN, "spec": Spec(target_embedding_column="x")}),
    ("REQUEST_ID_REUSED", "request_id", {"run": RUN, "request_id": USED}),
    ("RUN_NOT_FOUND", "", {"run": NOBODY}),
    ("METRICS_TABLE_NOT_FOUND", "", {"run": MAPPED}),
    ("WRONG_STATE", "", {"run": RUN, "spec": Spec(source_embedding_column="g")}),
]

CASES: dict[str, list[Case]] = {
    "ReduceEmbeddingsByForeignTable": [
        *((reason, field, {"foreign_table_url": INPUT, **how}) for reason, field, how in _OF_BOTH),  # type: ignore[dict-item]
        ("INVALID_URL", "foreign_table_url", {"run": RUN, "foreign_table_url": "relative"}),
        ("TABLE_NOT_FOUND", "", {"run": RUN, "foreign_table_url": f"{INPUT}x"}),
    ],
    "ReduceEmbeddingsPerDataset": _OF_BOTH,
    "ListReducers": [
        ("INVALID_NAME", "parent", {"parent": RUN}),
        ("INVALID_FIELD", "page_size", {"parent": "projects/-", "page_size": -1}),
        ("INVALID_PAGE_TOKEN", "page_token", {"parent": "projects/-", "page_token": "x"}),
    ],
    "GetReducer": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("REDUCER_NOT_FOUND", "", {"name": f"{REDUCER}x"}),
    ],
    "DeleteReducer": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("REQUEST_ID_REUSED", "request_id", {"name": REDUCER, "request_id": USED}),
        ("REDUCER_NOT_FOUND", "", {"name": f"{REDUCER}x"}),
    ],
    "TransformMetrics": [
        ("INVALID_NAME", "reducer", {"reducer": RUN}),
        ("INVALID_NAME", "metrics_tables[0]", {"reducer": REDUCER, "metrics_tables": [RUN]}),
        ("INVALID_FIELD", "metrics_tables", {"reducer": REDUCER}),
        ("INVALID_COLUMN", "metrics_tables[1]", {"reducer": REDUCER, "metrics_tables": [VECTORS, SEALED]}),
        ("REQUEST_ID_REUSED", "request_id", {"reducer": REDUCER, "metrics_tables": [VECTORS], "request_id": USED}),
        ("REDUCER_NOT_FOUND", "", {"reducer": f"{REDUCER}x", "metrics_tables": [VECTORS]}),
        ("RUN_NOT_FOUND", "", {"reducer": REDUCER, "metrics_tables": [f"{NOBODY}/metrics/t"]}),
        ("METRICS_TABLE_NOT_FOUND", "", {"reducer": REDUCER, "metrics_tables": [f"{RUN}/metrics/t"]}),
        ("WRONG_STATE", "", {"reducer": REDUCER, "metrics_tables": [f"{RUN}/metrics/growing"]}),
    ],
    "UndeleteMetricsTable": [
        ("INVALID_NAME", "name", {"name": RUN}),
        ("INVALID_FIELD", "uid", {"name": FOREIGN, "uid": "me"}),
        ("REQUEST_ID_REUSED", "request_id", {"name": f"{MAPPED}/metrics/vectors", "request_id": USED}),
        ("RUN_NOT_FOUND", "", {"name": f"{NOBODY}/metrics/t"}),
        ("METRICS_TABLE_NOT_FOUND", "", {"name": f"{MAPPED}/metrics/t"}),
        ("METRICS_TABLE_EXISTS", "name", {"name": f"{MAPPED}/metrics/vectors"}),
    ],
}
