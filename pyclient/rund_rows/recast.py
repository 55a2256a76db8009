"""Rebuilds an Arrow array as one of another type, through every level of nesting.

Decodes dictionaries, views, run-end encoding and extensions, walks lists, structs and maps, and leaves what
to do with a scalar to its caller. Sliced arrays and null rows are the traps here: a fixed-size list keeps
hidden values under its null rows (`values`) or drops them (`flatten`), and children are not sliced with
their parent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

Array: TypeAlias = Any
"""A pyarrow.Array. Its static type says which values it has, which nobody knows here before run time."""

ScalarCast: TypeAlias = Callable[[Array, Any], Array]
"""Casts an array of a plain scalar type to another one."""


def recast(array: Array, target: Any, cast: ScalarCast) -> Array:
    """Gives the array as `target`.

    Args:
        array: of any type, sliced or not.
        target: a plain type of the same shape: scalar for scalar, list for list. A fixed-size list may become
            a list.
        cast: is called for scalars whose type is not yet the wanted one.
    """
    if array.type.equals(target):
        return array
    if types.is_null(array.type):
        return pa.nulls(len(array), target)
    array = _decode(array, cast)
    if array.type.equals(target):
        return array
    return _rebuild(array, target, cast)


def _rebuild(array: Array, target: Any, cast: ScalarCast) -> Array:
    source = array.type
    if types.is_fixed_size_list(target) and types.is_fixed_size_list(source):
        if source.list_size == target.list_size:
            return _as_vectors(array, target, cast)
    elif _is_list(target) and (_is_list(source) or types.is_fixed_size_list(source)):
        return _as_lists(array, target, cast)
    elif types.is_struct(target) and types.is_struct(source):
        return _as_structs(array, target, cast)
    elif types.is_map(target) and types.is_map(source):
        return _as_maps(array, target, cast)
    return cast(array, target)


def _is_list(kind: pa.DataType) -> bool:
    views = types.is_list_view(kind) or types.is_large_list_view(kind)
    return views or types.is_list(kind) or types.is_large_list(kind)


def _decode(array: Array, cast: ScalarCast) -> Array:
    if isinstance(array, pa.ExtensionArray):
        return _decode(array.storage, cast)
    if types.is_dictionary(array.type):
        return _decode(array.dictionary, cast).take(array.indices)
    if types.is_run_end_encoded(array.type):
        return _decode(array.values, cast).take(_run_of_each_row(array))
    if types.is_string_view(array.type):
        return _unview(array, pa.string())
    if types.is_binary_view(array.type):
        return _unview(array, pa.binary())
    return array


def _unview(array: Array, target: Any) -> Array:
    if not array.null_count:
        return array.cast(target)
    # Arrow's cast follows the views of null rows, too, and these may point anywhere: they are set to empty first.
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    _, views, *texts = array.buffers()
    rows = np.frombuffer(views, np.int64).reshape(-1, 2)[array.offset : array.offset + len(array)]
    bitmap: Any = np.packbits(valid, bitorder="little")
    safe: Any = np.where(valid[:, np.newaxis], rows, 0)
    buffers = [pa.py_buffer(bitmap), pa.py_buffer(safe), *texts]
    return pa.Array.from_buffers(array.type, len(array), buffers).cast(target)


def _run_of_each_row(array: Array) -> Array:
    rows = np.arange(array.offset, array.offset + len(array))
    return pa.array(np.searchsorted(array.run_ends.to_numpy(), rows, side="right"))


def _null_mask(array: Array) -> Array | None:
    return array.is_null() if array.null_count else None


def _as_vectors(array: Array, target: Any, cast: ScalarCast) -> Array:
    width = target.list_size
    if width == 0:  # Arrow can hold it but not put it together
        return pa.array(array.to_pylist(), target)
    values = array.values.slice(array.offset * width, len(array) * width)
    return pa.FixedSizeListArray.from_arrays(
        recast(values, target.value_type, cast), type=target, mask=_null_mask(array)
    )


def _as_lists(array: Array, target: Any, cast: ScalarCast) -> Array:
    # `flatten` drops what lies under null rows, in every kind of list; their length counts as 0 to match.
    row_lengths: Array = pc.list_value_length(array)
    lengths = row_lengths.fill_null(0)
    offsets = np.zeros(len(array) + 1, dtype=np.int64)
    np.cumsum(lengths.to_numpy(zero_copy_only=False), out=offsets[1:])
    values = recast(array.flatten(), target.value_type, cast)
    large = types.is_large_list(target)
    kind: Any = pa.LargeListArray if large else pa.ListArray
    positions = pa.array(offsets).cast(pa.int64() if large else pa.int32())
    return kind.from_arrays(positions, values, type=target, mask=_null_mask(array))


def _as_structs(array: Array, target: Any, cast: ScalarCast) -> Array:
    children = []
    for field in target:
        index = array.type.get_field_index(field.name)
        child = array.field(index) if index >= 0 else pa.nulls(len(array))
        children.append(recast(child, field.type, cast))
    return pa.StructArray.from_arrays(children, fields=list(target), mask=_null_mask(array))


def _as_maps(array: Array, target: Any, cast: ScalarCast) -> Array:
    first, end = (array.offsets[0].as_py(), array.offsets[-1].as_py()) if len(array) else (0, 0)
    keys = recast(array.keys.slice(first, end - first), target.key_type, cast)
    items = recast(array.items.slice(first, end - first), target.item_type, cast)
    offsets = pc.subtract(array.offsets, pa.scalar(first, pa.int32()))
    return pa.MapArray.from_arrays(offsets, keys, items, type=target, mask=_null_mask(array))
