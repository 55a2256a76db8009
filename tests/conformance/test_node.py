"""The second language: Python and a Node.js script written from the .proto files alone read what the other wrote.

The script prints a JSON object of one key for each thing it did; ``conformance.mjs`` says how values look in it.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import rund
from rund import ColumnRole, Run, RunStatus

CLIENT = Path(__file__).parents[2] / "clients" / "node"
NODE = shutil.which("node")
NODE_TIMEOUT_S = 60.0

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(NODE is None, reason="there is no `node` on the PATH"),
    pytest.mark.skipif(
        not (CLIENT / "node_modules" / "@grpc" / "grpc-js").is_dir(),
        reason="clients/node/node_modules is not installed: `make test-node` installs it",
    ),
]

MAX_INT64, MIN_INT64 = 2**63 - 1, -(2**63)
TIME = pa.timestamp("us", "UTC")
POINT = pa.struct({"x": pa.int32(), "y": pa.string()})

# What Python writes for Node.js: the column; then the name of its type in JavaScript, and its values as printed.
WRITTEN_BY_PYTHON: dict[str, tuple[pa.Array, list[object]]] = {
    "flag": (pa.array([True, None, False]), ["Bool", True, None, False]),
    "small": (pa.array([-128, None, 127], pa.int8()), ["Int8", -128, None, 127]),
    "big": (pa.array([MAX_INT64, None, MIN_INT64]), ["Int64", f"{MAX_INT64}n", None, f"{MIN_INT64}n"]),
    "unsigned": (pa.array([2**64 - 1, None, 0], pa.uint64()), ["Uint64", f"{2**64 - 1}n", None, "0n"]),
    "half": (pa.array([0.5, None, -2], pa.float16()), ["Float16", 0.5, None, -2]),
    "single": (pa.array([0.5, None, -1.25], pa.float32()), ["Float32", 0.5, None, -1.25]),
    "double": (pa.array([0.1, math.nan, math.inf]), ["Float64", 0.1, "NaN", "Infinity"]),
    "text": (pa.array(["ünï 🙂", None, ""]), ["Utf8", "ünï 🙂", None, ""]),
    "long_text": (pa.array(["a", None, ""], pa.large_string()), ["LargeUtf8", "a", None, ""]),
    "bytes": (pa.array([b"a\xff", None, b""]), ["Binary", {"0": 97, "1": 255}, None, {}]),
    "category": (pa.array(["a", None, "a"]).dictionary_encode(), ["Utf8", "a", None, "a"]),
    "time": (
        pa.array([1_700_000_000_123_456, None, 0], TIME),
        ["Timestamp<MICROSECOND, UTC>", 1_700_000_000_123.456, None, 0],
    ),
    "list": (pa.array([[1, None], None, []], pa.list_(pa.int64())), ["List<Int64>", ["1n", None], None, []]),
    "point": (
        pa.array([{"x": 1, "y": "a"}, {"x": None, "y": None}, None], POINT),
        ["Struct<{x:Int32, y:Utf8}>", {"x": 1, "y": "a"}, {"x": None, "y": None}, None],
    ),
    "embedding": (
        pa.array([[1, 2, 3.5], None, [4, 5, 6]], pa.list_(pa.float32(), 3)),
        ["FixedSizeList[3]<Float32>", [1, 2, 3.5], None, [4, 5, 6]],
    ),
}


def samples(batches: int) -> pa.Table:
    """What the script writes as Arrow: two rows a batch."""
    schema = {
        "example_id": pa.int64(),
        "big": pa.int64(),
        "small": pa.int8(),
        "loss": pa.float64(),
        "ok": pa.bool_(),
        "text": pa.string(),
        "time": TIME,
        "embedding": pa.list_(pa.float32(), 3),
    }
    pair = {
        "big": [MAX_INT64, None],
        "small": [-128, None],
        "loss": [math.nan, 0.5],
        "ok": [True, None],
        "text": ["ünï", None],
        "time": [1_700_000_000_123_000, None],
        "embedding": [[1, 2, 3.5], None],
    }
    return pa.table(
        {"example_id": range(2 * batches)} | {name: values * batches for name, values in pair.items()},
        schema=pa.schema(schema),
    )


PLAIN_COLUMNS = pa.table(
    {
        "loss": [math.nan, -math.inf, None],
        "n": [MAX_INT64, -1, 0],
        "ok": [None, False, True],
        "text": ["ünï", None, ""],
        "embedding": pa.array([[1, 2], None, [5, 6.5]], pa.list_(pa.float32(), 2)),
    }
)
LOGGED_BY_NODE = pa.table(
    {
        "step": [1, 0],
        "time": pa.array([1_700_000_000_123_456] * 2, TIME),
        "rank": pa.array([1, 1], pa.int32()),
        "loss": [0.5, math.nan],
        "n": [2**62 + 1, None],
        "ok": [None, True],
        "text": [None, "ünï"],
    }
)


@dataclass(frozen=True)
class Exchange:
    """What Node.js said it did, and what there is to read."""

    said: dict[str, Any]
    python_run: str
    node_run: Run

    def read_by_node(self, table: str) -> dict[str, list[object]]:
        """The columns of a metrics table that Python wrote."""
        return self.said[f"read {self.python_run}/metrics/{table}"]

    def read_by_python(self, table: str) -> pa.Table:
        """The rows of a metrics table that Node.js wrote."""
        names = [info.name for info in self.node_run.metrics]
        return self.node_run.metrics_tables[names.index(table)].to_arrow()


@pytest.fixture(scope="module")
def exchange(daemon: Any) -> Exchange:
    running = daemon()
    with rund.init("python", "a rün", root_url=running.root) as run:
        run.add_metrics({name: column for name, (column, _) in WRITTEN_BY_PYTHON.items()}, name="types")
        run.log({"loss": 0.5, "n": MAX_INT64}, step=3)
        run.log({"loss": math.nan, "text": "ünï"}, step=1)
    python_run = f"projects/{run.project_name}/runs/{run.name}"
    node = subprocess.run(
        [str(NODE), CLIENT / "conformance.mjs", running.address, python_run],
        capture_output=True,
        encoding="utf-8",
        timeout=NODE_TIMEOUT_S,
        check=False,  # the next line says more
    )
    assert node.returncode == 0, node.stdout + node.stderr
    said = {what: came for line in node.stdout.splitlines() for what, came in json.loads(line).items()}
    return Exchange(said, python_run, Run.from_url(running.root / "node" / "runs" / "a run"))


def assert_same(table: pa.Table, expected: pa.Table) -> None:
    """Types and values are the same; NaN is NaN, and 1 is not 1.0."""
    assert table.schema.equals(expected.schema), table.schema
    assert repr(table.to_pylist()) == repr(expected.to_pylist())


class TestNodeReadsPython:
    @pytest.mark.parametrize("name", WRITTEN_BY_PYTHON)
    def test_column(self, exchange: Exchange, name: str) -> None:
        assert exchange.read_by_node("types")[name] == WRITTEN_BY_PYTHON[name][1]

    def test_order_of_columns(self, exchange: Exchange) -> None:
        assert list(exchange.read_by_node("types")) == list(WRITTEN_BY_PYTHON)

    def test_history(self, exchange: Exchange) -> None:
        history = exchange.read_by_node("history")
        assert history["time"][0] == "Timestamp<MICROSECOND, UTC>"
        assert {name: column for name, column in history.items() if name != "time"} == {
            "step": ["Int64", "3n", "1n"],
            "rank": ["Int32", 0, 0],
            "loss": ["Float64", 0.5, "NaN"],
            "n": ["Int64", f"{MAX_INT64}n", None],
            "text": ["Utf8", None, "ünï"],
        }


class TestPythonReadsNode:
    def test_run(self, exchange: Exchange) -> None:
        assert exchange.said["run"] == {"name": "projects/node/runs/a run", "status": "RUN_STATUS_RUNNING"}
        assert exchange.node_run.status is RunStatus.COMPLETED
        deep = {"list": [1, 1.0, True, "ünï", None]}
        expected = {"lr": 0.1, "n": 10, "min": MIN_INT64, "inf": math.inf, "deep": deep}
        assert repr(exchange.node_run.parameters) == repr(expected)

    def test_arrow_streams(self, exchange: Exchange) -> None:
        assert exchange.said["arrow_stream"] == {"opened": 0, "acked": 3, "rows": 6}
        assert_same(exchange.read_by_python("streams"), samples(3))

    def test_arrow_batches(self, exchange: Exchange) -> None:
        assert exchange.said["arrow_batch"] == {"opened": 0, "acked": 2, "rows": 4}
        assert_same(exchange.read_by_python("batches"), samples(2))

    def test_plain_columns(self, exchange: Exchange) -> None:
        assert exchange.said["columns"] == {"opened": 0, "acked": 1, "rows": 3}
        assert_same(exchange.read_by_python("columns"), PLAIN_COLUMNS)

    def test_vectors_are_embeddings(self, exchange: Exchange) -> None:
        [info] = [info for info in exchange.node_run.metrics if info.name == "columns"]
        roles = {column.name: column.role for column in info.columns}
        assert [name for name, role in roles.items() if role is ColumnRole.EMBEDDING] == ["embedding"]

    def test_scalars_logged_twice_with_one_request_id_are_there_once(self, exchange: Exchange) -> None:
        assert exchange.said["log_scalars, and again"] == [{"rowCount": "2"}, {"rowCount": "2"}]
        assert_same(exchange.read_by_python("history"), LOGGED_BY_NODE)

    def test_a_stream_that_broke_off_and_was_sent_again_is_there_once(self, exchange: Exchange) -> None:
        before, after = exchange.said["broken off"], exchange.said["resumed"]
        assert 0 < before["acked"] <= after["opened"] <= after["acked"] == after["rows"] == 2000
        assert exchange.read_by_python("resumed")["n"].to_pylist() == list(range(2000))


class TestNodeReadsErrors:
    @pytest.mark.parametrize(
        ("what", "code", "reason", "field"),
        [
            ("no run", "NOT_FOUND", "RUN_NOT_FOUND", None),
            ("bad name", "INVALID_ARGUMENT", "INVALID_NAME", "run.run_name"),
            ("dictionary", "INVALID_ARGUMENT", "INVALID_COLUMN", None),
            ("sealed", "FAILED_PRECONDITION", "TABLE_SEALED", None),
        ],
    )
    def test_trailer(self, exchange: Exchange, what: str, code: str, reason: str, field: str | None) -> None:
        error = exchange.said[what]
        assert error["code"] == code
        assert (error["ErrorInfo"]["domain"], error["ErrorInfo"]["reason"]) == ("rund", reason)
        if field is not None:
            [violation] = error["BadRequest"]["fieldViolations"]
            assert violation["field"] == field
            assert violation["description"]

    def test_metadata(self, exchange: Exchange) -> None:
        assert exchange.said["no run"]["ErrorInfo"]["metadata"] == {"resource": "projects/node/runs/absent"}
        assert exchange.said["dictionary"]["ErrorInfo"]["metadata"] == {
            "column": "text",
            "sequence": "1",
            "committed_sequence": "0",
        }
