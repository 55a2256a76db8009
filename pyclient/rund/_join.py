"""Metrics beside the rows that they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa

from ._columns import EXAMPLE_ID
from ._errors import InvalidColumnError


class ReadableTable(Protocol):
    """What is needed of a table."""

    def to_arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of some columns."""


def join_rows(
    metrics: ReadableTable,
    foreign: ReadableTable,
    columns: Sequence[str] | None,
    input_columns: Sequence[str] | None,
    suffix: str,
) -> pa.Table:
    """The metrics' rows with the columns of the input table behind them.

    An ``example_id`` is the number of a row, so the rows are gathered by number and nothing is hashed.
    """
    wanted = columns if columns is None or EXAMPLE_ID in columns else [*columns, EXAMPLE_ID]
    rows = metrics.to_arrow(wanted)
    if EXAMPLE_ID not in rows.column_names:
        raise InvalidColumnError(f"the metrics table has no rows with an {EXAMPLE_ID!r} to join by")
    matched = foreign.to_arrow(input_columns).take(rows.column(EXAMPLE_ID))
    if columns is not None:
        rows = rows.select(list(columns))
    taken = set(rows.column_names)
    for field, column in zip(matched.schema, matched.columns, strict=True):
        name = f"{field.name}{suffix}" if field.name in taken else field.name
        rows = rows.append_column(field.with_name(name), column)
    return rows
