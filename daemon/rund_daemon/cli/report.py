"""What a command writes: JSON, or text. In a terminal text is tables and colours, elsewhere lines with tabs.

Results go to stdout; hints, progress and errors go to stderr, so that the output of a command can be read by a program.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO, TypeAlias, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from .json_form import json_document
from .wording import plain_text, printable, value_text

Item = TypeVar("Item")

_STYLES: Mapping[str, str] = {
    "RUNNING": "green",
    "COLLECTING": "green",
    "POST_PROCESSING": "green",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
    "PAUSED": "yellow",
    "running": "green",
    "stopped": "yellow",
    "silent": "bold red",
    "unreachable": "bold red",
    "unsettled": "yellow",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """A value with words of its own for people.

    Attributes:
        value: what goes into plain output.
        text: what a terminal shows.
    """

    value: object
    text: str


Cell: TypeAlias = object
"""A value of a table: `Shown`, or anything that `value_text` can put into words."""


@dataclass(frozen=True, slots=True)
class Report:
    """Where a command's results go, and in which form."""

    as_json: bool
    out: Console
    err: Console

    @property
    def for_people(self) -> bool:
        """Whether somebody looks at a terminal."""
        return not self.as_json and self.out.is_terminal

    def document(self, value: object) -> None:
        """Writes the one JSON document of a command."""
        self.write(json_document(value))

    def write(self, line: str) -> None:
        """Writes a line as it is: no wrapping, no markup."""
        self.out.file.write(line + "\n")

    def say(self, text: str) -> None:
        """Says what was done. With `--json` the document says it."""
        if not self.as_json:
            self.write(printable(text))

    def hint(self, text: str) -> None:
        """Says on stderr what may help a person."""
        self.err.file.write(f"{printable(text)}\n")
        self.err.file.flush()

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        """Writes a table."""
        if not self.for_people:
            self._tabbed(headings, rows)
            return
        lines = [tuple(row) for row in rows]
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for place, heading in enumerate(headings):
            numbers = bool(lines) and all(_is_number(line[place]) for line in lines)
            table.add_column(heading, overflow="fold", justify="right" if numbers else "left")
        for line in lines:
            table.add_row(*map(_text, line))
        self.out.print(table)

    def facts(self, pairs: Iterable[tuple[str, Cell]]) -> None:
        """Writes names and values, one pair a line."""
        if not self.for_people:
            self._tabbed((), pairs)
            return
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(Text(printable(name)), _text(value))
        self.out.print(grid)

    def heading(self, text: str) -> None:
        """Writes a line that begins a part of the output, with an empty line before it."""
        self.out.print()
        self.out.print(Text(printable(text), style="bold"))

    def track(self, items: Iterable[Item], doing: str, total: int) -> Iterator[Item]:
        """Gives the items, with a progress bar on stderr while somebody looks."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as progress:
            yield from progress.track(items, total=total, description=doing)

    @contextmanager
    def counting(self, doing: str) -> Iterator[Callable[[int], None]]:
        """Gives what takes numbers of rows, and shows their sum on stderr while somebody looks."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,} rows"))
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as progress:
            task = progress.add_task(printable(doing), total=None)
            yield lambda rows: progress.advance(task, rows)

    @contextmanager
    def shares(self, doing: str) -> Iterator[Callable[[float], None]]:
        """Gives what takes the share that is done, 0 to 1, and shows it on stderr while somebody looks."""
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as progress:
            task = progress.add_task(printable(doing), total=1.0)
            yield lambda share: progress.update(task, completed=share)

    @contextmanager
    def waiting(self, doing: str) -> Iterator[None]:
        """Shows that something is going on, on stderr while somebody looks."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as progress:
            progress.add_task(doing, total=None)
            yield

    def _tabbed(self, headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        if headings:
            self.write("\t".join(headings))
        for row in rows:
            self.write("\t".join(plain_text(cell.value if isinstance(cell, Shown) else cell) for cell in row))


def report_for(*, as_json: bool) -> Report:
    """A report to this process's stdout and stderr. NO_COLOR, TERM and the like are heeded."""
    return Report(as_json, _console(sys.stdout), _console(sys.stderr))


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, markup=False, emoji=False)


def _text(cell: Cell) -> Text:
    text = printable(cell.text) if isinstance(cell, Shown) else value_text(cell)
    return Text(text, style=_STYLES.get(text, ""))


def _is_number(cell: Cell) -> bool:
    value = cell.value if isinstance(cell, Shown) else cell
    return isinstance(value, (int, float)) and not isinstance(value, bool)
