"""A column as a picture shows it: numbers on a scale, or categories with names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rund._plain_arrow import AnyChunked
from rund._types import ColumnRole, ColumnSchema

MAX_TEXT_LENGTH = 200
"""Characters of a text that are shown; the rest is cut off while it is read."""

FEW = 10
"""Whole numbers with no more different values than this are categories, such as classes without names."""

_EXACT = 2**53
_MISSING = np.iinfo(np.int64).min
_DIGITS = re.compile("([0-9]+)")
_OUTLIERS = (1.0, 99.0)

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Values on a scale.

    Attributes:
        schema: What the column means.
        values: The values; NaN where there is none. Times are milliseconds since 1970.
        is_time: Whether they are times.
        is_whole: Whether they are whole numbers.
    """

    schema: ColumnSchema
    values: Floats
    is_time: bool = False
    is_whole: bool = False

    def scale(self) -> tuple[float, float]:
        """Where colours begin and end: without the lowest and the highest hundredth, which may lie far off."""
        finite = self.values[np.isfinite(self.values)]
        if not len(finite):
            return 0.0, 1.0
        low, high = (float(value) for value in np.percentile(finite, _OUTLIERS))
        return (low, high) if low < high else (float(finite.min()), float(finite.max()))

    def take(self, rows: npt.NDArray[np.int64]) -> Numbers:
        """Some rows of it."""
        return Numbers(self.schema, self.values[rows], self.is_time, self.is_whole)


@dataclass(frozen=True, slots=True)
class Categories:
    """Values with names.

    Attributes:
        schema: What the column means.
        codes: The place of each value in ``names``; -1 where there is none.
        names: The different values in their own order.
    """

    schema: ColumnSchema
    codes: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def counts(self) -> npt.NDArray[np.int64]:
        """How many rows each name has."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.names)).astype(np.int64)

    def take(self, rows: npt.NDArray[np.int64]) -> Categories:
        """Some rows of it."""
        return Categories(self.schema, self.codes[rows], self.names)


Column: TypeAlias = Numbers | Categories


def title_of(schema: ColumnSchema) -> str:
    """How to head a column."""
    name = schema.display_name or schema.name
    return f"{name} ({schema.unit})" if schema.unit else name


def is_cheap(kind: Any) -> bool:
    """Whether columns of a type are one value a row that can be shown: no vectors, images or other bulk."""
    if pa.types.is_dictionary(kind):
        return is_cheap(kind.value_type)
    return any(
        test(kind)
        for test in (
            pa.types.is_boolean,
            pa.types.is_integer,
            pa.types.is_floating,
            pa.types.is_decimal,
            pa.types.is_date,
            pa.types.is_timestamp,
            pa.types.is_time,
            pa.types.is_duration,
            pa.types.is_string,
            pa.types.is_large_string,
        )
    )


def shortened(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The rows with their texts cut: a page of prose in each would not fit into memory, nor into a picture."""
    arrays = [
        pc.utf8_slice_codeunits(column, 0, MAX_TEXT_LENGTH + 1) if _is_text(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def column_of(values: AnyChunked, schema: ColumnSchema) -> Column:
    """Reads a column of a cheap type."""
    kind: Any = values.type
    if pa.types.is_dictionary(kind):
        values, kind = values.cast(kind.value_type), kind.value_type
    if pa.types.is_boolean(kind):
        return Categories(schema, _filled(values.cast(pa.int64()), -1), ("false", "true"))
    if pa.types.is_integer(kind):
        return _integers(values, schema)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return Numbers(schema, _floats(values))
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        ticks = values.cast(pa.timestamp("ms", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        return Numbers(schema, _floats(ticks), is_time=True)
    if pa.types.is_duration(kind):
        return Numbers(schema, _floats(values.cast(pa.duration("us"), safe=False).cast(pa.int64())) / 1e6)
    return _texts(values.cast(pa.string()), schema)


def _integers(values: AnyChunked, schema: ColumnSchema) -> Column:
    bounds: Any = pc.min_max(values).as_py()
    if any(abs(bound or 0) > _EXACT for bound in bounds.values()):
        return _texts(values.cast(pa.string()), schema)  # as numbers they would be rounded
    whole = _filled(values.cast(pa.int64()), _MISSING)
    distinct = np.unique(whole[whole != _MISSING])
    is_named = bool(schema.value_map) or schema.role is ColumnRole.LABEL or len(distinct) <= FEW
    if schema.role is ColumnRole.EXAMPLE_ID or not is_named:
        return Numbers(schema, np.where(whole == _MISSING, np.nan, whole), is_whole=True)
    codes = np.where(whole == _MISSING, -1, np.searchsorted(distinct, whole))
    names = (cut(schema.value_map.get(int(value), str(value))) for value in distinct)
    return Categories(schema, codes, tuple(names))


def _texts(values: AnyChunked, schema: ColumnSchema) -> Categories:
    encoded: Any = pa.concat_arrays(values.chunks or [pa.array([], pa.string())]).dictionary_encode()
    names = [cut(str(name)) for name in encoded.dictionary.to_pylist()]
    order = np.array(sorted(range(len(names)), key=lambda place: _natural(names[place])), dtype=np.int64)
    places = np.empty(len(names) + 1, dtype=np.int64)
    places[order] = np.arange(len(names))
    places[-1] = -1
    codes = np.asarray(encoded.indices.cast(pa.int64()).fill_null(len(names)), dtype=np.int64)
    return Categories(schema, places[codes], tuple(names[place] for place in order))


def _natural(text: str) -> list[tuple[int, str]]:
    """By which texts are ordered: numbers in them by value, so that `layer 10` comes after `layer 2`."""
    parts = _DIGITS.split(text)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def cut(text: str) -> str:
    """A text as long as it may be shown."""
    return text if len(text) <= MAX_TEXT_LENGTH else text[:MAX_TEXT_LENGTH] + "…"


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _floats(values: AnyChunked) -> Floats:
    floats: Any = values.cast(pa.float64(), safe=False)
    return np.asarray(floats.fill_null(np.nan), dtype=np.float64)


def _filled(values: AnyChunked, filler: int) -> npt.NDArray[np.int64]:
    whole: Any = values
    return np.asarray(whole.fill_null(filler), dtype=np.int64)
