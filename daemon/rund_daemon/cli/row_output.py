"""Rows as they come: JSON lines, lines with tabs, or columns for people. Nothing is kept, so any number can pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from .json_form import json_line
from .report import Report
from .wording import plain_text, printable, value_text

_WIDEST = 40
_GAP = "  "


class RowOutput(Protocol):
    """Writes batches of rows."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes the rows of a batch; one without rows may announce columns."""


def row_output(report: Report) -> RowOutput:
    """The form that the report has for rows."""
    if report.as_json:
        return _JsonLines(report)
    return _Columns(report) if report.for_people else _Tabbed(report)


class _JsonLines:
    """One object a row."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def write(self, batch: pa.RecordBatch) -> None:
        for row in _rows(batch):
            self._report.write(json_line(row))


class _Tabbed:
    """A heading, then one line a row. A change of columns begins anew after an empty line."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._names: Sequence[str] = ()

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows and batch.schema.names != self._names:
            if self._names:
                self._report.write("")
            self._names = batch.schema.names
            self._report.write("\t".join(map(printable, self._names)))
        for row in _rows(batch):
            self._report.write("\t".join(map(plain_text, row.values())))


class _Columns:
    """Columns as wide as the first rows need. What does not fit into the terminal is left out, and that is said."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._names: Sequence[str] = ()
        self._widths: Sequence[int] = ()

    def write(self, batch: pa.RecordBatch) -> None:
        if not batch.num_rows:
            return
        lines = [[value_text(value) for value in row.values()] for row in _rows(batch)]
        if batch.schema.names != self._names:
            self._begin(batch.schema, lines)
        right = [_is_number(field.type) for field in batch.schema]
        for line in lines:
            self._report.write(self._line(line, right))

    def _begin(self, schema: pa.Schema, lines: Sequence[Sequence[str]]) -> None:
        if self._names:
            self._report.write("")
        self._names = schema.names
        headings = [printable(name) for name in self._names]
        widths = [min(_WIDEST, max(map(cell_len, column))) for column in zip(headings, *lines, strict=True)]
        self._widths = _fitting(widths, self._report.out.width)
        if (left_out := len(widths) - len(self._widths)) > 0:
            self._report.hint(f"{left_out} of {len(widths)} columns are left out; --columns chooses, --json shows all")
        right = [_is_number(field.type) for field in schema]
        self._report.out.print(Text(self._line(headings, right), style="bold"), soft_wrap=True)

    def _line(self, texts: Sequence[str], right: Sequence[bool]) -> str:
        cells = zip(texts, self._widths, right, strict=False)
        return _GAP.join(_padded(text, width, to_right) for text, width, to_right in cells).rstrip()


def _rows(batch: pa.RecordBatch) -> Sequence[dict[str, Any]]:
    # Python's times have no nanoseconds; whoever needs those reads the table itself.
    columns = [_in_micros(column) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()


def _in_micros(column: pa.Array[Any]) -> pa.Array[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    if pa.types.is_duration(kind) and kind.unit == "ns":
        return column.cast(pa.duration("us"), safe=False)
    if pa.types.is_time64(kind) and kind.unit == "ns":
        return column.cast(pa.time64("us"), safe=False)
    return column


def _fitting(widths: Sequence[int], room: int) -> Sequence[int]:
    """The widths of as many columns as fit, at least one."""
    used, fitting = 0, list[int]()
    for width in widths:
        used += width + (len(_GAP) if fitting else 0)
        if fitting and used > room:
            break
        fitting.append(width)
    return fitting


def _padded(text: str, width: int, to_right: bool) -> str:
    room = width - cell_len(text)
    if room < 0:
        return text if to_right else set_cell_size(text, width)
    return " " * room + text if to_right else text + " " * room


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)
