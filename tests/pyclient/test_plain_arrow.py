"""Decoding keeps every value, in slices and under nulls too, and leaves nothing that the wire does not take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rund._plain_arrow import NotPlainError, plain

TEXTS = pa.dictionary(pa.int8(), pa.string())
ARRAYS: dict[str, tuple[Any, Any]] = {
    "dictionary": (pa.array(["a", "b", None, "a"], TEXTS), pa.string()),
    "dictionary of views": (
        pa.DictionaryArray.from_arrays([0, 1, None], pa.array(["a", "b"], pa.string_view())),
        pa.large_string(),
    ),
    "string view": (pa.array(["a", None, "c" * 20], pa.string_view()), pa.large_string()),
    "binary view": (pa.array([b"a", None, b"c" * 20], pa.binary_view()), pa.large_binary()),
    "run ends": (pa.RunEndEncodedArray.from_arrays([2, 3], [1, 2]), pa.int64()),
    "list view": (pa.array([[1], [2, 3], None, []], pa.list_view(pa.int8())), pa.list_(pa.int8())),
    "large list view": (pa.array([[1], [2, 3], None], pa.large_list_view(pa.int8())), pa.large_list(pa.int8())),
    "list of dictionaries": (pa.array([["x"], None, ["y", "x"]], pa.list_(TEXTS)), pa.list_(pa.string())),
    "large list": (pa.array([["x"], None, ["y"]], pa.large_list(TEXTS)), pa.large_list(pa.string())),
    "fixed list": (pa.array([["x", "y"], None, ["z", "x"]], pa.list_(TEXTS, 2)), pa.list_(pa.string(), 2)),
    "struct": (pa.array([{"q": "s"}, None, {"q": None}], pa.struct({"q": TEXTS})), pa.struct({"q": pa.string()})),
    "map": (
        pa.array([[("k", 1)], None, []], pa.map_(pa.string_view(), pa.int8())),
        pa.map_(pa.large_string(), pa.int8()),
    ),
    "extension": (pa.array([b"0" * 16, None], pa.uuid()), pa.binary(16)),
    "tensor": (pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((3, 2), np.float32)), pa.list_(pa.float32(), 2)),
    "deep": (
        pa.array([[{"q": ["s"]}], None, [None, {"q": None}]], pa.list_(pa.struct({"q": pa.list_view(TEXTS)}))),
        pa.list_(pa.struct({"q": pa.list_(pa.string())})),
    ),
    "list under a null": (
        pa.ListArray.from_arrays([0, 2, 3], pa.array(["a", "b", "c"], TEXTS), mask=pa.array([True, False])),
        pa.list_(pa.string()),
    ),
}


def storage_values(array: Any) -> list[Any]:
    return (array.storage if isinstance(array.type, pa.BaseExtensionType) else array).to_pylist()


@pytest.mark.parametrize("name", sorted(ARRAYS))
def test_values_stay_and_types_become_plain(name: str) -> None:
    array, kind = ARRAYS[name]
    for piece in (array, array.slice(1), array.slice(1, 1), array.slice(0, 0)):
        decoded = plain(piece)
        decoded.validate(full=True)
        assert decoded.type == kind
        assert decoded.to_pylist() == storage_values(piece)
    chunked = plain(pa.chunked_array([array, array.slice(1)]))
    assert chunked.type == kind
    assert chunked.to_pylist() == storage_values(array) + storage_values(array.slice(1))
    assert plain(pa.chunked_array([], array.type)).type == kind


@pytest.mark.parametrize(
    "array", [pa.array([1]), pa.array([[1.0]]), pa.array([{"a": 1}]), pa.chunked_array([pa.array(["x"])])]
)
def test_plain_arrays_pass_untouched(array: Any) -> None:
    assert plain(array) is array


def test_what_has_no_plain_type_is_refused() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(NotPlainError, match="union"):
        plain(union)
    with pytest.raises(NotPlainError, match="union"):
        plain(pa.StructArray.from_arrays([union], names=["u"]))
    with pytest.raises(NotPlainError, match="interval"):
        plain(pa.array([None], pa.month_day_nano_interval()))
