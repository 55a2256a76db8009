"""Reads CSV files that lie outside the root: RFC 4180, UTF-8, with a header line.

A file has no types, so they are found by reading all of it once, in blocks: a column has the narrowest type that
parses every value (null, then int64 → float64, bool, date → timestamp, timestamp in UTC, else text). Each block is
taken as text and then parsed, here and when rows are read, so a value that was counted can always be read, and
where blocks begin does not matter. (pyarrow's own inference looks at the first block only, and fails at the first
word in row 1,000,000.)

An empty field is null in every column, `""` is an empty text, and nothing else is null: `NA` is a country,
too. Space around numbers and times is ignored. Blank lines are left out. A column without a name, such as
the index that pandas writes, is called `unnamed_` and its place from 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, types
from rund_rows.recast import Array

from rund_daemon.segments.plain_types import batch_of
from rund_daemon.segments.registered_files import Place
from rund_daemon.segments.row_window import RowWindow

# A record must fit into a block. pyarrow reads up to 32 blocks ahead, so this bounds the memory, too.
_BLOCK_BYTES = 1 << 20

# Types that are tried, each followed by those that parse all that it parses. Nanoseconds do not reach as far as
# microseconds do, so they are tried again at the end.
_CHAINS: tuple[tuple[pa.DataType, ...], ...] = (
    (pa.int64(), pa.float64()),
    (pa.bool_(),),
    (pa.date32(), pa.timestamp("us"), pa.timestamp("ns")),
    (pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC")),
)


def measure(path: Place) -> tuple[int, pa.Schema]:
    """Gives the rows and the schema of a file. It is read once, in blocks."""
    header = _header(path)
    kinds: list[pa.DataType] = [pa.null()] * len(header)
    rows = 0
    for batch in _text_batches(path, header, ()):
        rows += batch.num_rows
        kinds = [_narrowest(texts, kind) for texts, kind in zip(batch.columns, kinds, strict=True)]
    for column, kind in enumerate(kinds):
        if _is_in_nanoseconds(kind) and not _parses_all(path, header, column, kind):
            kinds[column] = pa.string()
    return rows, pa.schema(list(zip(_column_names(header), kinds, strict=True)))


def merge(a: pa.Schema, b: pa.Schema) -> pa.Schema:
    """Gives the schema with which the texts of both files can be parsed."""
    types_of_b = {field.name: field.type for field in b}
    fields = [pa.field(field.name, _merge_types(field.type, types_of_b.get(field.name))) for field in a]
    return pa.schema([*fields, *(field for field in b if a.get_field_index(field.name) < 0)])


def read_rows(path: Place, schema: pa.Schema, window: RowWindow) -> Iterator[pa.RecordBatch]:
    """Reads those columns of `schema` that the file has, of the rows in the window, parsed as it says."""
    header = _header(path)
    written_as = dict(zip(_column_names(header), header, strict=True))
    present = pa.schema([field for field in schema if field.name in written_as])
    wanted = [written_as[name] for name in present.names] or header[:1]
    for batch in _text_batches(path, header, wanted):
        first, count = window.take(batch.num_rows)
        if count:
            texts = batch.slice(first, count)
            columns = [_parse(column, field.type) for column, field in zip(texts.columns, present, strict=False)]
            yield batch_of(columns, present, count)
        if window.done:
            return


def _header(path: Place) -> list[str]:
    with _open(path, csv.ConvertOptions()) as reader:
        return list(reader.schema.names)


def _column_names(header: Sequence[str]) -> list[str]:
    return [name or f"unnamed_{place}" for place, name in enumerate(header)]


def _text_batches(path: Place, header: Sequence[str], wanted: Sequence[str]) -> Iterator[pa.RecordBatch]:
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(header, pa.string()),
        include_columns=list(wanted),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with _open(path, options) as reader:
        yield from reader


@contextmanager
def _open(path: Place, options: csv.ConvertOptions) -> Iterator[csv.CSVStreamingReader]:
    try:
        with csv.open_csv(
            str(path) if isinstance(path, Path) else path.open(),
            read_options=csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            convert_options=options,
        ) as reader:
            yield reader
    except pa.ArrowInvalid as error:
        if "straddl" not in str(error):
            raise
        raise ValueError(f"it has a record of more than {_BLOCK_BYTES} bytes; write it as Parquet") from error


def _narrowest(texts: Array, so_far: pa.DataType) -> pa.DataType:
    """Gives the type that parses these texts and all that `so_far` has parsed."""
    if types.is_string(so_far) or texts.null_count == len(texts):
        return so_far
    candidates = [kind for chain in _CHAINS for kind in chain] if types.is_null(so_far) else _widening(so_far)
    return next((kind for kind in candidates if _can_parse(texts, kind)), pa.string())


def _widening(kind: pa.DataType) -> Sequence[pa.DataType]:
    """Gives a type and those that parse all that it parses; none for text."""
    return next((chain[chain.index(kind) :] for chain in _CHAINS if kind in chain), ())


def _merge_types(a: pa.DataType, b: pa.DataType | None) -> pa.DataType:
    if b is None or types.is_null(b) or a == b:
        return a
    if types.is_null(a):
        return b
    wider = next((kind for kind in _widening(a) if kind in _widening(b)), pa.string())
    return pa.string() if _is_in_nanoseconds(wider) else wider


def _is_in_nanoseconds(kind: Any) -> bool:
    return types.is_timestamp(kind) and kind.unit == "ns"


def _parses_all(path: Place, header: Sequence[str], column: int, kind: pa.DataType) -> bool:
    return all(_can_parse(batch.column(column), kind) for batch in _text_batches(path, header, ()))


def _can_parse(texts: Array, kind: pa.DataType) -> bool:
    if kind == pa.int64() and _any(pc.match_substring(texts, "x"), pc.match_substring(texts, "X")):
        return False  # Arrow takes 0x1F for an integer but not for a float
    if types.is_boolean(kind) and _any(pc.is_in(texts, pa.array(["0", "1"]))):
        return False  # and 1 for a truth value, if it has not met an integer before
    try:
        _parse(texts, kind)
    except pa.ArrowInvalid:
        return False
    return True


def _any(*masks: Any) -> bool:
    return any(pc.any(mark).as_py() for mark in masks)


def _parse(texts: Array, kind: pa.DataType) -> Array:
    if types.is_string(kind):
        return texts
    if types.is_null(kind) and texts.null_count == len(texts):
        return pa.nulls(len(texts))
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return pc.utf8_trim_whitespace(texts).cast(kind)
