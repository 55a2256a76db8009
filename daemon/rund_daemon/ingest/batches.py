"""Checks what writers send. What passes here is appended as it came; nothing here touches a file.

Every batch is validated in full before any of its values is read: without that, mutated messages crash the reader. The
body is never decoded into other bytes, except to add `input_table_id` where it is absent and for plain columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from rund_daemon.errors import ExhaustedError, InvalidError, Reason, RundError
from rund_daemon.limits import Limits
from rund_daemon.model import HISTORY_TABLE
from rund_daemon.segments.messages import RECORD_BATCH, SCHEMA, Message, read_message, read_messages
from rund_daemon.segments.ranges import column_ranges
from rund_daemon.segments.schemas import check_schema, count_arrays

from .appends import Chunk

EXAMPLE_ID = "example_id"
INPUT_TABLE_ID = "input_table_id"

# Columns that have one type in every table, so that no writer can change them for the readers.
_FIXED_TYPES: Mapping[str, pa.DataType] = {EXAMPLE_ID: pa.int64(), INPUT_TABLE_ID: pa.int32()}
_HISTORY_TYPES: Mapping[str, pa.DataType] = {
    "step": pa.int64(),
    "time": pa.timestamp("us", tz="UTC"),
    "rank": pa.int32(),
}


@dataclass(frozen=True, slots=True)
class ForeignRows:
    """The input table that a metrics table's rows refer to."""

    input_table_id: int
    row_count: int


@dataclass(frozen=True, slots=True)
class WireSchema:
    """A schema that a writer sends batches of, and the head of the segment they go into.

    Attributes:
        wire: as it was sent; batches are decoded with it.
        stored: as it is stored: nullable, without metadata, the fixed columns in their types, `input_table_id` added.
        head: `stored`, with what is known of the columns, as a schema message.
    """

    wire: pa.Schema
    stored: pa.Schema
    head: bytes

    @property
    def recodes(self) -> bool:
        """Whether batches can't be stored as they were sent."""
        return self.stored.names != self.wire.names or self.stored.types != self.wire.types


def read_schema(data: bytes, limits: Limits, field: str) -> pa.Schema:
    """Reads a schema message, or the schema that a stream begins with.

    Raises:
        InvalidError: INVALID_ARROW, or INVALID_COLUMN if it has a column that is not accepted.
    """
    message = read_message(memoryview(data), 0, field)
    if message is None or message.kind != SCHEMA:
        raise InvalidError(field, "does not begin with an Arrow schema message", reason=Reason.INVALID_ARROW)
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(data[: message.end]))
    except RundError:
        raise
    except Exception as error:  # pyarrow raises at least seven kinds on hostile bytes
        raise _invalid_arrow(field, error) from error
    check_columns(schema, limits, field)
    return schema


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """A schema in which everything may be null and nothing has metadata."""
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def stored_schema(schema: pa.Schema, foreign: ForeignRows | None, table_name: str) -> pa.Schema:
    """The schema as rows of a metrics table are stored.

    Raises:
        InvalidError: INVALID_COLUMN: a column of fixed type is of another kind.
    """
    fixed = {**_FIXED_TYPES, **(_HISTORY_TYPES if table_name == HISTORY_TABLE else {})}
    fields = [pa.field(field.name, _stored_type(field, fixed)) for field in schema]
    if foreign is not None and INPUT_TABLE_ID not in schema.names:
        fields.append(pa.field(INPUT_TABLE_ID, pa.int32()))
    return pa.schema(fields)


def read_batch(data: bytes, schema: WireSchema, limits: Limits, field: str) -> pa.RecordBatch:
    """Decodes and validates one record batch message.

    Raises:
        InvalidError: INVALID_ARROW, if it is not one whole, valid, uncompressed batch of the schema.
        ExhaustedError: OVER_LIMIT, if it has too many rows or bytes.
    """
    message = read_message(memoryview(data), 0, field)
    if message is None or message.kind != RECORD_BATCH or message.end != len(data):
        raise InvalidError(field, "is not one Arrow record batch message", reason=Reason.INVALID_ARROW)
    return decode_batch(memoryview(data), message, schema.wire, limits, field)


def read_stream(data: bytes, limits: Limits, field: str) -> tuple[pa.Schema, list[pa.RecordBatch], list[Message]]:
    """Decodes and validates an Arrow IPC stream: its schema, its batches and where they lie."""
    schema = read_schema(data, limits, field)
    view = memoryview(data)
    messages = list(read_messages(view, field))[1:]
    if any(message.kind != RECORD_BATCH for message in messages):
        raise InvalidError(field, "has messages other than a schema and record batches", reason=Reason.INVALID_ARROW)
    return schema, [decode_batch(view, message, schema, limits, field) for message in messages], messages


def check_rows(batch: pa.RecordBatch, foreign: ForeignRows | None, field: str) -> None:
    """Checks the columns that refer to the input table.

    Raises:
        InvalidError: ROW_COUNT_MISMATCH without an `example_id`, EXAMPLE_ID_OUT_OF_RANGE if one is null or no row of
        the
            table, INVALID_COLUMN if it is not an integer.
    """
    if foreign is None or batch.num_rows == 0:
        return
    if EXAMPLE_ID not in batch.schema.names:
        raise InvalidError(
            field,
            f"the table refers to an input table, so each row needs a column {EXAMPLE_ID!r} (int64): the 0-based row "
            "of that table",
            reason=Reason.ROW_COUNT_MISMATCH,
        )
    column = batch.column(EXAMPLE_ID)
    if not pa.types.is_integer(column.type):
        raise InvalidError(field, f"{EXAMPLE_ID!r} is {column.type}; send it as int64", reason=Reason.INVALID_COLUMN)
    ends = pc.min_max(column)
    least, greatest = ends["min"].as_py(), ends["max"].as_py()
    if column.null_count or least < 0 or greatest >= foreign.row_count:
        found = "a null" if column.null_count else f"{least} to {greatest}"
        raise InvalidError(
            field,
            f"{EXAMPLE_ID!r} has {found}, and the input table has rows 0 to {foreign.row_count - 1}",
            reason=Reason.EXAMPLE_ID_OUT_OF_RANGE,
        )


def make_chunk(
    batch: pa.RecordBatch, data: bytes | memoryview, schema: WireSchema, foreign: ForeignRows | None
) -> Iterator[Chunk]:
    """Gives the chunk of a checked batch; none if it has no rows."""
    if batch.num_rows == 0:
        return
    if schema.recodes:
        batch = _recoded(batch, schema.stored, foreign)
        data = memoryview(batch.serialize())
    yield Chunk(schema.head, data, batch.num_rows, xxhash.xxh3_64_intdigest(data), column_ranges(batch))


def decode_batch(data: memoryview, message: Message, schema: pa.Schema, limits: Limits, field: str) -> pa.RecordBatch:
    """Decodes and validates a record batch message. Raises as `read_batch` does."""
    _check_size(message, limits, field)
    wanted = count_arrays(schema)
    if message.nodes != wanted:
        # Arrow leaves out what the schema does not name, and nobody would hear that it is gone.
        raise InvalidError(
            field,
            f"the batch has {message.nodes} arrays and its schema {wanted}, columns and what is nested in them; send "
            "the schema that it was made with",
            reason=Reason.INVALID_ARROW,
        )
    try:
        batch = pa.ipc.read_record_batch(pa.py_buffer(data[message.begin : message.end]), schema)
        batch.validate(full=True)
    except Exception as error:  # as above
        raise _invalid_arrow(field, error) from error
    for column in batch.columns:
        _check_nested_length(column, limits, field)
    return batch


def check_columns(schema: pa.Schema, limits: Limits, field: str) -> None:
    """Checks the columns that somebody wants to write. Raises InvalidError and ExhaustedError."""
    try:
        check_schema(schema, limits.max_columns)
    except RundError as error:
        error.blame(field)
        raise


def _stored_type(field: pa.Field[Any], fixed: Mapping[str, pa.DataType]) -> pa.DataType:
    wanted: pa.DataType = fixed.get(field.name, field.type)
    fits = (
        field.type == wanted
        or (pa.types.is_integer(field.type) and pa.types.is_integer(wanted))
        or (pa.types.is_timestamp(field.type) and pa.types.is_timestamp(wanted))
    )
    if not fits:
        raise InvalidError(
            "batch",
            f"column {field.name!r} is {field.type}, and must be {wanted}; send that, or rename the column",
            reason=Reason.INVALID_COLUMN,
            column=field.name,
        )
    return wanted


def _recoded(batch: pa.RecordBatch, stored: pa.Schema, foreign: ForeignRows | None) -> pa.RecordBatch:
    columns: list[Any] = []
    for field in stored:
        if field.name not in batch.schema.names:
            assert foreign is not None
            columns.append(pa.repeat(pa.scalar(foreign.input_table_id, pa.int32()), batch.num_rows))
            continue
        try:
            columns.append(batch.column(field.name).cast(field.type))
        except pa.ArrowInvalid as error:
            raise InvalidError(
                "batch",
                f"column {field.name!r} has values that {field.type} can't hold: {error}",
                reason=Reason.INVALID_COLUMN,
                column=field.name,
            ) from error
    return pa.RecordBatch.from_arrays(columns, schema=stored)


def _check_size(message: Message, limits: Limits, field: str) -> None:
    size = message.end - message.begin
    check_limit("bytes", size, limits.max_batch_bytes, field)
    check_limit("rows", message.rows, limits.max_batch_rows, field)


def _check_nested_length(array: Any, limits: Limits, field: str) -> None:
    """Bounds lists of nulls: as many values as one likes in no bytes, until somebody has to look at them."""
    if not pa.types.is_nested(array.type):
        return
    if pa.types.is_struct(array.type):
        children = [array.field(index) for index in range(array.type.num_fields)]
    elif pa.types.is_map(array.type):
        children = [array.keys, array.items]
    else:
        children = [array.values]
    for child in children:
        if len(child) > 8 * child.nbytes:
            check_limit("rows", len(child), limits.max_batch_rows, field)
        _check_nested_length(child, limits, field)


def check_limit(what: str, value: int, limit: int, field: str) -> None:
    """Checks the rows or bytes of a batch. Raises ExhaustedError."""
    if value > limit:
        raise ExhaustedError(
            Reason.OVER_LIMIT,
            f"{field}: the batch has {value} {what} and the limit is {limit}; split it by rows",
            field=field,
            limit=f"max_batch_{what}={limit}",
            value=value,
        )


def _invalid_arrow(field: str, error: Exception) -> InvalidError:
    return InvalidError(field, f"the data is not valid Arrow IPC: {str(error)[:300]}", reason=Reason.INVALID_ARROW)
