"""The map as a PNG, drawn with Matplotlib. It is imported here, when a picture is drawn, and nowhere else."""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rund._errors import MissingPackageError
from rund._frames import package

from .columns import Categories, Column, Numbers, title_of
from .palette import COLOURS, NONE, OTHER, with_colour
from .points import Points, view_of

_DPI = 150
_PANEL_INCHES = 3.2
_SINGLE_INCHES = 6.5
_LEGEND_INCHES = 1.1
_LETTER_INCHES = 0.095
_ONE_ROW = 4
_MARGIN = 0.04
_NAME_LENGTH = 32

Colours: TypeAlias = npt.NDArray[np.float64]
Legend: TypeAlias = Sequence[tuple[str, str]]


def png(points: Points, heading: str, color: str | None, by: str | None) -> bytes:
    """Draws the points.

    Raises:
        MissingPackageError: Matplotlib is not installed.
    """
    try:
        mpl, figures = package("matplotlib"), package("matplotlib.figure")
    except MissingPackageError:
        raise MissingPackageError(
            "matplotlib is not installed, which draws PNGs; pip install 'rund[plot]', or write .html"
        ) from None
    # TeX would read names as its own commands. No state of pyplot is touched: a notebook's figures are its own.
    with mpl.rc_context({"text.usetex": False}), warnings.catch_warnings():
        # A name in a script that the font lacks is drawn with boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = _drawn(figures, points, heading, color, by)
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=_DPI, metadata={"Title": heading})
    return data.getvalue()


def _drawn(figures: Any, points: Points, heading: str, color: str | None, by: str | None) -> Any:
    count = len(points.panel_names)
    columns = count if count <= _ONE_ROW else math.ceil(math.sqrt(1.6 * count))
    rows = math.ceil(count / columns)
    size = _SINGLE_INCHES if count == 1 else _PANEL_INCHES
    colours, legend, scale = _colours(points, color)
    beside = _LEGEND_INCHES if scale else 0.6 + _LETTER_INCHES * max((len(name) for name, _ in legend), default=0)
    figure = figures.Figure(figsize=(columns * size + beside, rows * size + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    places = _seen(points)
    for number, (panel, name) in enumerate(zip(axes, points.panel_names, strict=False)):
        title = f"{by} {name}" if by else ""
        _draw_panel(panel, places[points.panel == number], colours[points.panel == number], title, size)
    for panel in axes[count:]:
        panel.set_axis_off()
    _set_limits(axes[0], places)
    figure.suptitle(_line(heading, 100), fontsize=12, parse_math=False)
    figure.supxlabel("; ".join(notes(points)), fontsize=8, color="#555555", parse_math=False)
    if legend:
        _draw_legend(figure, legend, _line(title_of(points.columns[color].schema)) if color else "")
    elif scale is not None and color is not None:
        bar = figure.colorbar(scale[0], ax=list(axes), extend=scale[1], shrink=0.8, aspect=30, pad=0.02)
        bar.set_label(_line(title_of(points.columns[color].schema)), parse_math=False)
    return figure


def notes(points: Points) -> list[str]:
    """What a reader must know of the points."""
    lines = [f"{len(points):,} points"]
    if points.left_out:
        lines.append(f"{points.left_out:,} rows without a place left out")
    if points.elsewhere:
        lines.append(f"{len(points.panel_names)} of {points.panel_count:,} panels shown")
    return lines


def _seen(points: Points) -> npt.NDArray[np.float64]:
    """The points on the picture: right, up, and, of three dimensions, towards the eye."""
    view = view_of(points.places) if len(points) else None
    if view is None:
        return points.places.astype(np.float64)
    return (points.places.astype(np.float64) - view.middle) @ view.rotation.T


def _draw_panel(panel: Any, places: npt.NDArray[np.float64], colours: Colours, title: str, size: float) -> None:
    if places.shape[1] == 3:
        nearest_last = np.argsort(places[:, 2], kind="stable")
        places, colours = places[nearest_last], colours[nearest_last]
    area = float(np.clip(400 / math.sqrt(max(len(places), 1)), 0.6, 40)) * (size / _SINGLE_INCHES) ** 1.5
    panel.scatter(places[:, 0], places[:, 1], s=area, c=colours, linewidths=0, alpha=0.8, rasterized=True)
    panel.set_title(_line(title), fontsize=10, parse_math=False)
    # The axes of a map mean nothing; what is near to what does.
    panel.set(xticks=[], yticks=[])
    panel.spines[:].set_color("#cccccc")


def _set_limits(panel: Any, places: npt.NDArray[np.float64]) -> None:
    if not len(places):
        return
    low, high = places[:, :2].min(axis=0), places[:, :2].max(axis=0)
    middle, half = (low + high) / 2, max(float((high - low).max()) / 2, 1e-6) * (1 + 2 * _MARGIN)
    panel.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    for one in panel.figure.axes:
        one.set_box_aspect(1)


def _colours(points: Points, color: str | None) -> tuple[Colours, Legend, tuple[Any, str] | None]:
    """The colour of each point, and a legend or a scale that explains them."""
    rgba = package("matplotlib.colors").to_rgba_array
    column: Column | None = points.columns[color] if color is not None else None
    if column is None:
        return rgba([COLOURS[0]] * len(points)), (), None
    if isinstance(column, Numbers):
        return _on_scale(column)
    return _by_category(column, rgba)


def _by_category(column: Categories, rgba: Any) -> tuple[Colours, Legend, None]:
    chosen, counts = with_colour(column), column.counts()
    own = dict(zip(chosen.tolist(), COLOURS, strict=False))
    table = rgba([own.get(code, OTHER) for code in range(len(column.names))] + [NONE])
    legend = [(_line(column.names[code]), colour) for code, colour in own.items()]
    if others := int((counts > 0).sum()) - len(own):
        legend.append((f"other ({others:,})", OTHER))
    if (column.codes < 0).any():
        legend.append(("none", NONE))
    return table[column.codes], legend, None


def _on_scale(column: Numbers) -> tuple[Colours, Legend, tuple[Any, str]]:
    low, high = column.scale()
    finite = column.values[np.isfinite(column.values)]
    below, above = bool((finite < low).any()), bool((finite > high).any())
    norm = package("matplotlib.colors").Normalize(low, high)
    scale = package("matplotlib.cm").ScalarMappable(norm, "viridis")
    missing = np.isnan(column.values)
    colours = scale.to_rgba(np.where(missing, low, np.clip(column.values, low, high)))
    colours[missing] = package("matplotlib.colors").to_rgba(NONE)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    return colours, (), (scale, extend[below, above])


def _draw_legend(figure: Any, legend: Legend, title: str) -> None:
    line = package("matplotlib.lines").Line2D
    handles = [line([], [], linestyle="", marker="o", markersize=7, color=colour) for _, colour in legend]
    drawn = figure.legend(handles, [name for name, _ in legend], loc="outside right upper", title=title, frameon=False)
    for text in (*drawn.get_texts(), drawn.get_title()):
        text.set_parse_math(False)


def _line(text: str, length: int = _NAME_LENGTH) -> str:
    """A name on one line, without what steers a terminal or a layout."""
    plain = "".join(" " if unicodedata.category(character) in ("Cc", "Zl", "Zp") else character for character in text)
    return plain if len(plain) <= length else plain[: length - 1] + "…"
