"""The schemas of a table: which are taken, what several make together, and how a batch is given one.

Each segment keeps the schema it was written with; readers see the unified one. `type_lattice` says which type
two make.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from pyarrow import types
from rund_rows.casts import promote
from rund_rows.recast import Array, ScalarCast, recast

from rund_daemon.errors import ExhaustedError, InvalidError, Reason
from rund_daemon.segments.plain_types import batch_of, is_wire_type
from rund_daemon.segments.type_lattice import unify_fields, unify_types

FIELD = "arrow_schema"
"""The field that errors blame."""

_MAX_NAME_BYTES = 255
_TYPE_CHARACTERS = 200


def check_schema(schema: pa.Schema, max_columns: int) -> None:
    """Checks the columns that somebody wants to write.

    Raises:
        InvalidError: INVALID_COLUMN, if a name or a type is not taken.
        ExhaustedError: OVER_LIMIT, if there are too many columns.
    """
    check_column_count(len(schema), max_columns)
    names = [_name(field, f"column {number}") for number, field in enumerate(schema)]
    for name in names:
        _check_name(name)
    _check_unique(names, "the table")
    for name, field in zip(names, schema, strict=True):
        _check_nested_names(field.type, name)
        if not is_wire_type(field.type):
            raise _invalid(
                f"column {name!r} has type {_show(field.type)}, which is not taken; {_remedy(field.type)}",
                name,
            )


def check_column_count(count: int, max_columns: int) -> None:
    """Checks how many columns a table has, or would have. Raises ExhaustedError."""
    if count > max_columns:
        raise ExhaustedError(
            Reason.OVER_LIMIT,
            f"{FIELD}: {count} columns and the limit is {max_columns}; use lists or several tables",
            field=FIELD,
            limit=f"max_columns={max_columns}",
            value=count,
        )


def unify(a: pa.Schema, b: pa.Schema, *, mixes: bool = False) -> pa.Schema:
    """Gives the schema that holds the rows of both: the columns of `a` in order, then the new ones of `b`.

    All columns, and all that is nested in them, are nullable. The metadata of the first schema that has any
    for a column wins.

    Args:
        a: the schema so far.
        b: the one to add.
        mixes: whether a list and a scalar of one name become text, where nobody can be told to choose another name.

    Raises:
        InvalidError: INVALID_COLUMN, if a column is a scalar in one and nested in the other, or nested in
            different ways.
    """
    fields = []
    for field in [*a, *(field for field in b if a.get_field_index(field.name) < 0)]:
        index = b.get_field_index(field.name)
        other = b.field(index) if index >= 0 else field
        unified = unify_fields(field, other) if mixes or _alike(field.type, other.type) else None
        if unified is None:
            raise _invalid(
                f"column {field.name!r} has type {_show(field.type)} so far and can't take "
                f"{_show(other.type)}; give one of them another name",
                field.name,
            )
        fields.append(unified)
    metadata: Any = a.metadata or b.metadata  # the stubs want keys that are bytes and text at once
    return pa.schema(fields, metadata=metadata)


def _alike(a: pa.DataType, b: pa.DataType) -> bool:
    return types.is_null(a) or types.is_null(b) or types.is_nested(a) == types.is_nested(b)


def count_arrays(schema: pa.Schema) -> int:
    """How many arrays a batch of the schema has: its columns, and all that is nested in them."""
    return sum(1 for data_type in schema.types for _ in _all_types(data_type))


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Gives a batch a schema that its own was unified into.

    Columns that it lacks become null; columns that the schema lacks are left out. Casts go up the lattice
    only, by `scalar_casts.promote`; encoded types are decoded. What has the type already is not copied.

    Raises:
        InvalidError: INVALID_COLUMN, if a column's values do not all fit its type in the schema.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    return batch_of([_conform_column(batch, field) for field in schema], schema, batch.num_rows)


def _conform_column(batch: pa.RecordBatch, field: pa.Field[Any]) -> Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(batch.num_rows, field.type)
    column = batch.column(index)
    if column.type.equals(field.type):
        return column
    return recast(column, field.type, _promote_checked(field.name))


def _promote_checked(name: str) -> ScalarCast:
    def cast(array: Array, target: Any) -> Array:
        if unify_types(array.type, target) != target:
            raise _invalid(
                f"column {name!r} has type {_show(target)} and can't take {_show(array.type)}; give it another name",
                name,
            )
        return promote(array, target)

    return cast


def _name(field: pa.Field[Any], where: str) -> str:
    try:
        return field.name
    except UnicodeDecodeError as error:
        raise _invalid(f"the name of {where} is not UTF-8; encode it so", where) from error


def _check_unique(names: list[str], where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise _invalid(f"{where} has two columns {name!r}; give each a name of its own", name)
        seen.add(name)


def _check_name(name: str) -> None:
    size = len(name.encode())
    if not name:
        raise _invalid("a column has an empty name; give it one of 1 to 255 bytes", name)
    if size > _MAX_NAME_BYTES:
        short = name[:40]
        raise _invalid(f"column {short!r}… has a name of {size} bytes; use at most {_MAX_NAME_BYTES}", short)
    if any(unicodedata.category(character) == "Cc" for character in name):
        raise _invalid(f"the name of column {name!r} has a control character; leave it out", name)


def _check_nested_names(data_type: Any, column: str) -> None:
    children = _nested_fields(data_type)
    names = [_name(child, f"a field nested in column {column!r}") for child in children]
    if types.is_struct(data_type) and len(set(names)) < len(names):
        raise _invalid(f"a struct in column {column!r} has two fields of one name; rename one", column)
    for child in children:
        _check_nested_names(child.type, column)


def _nested_fields(data_type: Any) -> list[pa.Field[Any]]:
    if isinstance(data_type, pa.BaseExtensionType) or not types.is_nested(data_type):
        return []
    return [data_type.field(index) for index in range(data_type.num_fields)]


def _remedy(data_type: Any) -> str:
    for unwanted in _all_types(data_type):
        if isinstance(unwanted, pa.BaseExtensionType):
            return f"send the storage type, {_show(unwanted.storage_type)}"
        if types.is_dictionary(unwanted) or types.is_run_end_encoded(unwanted):
            return f"decode it to {_show(unwanted.value_type)}"
        if types.is_union(unwanted):
            return "use one column for each of its types, or text"
        if str(unwanted).endswith("_view"):
            return f"cast it to {str(unwanted).removesuffix('_view')}"
    return "cast it to a number, text, bytes, a time, a list, a struct or a map"


def _all_types(data_type: pa.DataType) -> Iterator[pa.DataType]:
    yield data_type
    for child in _nested_fields(data_type):
        yield from _all_types(child.type)


def _show(data_type: pa.DataType) -> str:
    text = str(data_type)
    return text if len(text) <= _TYPE_CHARACTERS else text[:_TYPE_CHARACTERS] + "…"


def _invalid(message: str, column: str) -> InvalidError:
    return InvalidError(FIELD, message, reason=Reason.INVALID_COLUMN, column=column)
