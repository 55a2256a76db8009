"""The schema message that a segment begins with, and what it says of its columns.

What a column means goes into the Arrow field metadata as JSON, so that a copied file explains itself: `rund:column`
holds the column's schema, and `rund:input_tables` on the column `input_table_id` maps its values to the tables' URLs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import pyarrow as pa

from rund_daemon.model import ColumnRole, ColumnSchema

COLUMN_KEY = b"rund:column"
INPUT_TABLES_KEY = b"rund:input_tables"

_ROLES_BY_NAME = {"example_id": ColumnRole.EXAMPLE_ID, "input_table_id": ColumnRole.INPUT_TABLE_ID}


def describe_columns(schema: pa.Schema, columns: Sequence[ColumnSchema]) -> tuple[ColumnSchema, ...]:
    """Gives what is known of each column of a schema, in its order.

    Where the creator of the table gave no role, the reserved names have theirs, and a fixed-size list of floats is an
    EMBEDDING.
    """
    known = {column.name: column for column in columns}
    return tuple(known.get(field.name) or ColumnSchema(field.name, _role(field)) for field in schema)


def segment_head(schema: pa.Schema, columns: Sequence[ColumnSchema], input_tables: Mapping[int, str]) -> bytes:
    """Makes the schema message of a segment.

    Args:
        schema: its columns and types.
        columns: what the creator of the table said of them.
        input_tables: URLs by `input_table_id`.
    """
    described = describe_columns(schema, columns)
    fields = [
        field.with_metadata(_metadata(column, input_tables)) for field, column in zip(schema, described, strict=True)
    ]
    return pa.schema(fields).serialize().to_pybytes()


@lru_cache(maxsize=512)
def read_head(head: bytes) -> pa.Schema:
    """Reads a schema message that the daemon made; no bytes give no columns."""
    return pa.ipc.read_schema(pa.py_buffer(head)) if head else pa.schema([])


def _role(field: pa.Field[Any]) -> ColumnRole:
    if role := _ROLES_BY_NAME.get(field.name):
        return role
    vector = pa.types.is_fixed_size_list(field.type) and pa.types.is_floating(field.type.value_type)
    return ColumnRole.EMBEDDING if vector else ColumnRole.UNSPECIFIED


def _metadata(column: ColumnSchema, input_tables: Mapping[int, str]) -> dict[bytes | str, bytes | str]:
    defaults = asdict(ColumnSchema(column.name))
    said = {key: value for key, value in asdict(column).items() if value != defaults[key]}
    metadata: dict[bytes | str, bytes | str] = (
        {COLUMN_KEY: json.dumps(said, ensure_ascii=False).encode()} if said else {}
    )
    if column.role is ColumnRole.INPUT_TABLE_ID and input_tables:
        metadata[INPUT_TABLES_KEY] = json.dumps(input_tables, ensure_ascii=False).encode()
    return metadata
