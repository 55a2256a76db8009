"""The map as a page for a browser: one file with everything in it, that may load nothing from anywhere.

Texts of a run get into the page as JSON in which no character can end a script, and the page makes text of them, never
markup. Its policy allows this script and this style alone, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html as markup
import json
from importlib import resources
from string import Template
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rund._errors import OverLimitError

from .columns import Categories, Column, Numbers, title_of
from .palette import COLOURS, NONE, OTHER, RAMP, with_colour
from .picture import notes
from .points import Points, view_of

Facts: TypeAlias = dict[str, Any]

MAX_BYTES = 256_000_000
"""Of a page. Browsers read no text of more than some 500 MB, and become slow long before."""

_HELP_2D = "wheel: zoom · drag: move · double click: reset · point: values"
_HELP_3D = "wheel: zoom · drag: turn · shift and drag: move · double click: reset · point: values"
_FRAME_HEIGHT = 640


def html(points: Points, heading: str, map_name: str, color: str | None, by: str | None) -> str:
    """The whole page.

    Raises:
        OverLimitError: It would be larger than ``MAX_BYTES``.
    """
    style, script = _part("page.css"), _part("page.js")
    policy = f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; base-uri 'none'"
    facts = _json(facts_of(points, map_name, color, by))
    if len(facts) > MAX_BYTES:
        raise OverLimitError(
            f"{len(points):,} points make a page of {len(facts) // 1_000_000} MB, more than browsers take; name fewer "
            "tables, or draw a PNG"
        )
    return Template(_part("page.html")).substitute(
        policy=policy,
        title=markup.escape(heading),
        notes=markup.escape("; ".join(notes(points))),
        help=_HELP_3D if points.places.shape[1] == 3 else _HELP_2D,
        style=style,
        script=script,
        facts=facts,
    )


def frame(page: str) -> str:
    """The page in a frame of its own, for the cell of a notebook: it can reach nothing of the notebook's."""
    return (
        f'<iframe sandbox="allow-scripts" width="100%" height="{_FRAME_HEIGHT}" frameborder="0" '
        f'srcdoc="{markup.escape(page)}"></iframe>'
    )


def facts_of(points: Points, map_name: str, color: str | None, by: str | None) -> Facts:
    """What the page draws from. Numbers of many rows are little-endian arrays in base64."""
    view = view_of(points.places) if len(points) else None
    width = points.places.shape[1]
    rotation = np.eye(3)
    if view is not None:
        rotation[:width, :width] = view.rotation
    names = list(points.columns)
    ids = [name for name, column in points.columns.items() if column.schema.role == "example_id"]
    counts = np.bincount(points.panel, minlength=len(points.panel_names))
    return {
        "map": map_name,
        "count": len(points),
        "width": width,
        "points": _base64(points.places, "f4"),
        "panels": [
            {"title": f"{by} {name}" if by else "", "count": int(count)}
            for name, count in zip(points.panel_names, counts, strict=True)
        ],
        "middle": [float(value) for value in view.middle] if view is not None else [0.0] * width,
        "rotation": rotation.flatten().tolist(),
        "columns": [_column_facts(column) for column in points.columns.values()],
        "colour": names.index(color) if color is not None else -1,
        "sample": names.index(ids[0]) if ids else -1,
        "palette": COLOURS,
        "ramp": RAMP,
        "other": OTHER,
        "none": NONE,
    }


def _column_facts(column: Column) -> Facts:
    if isinstance(column, Categories):
        return _category_facts(column)
    finite = column.values[np.isfinite(column.values)]
    low, high = column.scale()
    kind = _number_type(column)
    return {
        "title": title_of(column.schema),
        "kind": "time" if column.is_time else "number",
        "type": kind,
        "data": _base64(column.values, kind),
        "low": low,
        "high": high,
        "min": float(finite.min()) if len(finite) else low,
        "max": float(finite.max()) if len(finite) else high,
        "missing": int(np.isnan(column.values).sum()),
    }


def _category_facts(column: Categories) -> Facts:
    # Names that no row has are left out: a picture of some rows needs not hold the texts of all.
    used = np.unique(column.codes[column.codes >= 0])
    codes = np.where(column.codes < 0, len(used), np.searchsorted(used, column.codes))
    kept = Categories(column.schema, np.where(column.codes < 0, -1, codes), tuple(column.names[code] for code in used))
    kind = next(kind for kind in ("u1", "u2", "u4") if len(used) <= np.iinfo(kind).max)
    return {
        "title": title_of(column.schema),
        "kind": "category",
        "type": kind,
        "data": _base64(codes, kind),
        "names": kept.names,
        "top": with_colour(kept).tolist(),
    }


def _number_type(column: Numbers) -> str:
    """The least type whose values show as the six digits that the page writes."""
    values = column.values
    if not len(values) or np.isnan(values).all():
        return "f4"
    if column.is_whole and not np.isnan(values).any() and np.abs(values).max() < 2**31:
        return "i4"
    with np.errstate(over="ignore", invalid="ignore"):
        short = values.astype(np.float32)
        fault = np.nan_to_num(np.abs(short.astype(np.float64) - values), nan=0.0)
        finite = values[np.isfinite(values)]
        spread = float(finite.max() - finite.min()) if len(finite) else 0.0
    return "f4" if not column.is_whole and fault.max() <= 1e-6 * spread else "f8"


def _base64(values: npt.NDArray[Any], kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=f"<{kind}").tobytes()).decode("ascii")


def _json(facts: Facts) -> str:
    """JSON without the characters that could end the element that holds it, or begin another."""
    text = json.dumps(facts, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"


def _part(name: str) -> str:
    return (resources.files(__package__) / name).read_text(encoding="utf-8")
