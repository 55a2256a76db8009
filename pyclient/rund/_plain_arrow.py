"""Arrow arrays without the types that the wire does not take.

Dictionaries, run-ends, views and extension types are decoded, at any depth, so that every language can read
what is stored and no small message can become a large one. Arrays of plain types pass through untouched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The stubs of pyarrow have a class for each type of array; here arrays are of any.
AnyArray: TypeAlias = "pa.Array[Any]"
AnyChunked: TypeAlias = "pa.ChunkedArray[Any]"
AnyColumn: TypeAlias = "pa.Array[Any] | pa.ChunkedArray[Any]"


class NotPlainError(TypeError):
    """The type can't be sent; the message says what to do."""


def plain(column: AnyColumn) -> AnyColumn:
    """The column with a plain type and the same values.

    Raises:
        NotPlainError: There is no plain type for it.
    """
    if _is_plain(column.type):
        return column
    if isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([_decode(chunk) for chunk in column.chunks or [pa.nulls(0, column.type)]])
    return _decode(column)


def _is_plain(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType) or any(matches(kind) for matches in _DECODERS):
        return False
    if pa.types.is_union(kind) or pa.types.is_interval(kind):
        return False
    return all(_is_plain(kind.field(index).type) for index in range(kind.num_fields))


def _decode(array: Any) -> AnyArray:  # Any: each kind of array has accessors of its own
    kind = array.type
    if _is_plain(kind):
        decoded: AnyArray = array
        return decoded
    if isinstance(kind, pa.BaseExtensionType):
        return _decode(array.storage)
    for matches, decode in {**_DECODERS, **_CONTAINERS}.items():
        if matches(kind):
            return decode(array)
    raise NotPlainError(f"its type {kind} can't be kept; use numbers, text, bytes, times, lists or structs")


def _dictionary(array: Any) -> AnyArray:
    # The values first: Arrow can't gather views.
    values = _decode(array.dictionary)
    decoded: AnyArray = pa.DictionaryArray.from_arrays(array.indices, values).dictionary_decode()
    return decoded


def _list(array: Any) -> AnyArray:
    # Neither .values nor .offsets can be used as they are: the array may be a slice, and null lists may hold
    # values.
    lengths = pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    large = pa.types.is_large_list(array.type) or pa.types.is_large_list_view(array.type)
    cls: Any = pa.LargeListArray if large else pa.ListArray
    ends = pa.array(offsets, pa.int64() if large else pa.int32())
    result: AnyArray = cls.from_arrays(ends, _decode(array.flatten()), mask=array.is_null())
    return result


def _fixed_size_list(array: Any) -> AnyArray:
    # .flatten() drops null rows and .values ignores slices.
    width = array.type.list_size
    values = _decode(array.values.slice(array.offset * width, len(array) * width))
    kind = pa.list_(values.type, width)
    result: AnyArray = pa.FixedSizeListArray.from_arrays(values, type=kind, mask=array.is_null())
    return result


def _struct(array: Any) -> AnyArray:
    children = [_decode(array.field(index)) for index in range(array.type.num_fields)]
    names = [array.type.field(index).name for index in range(array.type.num_fields)]
    return pa.StructArray.from_arrays(children, names=names, mask=array.is_null())


def _map(array: Any) -> AnyArray:
    entries = pa.struct([("key", array.type.key_type), ("value", array.type.item_type)])
    kind = _decode(pa.array([], type=entries)).type
    result: AnyArray = array.cast(pa.map_(kind.field(0).type, kind.field(1).type))
    return result


_run_end_decode: Callable[[Any], AnyArray] = vars(pc)["run_end_decode"]  # missing in the stubs

_Decoders: TypeAlias = dict[Callable[[pa.DataType], bool], Callable[[Any], AnyArray]]

_DECODERS: _Decoders = {
    pa.types.is_dictionary: _dictionary,
    pa.types.is_run_end_encoded: lambda array: _decode(_run_end_decode(array)),
    pa.types.is_string_view: lambda array: array.cast(pa.large_string()),
    pa.types.is_binary_view: lambda array: array.cast(pa.large_binary()),
    pa.types.is_list_view: _list,
    pa.types.is_large_list_view: _list,
}
"""Types that the wire does not take."""

_CONTAINERS: _Decoders = {
    pa.types.is_list: _list,
    pa.types.is_large_list: _list,
    pa.types.is_fixed_size_list: _fixed_size_list,
    pa.types.is_struct: _struct,
    pa.types.is_map: _map,
}
"""Plain types that may hold others."""
