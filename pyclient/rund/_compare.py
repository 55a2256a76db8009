"""Which samples got better or worse: the rows of two metrics tables side by side, matched by a key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ._columns import EXAMPLE_ID
from ._errors import (
    InvalidArgumentError,
    InvalidColumnError,
    InvalidFieldError,
    MetricsTableNotFoundError,
    WrongStateError,
)
from ._plain_arrow import AnyChunked
from ._row_matching import matching_rows
from ._rows import InputRows, find_or_register
from ._table import Table
from ._types import ColumnRole, MetricTableInfo

if TYPE_CHECKING:  # Run binds this function, so it imports this module
    from ._run import Run

_KEY_ROLES = (ColumnRole.EXAMPLE_ID, ColumnRole.INPUT_TABLE_ID)


def compare(
    run: Run,
    other: Run | None = None,
    on: str = EXAMPLE_ID,
    *,
    table: str = "",
    other_table: str = "",
    filter: str = "",  # noqa: A002 - the name that the API gives it
    other_filter: str = "",
    columns: Sequence[str] | None = None,
    join: Sequence[str] = (),
) -> pa.Table:
    """Which samples got better or worse between two runs, or between two epochs of one.

    Each sample that both sides have is one row: the key, and for each column its value here, its value there as
    ``NAME_other``, and for numbers and truth values ``NAME_difference``, there less here. The rows keep the order
    they have here. If a side has a sample more than once, its last row counts.

    Args:
        run: The run on this side, such as the earlier one.
        other: The run on the other side; None: the same run.
        on: The column that says which sample a row is about.
        table: Name of the metrics table; empty: the newest one with the column ``on``.
        other_table: Name of the other side's table; empty: the one named ``table`` if that is given, else the
            newest one with the column ``on`` that is about the same input table and of the same stream.
        filter: Which rows of this side, such as ``epoch = 0``. The newest table is then the newest with such rows.
        other_filter: Which rows of the other side, such as ``epoch = 9``.
        columns: What to compare; None: all numbers and truth values that both sides have.
        join: Columns of the input table to add, those of the sample's row.

    Raises:
        MetricsTableNotFoundError: A side has no such table, or none with the column ``on`` (a FileNotFoundError).
        InvalidColumnError: A column is not there, or can't be compared (a ValueError).
        InvalidFieldError: Both sides are the same rows, or ``example_id`` refers to two input tables (a ValueError).
        WrongStateError: ``join`` is given and the rows refer to no input table (a RuntimeError).
    """
    here = _chosen(run, on, table, filter)
    if other_table or not table:
        there = _chosen(other or run, on, other_table, other_filter, None if other_table else here.info)
    else:
        there = _chosen(other or run, on, table, other_filter)
    _check_sides(here, there, on, filter, other_filter)
    names = _compared(here, there, on) if columns is None else [name for name in columns if name != on]
    keys = dict.fromkeys([on, EXAMPLE_ID] if join else [on])
    ours = here.to_arrow(list(dict.fromkeys([*keys, *names])), filter)
    theirs = there.to_arrow([on, *names], other_filter)
    our_rows, their_rows = matching_rows(ours.column(on), theirs.column(on))
    ours, theirs = ours.take(our_rows), theirs.take(their_rows)
    found = ours.select([on])
    for name in names:
        found = _side_by_side(found, name, ours.column(name), theirs.column(name), _is_measure(here, name))
    if join:
        found = _with_input(found, _input_table(run, here), join, ours.column(EXAMPLE_ID))
    return found


def _chosen(run: Run, on: str, name: str, rows: str, like: object = None) -> Table:
    """The table of that name; without one the newest that has the key, is like another one, and has such rows."""
    fault: InvalidArgumentError | None = None
    for table in _candidates(run, on, name, like):
        try:
            if not rows or name or any(True for _ in table.scan([], rows)):
                return table
        except InvalidArgumentError as error:
            # Another table may have the columns that the filter names.
            fault = error
    if fault is not None:
        raise fault
    wanted = f"metrics table {name!r}" if name else f"metrics table with a column {on!r}"
    if like is not None:
        wanted += ", of the same stream and about the same input table as the other side's"
    if rows and not name:
        wanted += f", with rows where {rows}"
    raise MetricsTableNotFoundError(f"run {run.name} has no {wanted}")


def _candidates(run: Run, on: str, name: str, like: object) -> Iterator[Table]:
    for table in reversed(run.metrics_tables):
        info = table.info
        if name and info.name != name:
            continue
        if name or (on in _column_names(table) and (like is None or _kind(info) == _kind(like))):
            yield table


def _kind(info: object) -> tuple[str, str]:
    return (info.foreign_table_url, info.stream_name) if isinstance(info, MetricTableInfo) else ("", "")


def _column_names(table: Table) -> Sequence[str]:
    return [*(column.name for column in table.columns), *table.constants]


def _check_sides(here: Table, there: Table, on: str, rows: str, other_rows: str) -> None:
    if here.url == there.url and rows == other_rows:
        raise InvalidFieldError(
            f"both sides are the same rows of {here.url}; name another run, two tables (table, other_table) or "
            f"two sets of rows (filter, other_filter)"
        )
    urls = {here.foreign_table_url, there.foreign_table_url} - {""}
    if on == EXAMPLE_ID and len(urls) > 1:
        raise InvalidFieldError(
            f"{EXAMPLE_ID} numbers the rows of two input tables, {' and '.join(sorted(urls))}; compare on a column "
            f"that names a sample in both"
        )


def _compared(here: Table, there: Table, on: str) -> list[str]:
    roles = {column.name: column.role for column in here.columns}
    theirs = {field.name: field.type for field in there.schema}
    return [
        field.name
        for field in here.schema
        if field.name != on
        and roles.get(field.name) not in _KEY_ROLES
        and field.name in theirs
        and _is_plain(field.type)
        and _is_plain(theirs[field.name])
    ]


def _is_plain(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def _is_measure(table: Table, name: str) -> bool:
    """Whether a difference means something: the numbers of a label are names."""
    schemas = [column for column in table.columns if column.name == name]
    return not any(column.role is ColumnRole.LABEL or column.value_map for column in schemas)


def _side_by_side(found: pa.Table, name: str, ours: AnyChunked, theirs: AnyChunked, measure: bool) -> pa.Table:
    found = _appended(_appended(found, name, ours), f"{name}_other", theirs)
    if measure and _is_plain(ours.type) and _is_plain(theirs.type):
        return _appended(found, f"{name}_difference", _difference(ours, theirs))
    return found


def _difference(ours: AnyChunked, theirs: AnyChunked) -> AnyChunked:
    whole = not (pa.types.is_floating(ours.type) or pa.types.is_floating(theirs.type))
    if whole:
        try:
            return pc.subtract_checked(theirs.cast(pa.int64()), ours.cast(pa.int64()))
        except pa.ArrowInvalid:
            pass  # beyond 64 bits a difference is given as nearly as a double can
    return pc.subtract(theirs.cast(pa.float64(), safe=False), ours.cast(pa.float64(), safe=False))


def _appended(found: pa.Table, name: str, column: AnyChunked) -> pa.Table:
    if name in found.column_names:
        raise InvalidColumnError(f"two columns of the result are named {name!r}; choose others with columns=")
    return found.append_column(name, column)


def _input_table(run: Run, here: Table) -> Table:
    url = here.foreign_table_url
    if not url:
        raise WrongStateError(f"{here.url} refers to no input table, so there is nothing to join with")
    return Table(InputRows(run.daemon, find_or_register(run.daemon, url)))


def _with_input(found: pa.Table, foreign: Table, columns: Sequence[str], example_ids: AnyChunked) -> pa.Table:
    matched = foreign.to_arrow(list(columns)).take(example_ids)
    for field, column in zip(matched.schema, matched.columns, strict=True):
        name = f"{field.name}_input" if field.name in found.column_names else field.name
        found = _appended(found, name, column)
    return found
