"""The method of ``Run`` that plots, and what it gives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rund._errors import InvalidFieldError, MissingPackageError, RundError
from rund._root import PathLike
from rund._rows import InputRows, find_or_register
from rund._table import Table

from . import page, picture
from .maps import find_map
from .points import Points, points_of
from .rows import MapReader

if TYPE_CHECKING:  # Run binds one of these functions, so it imports this module
    from rund._run import Run

_SUFFIXES = (".png", ".html", ".htm")
_MAX_CELL_BYTES = 16 * 1024 * 1024


class EmbeddingPlot:
    """A map of a run's rows, to be saved or shown in a notebook. Given by ``Run.plot_embedding``.

    Rows are read when they are needed: a PNG takes the map and the colours, a page all columns of single values. Later
    pictures are of the same rows, whatever is recorded meanwhile.

    Attributes:
        column: Name of the map's column.
        table_names: The metrics tables whose rows are shown.
        color: The column that gives the colours; None for one colour.
        by: The column whose values each have a panel; None for one panel.
    """

    def __init__(self, run_name: str, reader: MapReader, color: str | None, by: str | None) -> None:
        self._run_name = run_name
        self._reader = reader
        self._narrow: Points | None = None
        self._wide: Points | None = None
        self.column = reader.map.column
        self.table_names = tuple(table.info.name for table in reader.map.tables)
        self.color = color
        self.by = by

    @property
    def point_count(self) -> int:
        """How many points are shown."""
        return len(self._points(wide=False))

    @property
    def left_out_count(self) -> int:
        """Rows without a place on the map: null or not finite there."""
        return self._points(wide=False).left_out

    @property
    def panel_names(self) -> tuple[str, ...]:
        """The values of ``by`` that have a panel, in order."""
        return self._points(wide=False).panel_names

    def save(self, path: PathLike) -> None:
        """Writes a picture (``.png``) or a page (``.html``). The file appears when it is whole.

        Raises:
            InvalidFieldError: The path ends otherwise (a ValueError).
            MissingPackageError: Matplotlib is needed for a PNG and not installed (an ImportError).
        """
        target = checked_path(path)
        data = self.to_png() if target.suffix.lower() == ".png" else self.to_html().encode()
        part = target.with_name(f".{target.name[:80]}.{os.getpid()}.part")
        try:
            part.write_bytes(data)
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def to_png(self) -> bytes:
        """The picture. A map of three dimensions is drawn as it looks from where it spreads most.

        Raises:
            MissingPackageError: Matplotlib is not installed (an ImportError).
        """
        return picture.png(self._points(wide=False), self._heading(), self.color, self.by)

    def to_html(self) -> str:
        """The page: one file that loads nothing from anywhere, for any browser of today.

        Raises:
            OverLimitError: It would have more than 256 MB (an OSError).
        """
        return page.html(self._points(wide=True), self._heading(), self.column, self.color, self.by)

    def _points(self, *, wide: bool) -> Points:
        if wide and self._wide is None:
            self._wide = points_of(self._reader.read(list(self._reader.sources)), self.by)
        if self._wide is not None:
            return self._wide
        if self._narrow is None:
            names = dict.fromkeys(name for name in (self.color, self.by) if name is not None)
            self._narrow = points_of(self._reader.read(list(names)), self.by)
        return self._narrow

    def _heading(self) -> str:
        return f"{self._run_name} · {self.column}"

    def _repr_png_(self) -> bytes | None:
        try:
            return self.to_png()
        except MissingPackageError:
            return None

    def _repr_html_(self) -> str | None:
        content = self.to_html()
        # A notebook keeps what its cells show; a huge page would make it one that nobody can open.
        return page.frame(content) if len(content) <= _MAX_CELL_BYTES else None

    def __repr__(self) -> str:
        return (
            f"EmbeddingPlot({self._heading()!r}, tables={list(self.table_names)}, color={self.color!r}, by={self.by!r})"
        )


def plot_embedding(
    run: Run,
    path: PathLike | None = None,
    *,
    color: str | None = None,
    by: str | None = None,
    table: str | Sequence[str] | None = None,
    column: str | None = None,
) -> EmbeddingPlot:
    """Draws a map of embeddings: a PNG, or a page with zoom, the values of each row, and colours by any column.

    A map is a column of 2 or 3 floats a row with the role XY or XYZ, as reductions write it. Columns are those of the
    metrics tables, constants too, and those of the input table that their rows refer to, which bear ``_input`` behind
    their name where a metrics table has the same one. The run may go on: shown is what is committed now.

    Args:
        run: The run.
        path: Where to write it, by suffix: ``.png`` (needs Matplotlib: ``rund[plot]``) or ``.html``. None: nowhere;
            save or show what is returned.
        color: The column to colour by. Classes, texts and whole numbers of few values are categories, of which the
            ten with the most rows have a colour; others are a scale. None: a column with the role LABEL if there is
            one, rather that of the input table.
        by: The column whose values each have a panel, side by side in one space, such as ``epoch``. Of more than 16
            values 16 are shown, from the first to the last.
        table: Name of the metrics table, or of several. None: the newest one with a map; with ``by`` also all
            others with that map and the same input table.
        column: The map's column; it must be given where a table has several.

    Raises:
        MetricsTableNotFoundError: There is no such table (a FileNotFoundError).
        InvalidColumnError: There is no map or no such column; the message says what there is (a ValueError).
        InvalidFieldError: The path ends neither in .png nor in .html (a ValueError).
        MissingPackageError: Matplotlib is not installed (an ImportError).
        OverLimitError: A page would have more than 256 MB (an OSError).
    """
    if path is not None:
        checked_path(path)
    name = f"{run.project_name}/{run.name}"
    names = [table] if isinstance(table, str) else list(table or ())
    found = find_map(name, run.metrics_tables, names, column, all_tables=by is not None)
    reader = MapReader(found, *_input_table(run, found.foreign_table_url))
    chosen = reader.label() if color is None else reader.checked("color", color)
    plot = EmbeddingPlot(name, reader, chosen, None if by is None else reader.checked("by", by))
    if path is not None:
        plot.save(path)
    return plot


def checked_path(path: PathLike) -> Path:
    """Where to write to.

    Raises:
        InvalidFieldError: The suffix says nothing of what to write.
    """
    target = Path(path)
    if target.suffix.lower() not in _SUFFIXES:
        raise InvalidFieldError(f"path: {str(path)!r} ends in neither .png nor .html, which says what to write")
    return target


def _input_table(run: Run, url: str) -> tuple[Table | None, str]:
    """The input table at a URL, or why there is none: a map can be drawn without it."""
    if not url:
        return None, "the rows refer to no input table"
    if run.read_only:
        return None, "a bundle holds no input tables"
    try:
        return Table(InputRows(run.daemon, find_or_register(run.daemon, url))), ""
    except RundError as error:
        return None, f"the input table can't be read: {error}"
