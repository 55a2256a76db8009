"""How values read in text: for people in a terminal, and plain for everything else."""

from __future__ import annotations

import datetime as dt
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence

from .json_form import json_form, utc_text

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

# Overrides of the writing direction: they would let one text look like another.
_DIRECTION_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with escapes for all that would steer a terminal or break a line: others wrote it."""
    return "".join(_escaped(character) for character in text)


def bytes_text(count: int) -> str:
    """A size for people, such as `1.4 MiB`."""
    size, unit = float(count), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{count} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"


def count_text(count: int, noun: str) -> str:
    """`1 run`, `2 runs`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def local_time_text(time: dt.datetime | None) -> str:
    """A time for people, in their time zone; empty for None."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def span_text(seconds: float) -> str:
    """A span of time for people, in its two largest units."""
    left, parts = int(seconds), list[str]()
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def plain_text(value: object) -> str:
    """A value in a plain column: texts as they are, times in UTC, None empty, everything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return utc_text(value)
    form = json_form(value)
    return printable(form if isinstance(form, str) else json.dumps(form, ensure_ascii=False))


def value_text(value: object) -> str:
    """A value for people: like `plain_text`, with short numbers and the rest of long lists left out."""
    if isinstance(value, dt.datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] if value.tzinfo else str(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else plain_text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{printable(str(key))}: {value_text(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        shown = [value_text(item) for item in (value if len(value) <= 4 else value[:2])]
        return "[" + ", ".join(shown) + (f", … {len(value)} values]" if len(value) > 4 else "]")
    return plain_text(value)


def _escaped(character: str) -> str:
    if character in _DIRECTION_OVERRIDES or unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape", "surrogatepass").decode("ascii")
    return character
