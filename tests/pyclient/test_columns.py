"""Columns of every library become plain Arrow with the same values; faults are ValueErrors that name the column."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from rund import (
    ColumnLengthMismatchError,
    ColumnRole,
    ColumnSchema,
    ExampleIdOutOfRangeError,
    InvalidColumnError,
    InvalidFieldError,
    RowCountMismatchError,
)
from rund._columns import Columns, check_example_ids, columns_from, numbered, with_example_ids

UTC = dt.UTC


def column(values: Any, schema: Any = None) -> pa.ChunkedArray:
    columns = columns_from({"c": values}, None if schema is None else {"c": schema})
    columns.table.validate(full=True)
    return columns.table.column("c")


def role_of(values: Any, schema: Any = None) -> str:
    columns = columns_from({"c": values}, None if schema is None else {"c": schema})
    return columns.schemas[0].role if columns.schemas else ""


@pytest.mark.parametrize(
    ("values", "kind", "kept"),
    [
        ([1, 2, None], pa.int64(), [1, 2, None]),
        ([1, 2.5, None], pa.float64(), [1.0, 2.5, None]),
        ([2**60 + 1, 0.5], pa.float64(), [float(2**60 + 1), 0.5]),
        ((True, None), pa.bool_(), [True, None]),
        (["a", "é"], pa.string(), ["a", "é"]),
        ([b"\x00", None], pa.binary(), [b"\x00", None]),
        (range(3), pa.int64(), [0, 1, 2]),
        ((i / 2 for i in range(2)), pa.float64(), [0.0, 0.5]),
        ([], pa.null(), []),
        ([None, None], pa.null(), [None, None]),
        ([[1, 2], [], None], pa.list_(pa.int64()), [[1, 2], [], None]),
        ([[1], [2.5]], pa.list_(pa.float64()), [[1.0], [2.5]]),
        ([{"x": 1}, {"y": "q"}], pa.struct({"x": pa.int64(), "y": pa.string()}), None),
        ([dt.datetime(2020, 1, 2, tzinfo=UTC)], pa.timestamp("us", "UTC"), None),
        ([dt.date(2020, 1, 2)], pa.date32(), [dt.date(2020, 1, 2)]),
        ([np.float32(1), 2.0, 3], pa.float64(), [1.0, 2.0, 3.0]),
        ([np.float32(1), np.float32(2)], pa.float32(), [1.0, 2.0]),
        ([np.array(1.5), np.array(2)], pa.float64(), [1.5, 2.0]),
        ([np.ones(2), np.zeros(1)], pa.list_(pa.float64()), [[1.0, 1.0], [0.0]]),
        ([np.ones((2, 1)), np.zeros((1, 1))], pa.list_(pa.list_(pa.float64())), [[[1.0], [1.0]], [[0.0]]]),
        ([np.longdouble(0.5), None], pa.float64(), [0.5, None]),
    ],
)
def test_lists(values: Any, kind: pa.DataType, kept: list[Any] | None) -> None:
    found = column(values)
    assert found.type == kind
    if kept is not None:
        assert found.to_pylist() == kept


NUMBERS = (
    hnp.integer_dtypes(endianness="?")
    | hnp.unsigned_integer_dtypes(endianness="?")
    | hnp.floating_dtypes(endianness="?")
    | hnp.boolean_dtypes()
)


@given(hnp.arrays(NUMBERS, hnp.array_shapes(min_dims=1, max_dims=1, min_side=0)))
def test_numpy_vectors_keep_every_value_and_their_type(values: npt.NDArray[Any]) -> None:
    found = column(values)
    assert found.null_count == 0
    assert found.type.to_pandas_dtype() == values.dtype.type
    np.testing.assert_array_equal(found.to_numpy(), values)


@given(hnp.arrays(hnp.floating_dtypes(), hnp.array_shapes(min_dims=2, max_dims=2, min_side=1)))
def test_two_dimensions_of_floats_become_float32_vectors(values: npt.NDArray[Any]) -> None:
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    if (np.isinf(expected) & np.isfinite(values)).any():
        with pytest.raises(InvalidColumnError, match="float32"):
            column(values)
        return
    found = column(values)
    assert found.type == pa.list_(pa.float32(), values.shape[1])
    np.testing.assert_array_equal(np.array(found.to_pylist(), np.float32), expected)
    assert role_of(values) == ColumnRole.EMBEDDING


@given(hnp.arrays(np.int16, hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=3)), st.integers(-2, 2))
def test_more_dimensions_and_strides(values: npt.NDArray[Any], stride: int) -> None:
    strided = values[:: stride or 1]
    assert column(strided).to_pylist() == strided.tolist()
    assert column(values.T).to_pylist() == values.T.tolist()


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        ("f2", pa.float16()),
        ("g", pa.float64()),
        (">i4", pa.int32()),
        ("U3", pa.string()),
        ("S2", pa.binary()),
        ("M8[Y]", pa.date32()),
        ("M8[D]", pa.date32()),
        ("M8[h]", pa.timestamp("s")),
        ("M8[25s]", pa.timestamp("s")),
        ("M8[ms]", pa.timestamp("ms")),
        ("M8[ns]", pa.timestamp("ns")),
        ("m8[D]", pa.duration("s")),
        ("m8[us]", pa.duration("us")),
    ],
)
def test_numpy_dtypes(dtype: str, kind: pa.DataType) -> None:
    assert column(np.zeros(2, dtype)).type == kind
    assert column(np.zeros(0, dtype)).type == kind


def test_times_keep_their_moment() -> None:
    values = np.array(["2020-02-03T04", "NaT"], "M8[h]")
    assert column(values).to_pylist() == [dt.datetime(2020, 2, 3, 4), None]  # noqa: DTZ001 - NumPy has no zone


def test_masked_and_structured_arrays() -> None:
    assert column(np.ma.array([1, 2], mask=[0, 1])).to_pylist() == [1, None]
    assert column(np.array([(1, 2.0)], [("a", "i4"), ("b", "f8")])).to_pylist() == [{"a": 1, "b": 2.0}]


def test_pandas() -> None:
    frame = pd.DataFrame(
        {
            "float": [1.0, float("nan")],
            "text": ["x", None],
            "class": pd.Categorical(["u", "v"]),
            "time": pd.to_datetime(["2020-01-01", None]).tz_localize("UTC"),
            "int": pd.array([1, None], "Int64"),
            "object": np.array([1, None], dtype=object),
        },
        index=[7, 7],
    )
    table = columns_from(frame).table
    assert table.column_names == list(frame.columns)
    assert str(table.column("float").to_pylist()) == "[1.0, nan]"
    assert table.column("text").to_pylist() == ["x", None]
    assert table.column("class").to_pylist() == ["u", "v"]
    assert table.column("time").to_pylist() == [dt.datetime(2020, 1, 1, tzinfo=UTC), None]
    assert table.column("int").to_pylist() == [1, None]
    assert table.column("object").to_pylist() == [1, None]
    assert column(frame["int"]).to_pylist() == [1, None]


def test_polars() -> None:
    frame = pl.DataFrame(
        {
            "int": [1, None],
            "text": ["x", "y"],
            "class": pl.Series(["q", "r"], dtype=pl.Categorical),
            "enum": pl.Series(["q", "r"], dtype=pl.Enum(["q", "r"])),
            "list": [[1], [2, 3]],
            "vector": pl.Series([[1.0, 2.0], [3.0, 4.0]], dtype=pl.Array(pl.Float32, 2)),
            "struct": [{"a": "x"}, {"a": "y"}],
        }
    )
    columns = columns_from(frame)
    assert columns.table.to_pylist() == frame.to_dicts()
    assert columns.table.column("vector").type == pa.list_(pa.float32(), 2)
    assert [schema.role for schema in columns.schemas] == [ColumnRole.EMBEDDING]
    assert column(frame["class"]).to_pylist() == ["q", "r"]


class FakeTensor:
    """Has what is used of a torch tensor; torch itself is too large for these tests."""

    __module__ = "torch"
    is_sparse = False

    def __init__(self, array: npt.NDArray[Any], dtype: str = "torch.float32", *, detached: bool = False) -> None:
        self.array, self.dtype, self.detached = array, dtype, detached

    def detach(self) -> FakeTensor:
        return FakeTensor(self.array, self.dtype, detached=True)

    def float(self) -> FakeTensor:
        return FakeTensor(self.array.astype(np.float32), detached=self.detached)

    def cpu(self) -> FakeTensor:
        return self

    resolve_conj = resolve_neg = cpu

    def numpy(self) -> npt.NDArray[Any]:
        assert self.detached, "torch refuses .numpy() of what requires grad"
        assert self.dtype != "torch.bfloat16", "NumPy has no bfloat16"
        return self.array


def test_tensors() -> None:
    assert column(FakeTensor(np.eye(2, dtype=np.float32))).to_pylist() == [[1.0, 0.0], [0.0, 1.0]]
    assert column(FakeTensor(np.array([1.5]), "torch.bfloat16")).type == pa.float32()
    assert column([FakeTensor(np.array(0.5)), FakeTensor(np.array(1))]).to_pylist() == [0.5, 1.0]


@pytest.mark.torch
def test_real_tensors() -> None:
    torch = pytest.importorskip("torch")
    weights = torch.eye(2, dtype=torch.bfloat16, requires_grad=True)
    assert column(weights).to_pylist() == [[1.0, 0.0], [0.0, 1.0]]
    assert column([torch.tensor(0.5), torch.tensor(1.0)]).to_pylist() == [0.5, 1.0]
    assert column(torch.tensor([1, 2], dtype=torch.uint8)).type == pa.uint8()


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([True, 1], "do not fit together"),
        (["a", 1], "do not fit together"),
        ([object()], "do not fit together"),
        ([2**64], "64 bits"),
        (["\ud800"], "surrogate"),
        (5, "of type int, not a column; give a list, or use constants="),
        ("abc", "of type str, not a column"),
        (None, "of type NoneType"),
        ({"a": 1}, "of type dict"),
        (np.float64(1), "not a column"),
        (np.array(1.0), "not a column"),
        (np.zeros(2, complex), "complex"),
        (np.zeros(2, "V4"), "void"),
        (np.zeros(2, "m8[Y]"), "timedelta64[Y]"),
        (np.zeros((2, 0)), "no values"),
        (np.ma.array([[1.0, 2.0]], mask=[[0, 1]]), "masked"),
        (pd.DataFrame({"a": [1]}), "Series"),
        (pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]), "can't be kept"),
    ],
)
def test_faults_name_the_column(values: Any, fault: str) -> None:
    with pytest.raises(InvalidColumnError) as caught:
        column(values)
    assert "column 'c': " in str(caught.value)
    assert fault in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("metrics", "fault"),
    [
        ({}, "no columns"),
        ({1: [1]}, "1 is a int"),
        ({"": [1]}, "has 0 bytes"),
        ({"é" * 128: [1]}, "256 bytes"),
        ({"\ud800": [1]}, "surrogate"),
        ([1, 2], "metrics is a list"),
        (pl.DataFrame({"a": [1]}).lazy(), "LazyFrame"),
        (pd.DataFrame([[1, 2]]), "names are text"),
        (pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]), "'a' is there twice"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a' is there twice"),
    ],
)
def test_faults_of_the_whole(metrics: Any, fault: str) -> None:
    with pytest.raises(InvalidColumnError) as caught:
        columns_from(metrics)
    assert fault in str(caught.value)


def test_columns_of_different_length() -> None:
    with pytest.raises(ColumnLengthMismatchError, match="'a' has 1, 'b' has 2"):
        columns_from({"a": [1], "b": [1, 2]})


@pytest.mark.parametrize("given", ["xy", "XY", {"role": "xy"}, ColumnSchema(role=ColumnRole.XY), ColumnRole.XY])
def test_a_schema_may_be_given_in_any_form(given: Any) -> None:
    assert role_of(np.eye(2), given) == ColumnRole.XY


def test_nested_lists_become_vectors_when_their_role_says_so() -> None:
    found = column([[9, 9], [1, 2], None][1:], "embedding")
    assert found.type == pa.list_(pa.float32(), 2)
    assert found.to_pylist() == [[1.0, 2.0], None]
    assert column([], "embedding").type == pa.null()


@pytest.mark.parametrize(
    ("values", "schema", "error", "fault"),
    [
        (np.eye(3), "xy", InvalidColumnError, "3 values"),
        ([1], "embedding", InvalidColumnError, "vectors of floats"),
        ([[1], [1, 2]], "embedding", InvalidColumnError, "1 to 2 values"),
        ([1], "no role", InvalidFieldError, "column schema of 'c'"),
        ([1], {"rolle": "xy"}, InvalidFieldError, "column schema of 'c'"),
        ([1], 5, InvalidFieldError, "column schema of 'c'"),
        ([1], ColumnSchema(name="d"), InvalidFieldError, "bears the name 'd'"),
        ([1], {"value_map": {"x": "cat"}}, InvalidFieldError, "value_map of 'c'"),
        ([1], {"value_map": ["cat"]}, InvalidFieldError, "value_map of 'c'"),
    ],
)
def test_schemas_that_do_not_fit(values: Any, schema: Any, error: type[Exception], fault: str) -> None:
    with pytest.raises(error) as caught:
        column(values, schema)
    assert fault in str(caught.value)


def test_a_schema_of_no_column() -> None:
    with pytest.raises(InvalidColumnError, match="'d'"):
        columns_from({"c": [1]}, {"d": "label"})
    assert columns_from({"c": [1]}, {"d": "label"}, partial=True).schemas == ()


def test_a_table_that_rund_wrote_explains_itself() -> None:
    meaning = {"role": "LABEL", "display_name": "L", "value_map": {"1": "cat"}}
    field = pa.field("c", pa.int64(), metadata={"rund:column": json.dumps(meaning)})
    columns = columns_from(pa.table([pa.array([1])], pa.schema([field])))
    expected = ColumnSchema(name="c", role=ColumnRole.LABEL, display_name="L", value_map={1: "cat"})
    assert columns.schemas == (expected,)
    assert columns.table.schema.field("c").metadata is None


def ids(values: Any) -> Columns:
    return columns_from({"example_id": values, "a": [0] * len(values)})


def test_example_ids_are_added_or_checked() -> None:
    added = with_example_ids(columns_from({"a": [5, 6]}), 2)
    assert added.table.to_pylist() == [{"example_id": 0, "a": 5}, {"example_id": 1, "a": 6}]
    assert added.table.schema.field("example_id").type == pa.int64()
    assert added.schemas[0].role is ColumnRole.EXAMPLE_ID
    given = with_example_ids(ids(np.array([1, 1], np.uint8)), 2)
    assert given.table.column("example_id").to_pylist() == [1, 1]
    assert given.table.schema.field("example_id").type == pa.int64()
    assert numbered(columns_from({"a": [5]}), 7).table.column("example_id").to_pylist() == [7]


def test_rows_that_can_not_be_matched() -> None:
    with pytest.raises(RowCountMismatchError, match="2 rows, but the input table has 3"):
        with_example_ids(columns_from({"a": [5, 6]}), 3)
    for values in ([-1, 0], [0, 2], [0, None]):
        with pytest.raises(ExampleIdOutOfRangeError):
            with_example_ids(ids(values), 2)
    with pytest.raises(InvalidColumnError, match="example_id"):
        ids([0.5])
    check_example_ids(pa.chunked_array([], pa.int64()), 0)


def test_numbers_are_read_without_pandas() -> None:
    """Its import takes longer than the first thousand batches."""
    script = """
import sys, numpy as np
from rund._columns import columns_from
columns_from({"loss": np.zeros(9), "label": np.arange(9), "embedding": np.zeros((9, 4), np.float32)})
sys.exit("pandas" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("code", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"])
def test_numbers_of_every_width_and_byte_order(code: str, order: str) -> None:
    values = np.array([0, 1, 100, 3, 5], f"{order}{code}")
    for array in (values, values[::2], values[:0]):
        found = column(array)
        found.validate(full=True)
        assert found.type == pa.from_numpy_dtype(np.dtype(code))
        assert found.to_pylist() == array.tolist()
