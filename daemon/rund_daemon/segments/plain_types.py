"""Which Arrow types rund keeps, and what stands for the others.

A plain type is one that every Arrow implementation reads: no dictionaries, views, run-end encoding or
extensions. On the wire only plain types are taken (metrics_service.proto lists them); files that lie
elsewhere are decoded to them on reading. Knows nothing of tables and files.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types
from rund_rows.recast import recast

_WIRE_SCALARS = (
    types.is_null,
    types.is_boolean,
    types.is_integer,
    types.is_floating,
    types.is_decimal128,
    types.is_decimal256,
    types.is_date,
    types.is_time,
    types.is_timestamp,
    types.is_duration,
    types.is_string,
    types.is_large_string,
    types.is_binary,
    types.is_large_binary,
    types.is_fixed_size_binary,
)
_METADATA_PREFIX = b"rund:"


def is_wire_type(data_type: pa.DataType) -> bool:
    """Whether the type is taken on the wire, with all that is nested in it."""
    if isinstance(data_type, pa.BaseExtensionType):
        return False
    if _is_plain_nested(data_type):
        return all(is_wire_type(child.type) for child in _children(data_type))
    return any(accepts(data_type) for accepts in _WIRE_SCALARS)


def plain_type(data_type: Any) -> pa.DataType:
    """Gives the plain type that holds the same values.

    A type that has none (a union, a calendar interval) is given back as it is; `check_schema` refuses it.
    """
    if isinstance(data_type, pa.BaseExtensionType):
        return plain_type(data_type.storage_type)
    if types.is_dictionary(data_type) or types.is_run_end_encoded(data_type):
        return plain_type(data_type.value_type)
    if types.is_string_view(data_type):
        return pa.string()
    if types.is_binary_view(data_type):
        return pa.binary()
    if types.is_decimal32(data_type) or types.is_decimal64(data_type):
        return pa.decimal128(data_type.precision, data_type.scale)
    nested: pa.DataType = _plain_nested(data_type)
    return nested


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Gives the schema that `to_plain` makes of a batch: plain types, nullable columns.

    Of the fields' metadata only rund's own is kept: what other tools wrote there describes types that may be
    gone.
    """
    return pa.schema([_plain_column(field) for field in schema])


def to_plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Decodes a batch.

    Args:
        batch: of any types, validated in full.
        schema: `plain_schema` of the batch's, or some of its columns in any order.
    """
    columns = [recast(batch.column(field.name), field.type, _cast) for field in schema]
    return batch_of(columns, schema, batch.num_rows)


def batch_of(columns: list[pa.Array[Any]], schema: pa.Schema, num_rows: int) -> pa.RecordBatch:
    """Puts columns together. Unlike Arrow's own way it keeps the number of rows when there are no columns."""
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    return pa.RecordBatch.from_arrays([pa.nulls(num_rows)], names=["rows"]).select([])


def map_of(key: Any, item: Any, *like: Any) -> pa.DataType:
    """Gives a map type, with sorted keys if those of all maps in `like` are."""
    make: Any = pa.map_  # the stubs know `keys_sorted` by another name
    data_type: pa.DataType = make(key, item, keys_sorted=all(other.keys_sorted for other in like))
    return data_type


def _cast(array: pa.Array[Any], target: pa.DataType) -> pa.Array[Any]:
    return array.cast(target)


def _plain_column(field: pa.Field[Any]) -> pa.Field[Any]:
    metadata = {key: value for key, value in (field.metadata or {}).items() if key.startswith(_METADATA_PREFIX)}
    return pa.field(field.name, plain_type(field.type), metadata=metadata or None)


def _plain_field(field: pa.Field[Any]) -> pa.Field[Any]:
    return pa.field(field.name, plain_type(field.type), nullable=field.nullable)


def _plain_nested(data_type: Any) -> Any:
    if types.is_list(data_type) or types.is_list_view(data_type):
        return pa.list_(_plain_field(data_type.value_field))
    if types.is_large_list(data_type) or types.is_large_list_view(data_type):
        return pa.large_list(_plain_field(data_type.value_field))
    if types.is_fixed_size_list(data_type):
        return pa.list_(_plain_field(data_type.value_field), data_type.list_size)
    if types.is_struct(data_type):
        return pa.struct([_plain_field(field) for field in data_type])
    if types.is_map(data_type):
        return map_of(_plain_field(data_type.key_field), _plain_field(data_type.item_field), data_type)
    return data_type


def _is_plain_nested(data_type: pa.DataType) -> bool:
    return (
        types.is_list(data_type)
        or types.is_large_list(data_type)
        or types.is_fixed_size_list(data_type)
        or types.is_struct(data_type)
        or types.is_map(data_type)
    )


def _children(data_type: Any) -> list[pa.Field[Any]]:
    if types.is_map(data_type):
        return [data_type.key_field, data_type.item_field]
    return [data_type.field(index) for index in range(data_type.num_fields)]
