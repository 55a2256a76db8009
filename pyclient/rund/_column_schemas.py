"""What columns mean: as the caller says it, and as Arrow fields that rund wrote say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import pyarrow as pa

from ._errors import InvalidFieldError
from ._types import ColumnRole, ColumnSchema

FIELD_METADATA_KEY = b"rund:column"

ColumnSchemas: TypeAlias = Mapping[str, ColumnSchema | Mapping[str, Any] | str]
"""What columns mean, by name: a ColumnSchema, its fields as a dict, or only a role."""


def schema_from(name: str, given: Any) -> ColumnSchema:
    """The meaning of the column ``name`` as the caller gave it.

    Raises:
        InvalidFieldError: It is none of the forms of ``ColumnSchemas``.
    """
    try:
        if isinstance(given, ColumnSchema):
            schema = given
        elif isinstance(given, str):
            schema = ColumnSchema(role=ColumnRole(given.lower()))
        else:
            schema = ColumnSchema(**{**given, "role": ColumnRole(given.get("role", "").lower())})
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidFieldError(f"the column schema of {name!r} is not one: {error}") from None
    schema = _with_integer_keys(schema, name)
    if schema.name not in ("", name):
        raise InvalidFieldError(f"the column schema of {name!r} bears the name {schema.name!r}; leave it out")
    return replace(schema, name=name)


def _with_integer_keys(schema: ColumnSchema, name: str) -> ColumnSchema:
    try:
        value_map = {int(key): str(value) for key, value in schema.value_map.items()}
    except (TypeError, ValueError, AttributeError):
        raise InvalidFieldError(f"the value_map of {name!r} does not map integers to names") from None
    return replace(schema, value_map=value_map)


def kept_schema(metrics: Any, name: str) -> ColumnSchema | None:
    """What an Arrow field says of itself when rund wrote it."""
    schema = getattr(metrics, "schema", None)
    if not isinstance(schema, pa.Schema):
        return None
    kept = (schema.field(name).metadata or {}).get(FIELD_METADATA_KEY)
    try:
        return None if kept is None else _schema_from_json(kept)
    except (ValueError, TypeError, AttributeError):
        return None


def _schema_from_json(text: bytes) -> ColumnSchema:
    fields = json.loads(text)
    return ColumnSchema(
        name=str(fields.get("name", "")),
        role=ColumnRole(str(fields.get("role", "")).lower().replace("unspecified", "")),
        display_name=str(fields.get("display_name", "")),
        description=str(fields.get("description", "")),
        unit=str(fields.get("unit", "")),
        value_map={int(key): str(value) for key, value in fields.get("value_map", {}).items()},
        writable=bool(fields.get("writable", False)),
    )
