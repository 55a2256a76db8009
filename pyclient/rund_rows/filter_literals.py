"""What a value in a filter can mean: a text, a number, a truth value, a time. What is compared decides."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from .scanner import Token

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|[+-]?inf(?:inity)?|nan", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d{1,400}")
_TIME = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?")
_DURATION = re.compile(r"([+-]?\d{1,18}(?:\.\d{1,9})?)s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND_NS = 10**9
_TRUTHS = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a filter, with all that it can mean.

    Attributes:
        text: what it says, without quotes, escapes and the stars at its ends.
        quoted: whether it stood in quotes: then it is a text or a time, never a number.
        open_start: whether any text may come before.
        open_end: whether any text may follow.
        position: where it begins, from 0.
        number: its number.
        truth: its truth value.
        time_ns: its time in nanoseconds since 1970 UTC.
    """

    text: str
    quoted: bool
    open_start: bool
    open_end: bool
    position: int
    number: int | float | None
    truth: bool | None
    time_ns: int | None

    @property
    def wild(self) -> bool:
        """Whether it stands for many texts."""
        return self.open_start or self.open_end

    @property
    def anything(self) -> bool:
        """Whether it is a star alone."""
        return self.wild and not self.text

    @property
    def null(self) -> bool:
        """Whether it stands for no value."""
        return self.text == "null" and not self.quoted and not self.wild


def make_literal(token: Token) -> Literal:
    """Gives a word or quoted text its meanings."""
    text = token.text[token.open_start :]
    text = text[: len(text) - token.open_end] if text else text
    plain = not (token.open_start or token.open_end)
    return Literal(
        text,
        token.quoted,
        token.open_start,
        token.open_end,
        token.position,
        number=_number(text) if plain and not token.quoted else None,
        truth=_TRUTHS.get(text.lower()) if plain and not token.quoted else None,
        time_ns=_time_ns(text) if plain else None,
    )


def clock_ns(literal: Literal) -> int | None:
    """Reads `hh:mm:ss.f` as nanoseconds since midnight."""
    match = _CLOCK.fullmatch(literal.text)
    if match is None:
        return None
    hours, minutes, seconds = (int(part or 0) for part in match.groups()[:3])
    if hours > 23 or minutes > 59 or seconds > 59:
        return None
    return ((hours * 60 + minutes) * 60 + seconds) * _SECOND_NS + _fraction_ns(match[4])


def duration_ns(literal: Literal) -> int | None:
    """Reads seconds with an `s`, such as `1.5s`, as nanoseconds."""
    match = _DURATION.fullmatch(literal.text)
    return int(Fraction(match[1]) * _SECOND_NS) if match else None


def _number(text: str) -> int | float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else None


def _time_ns(text: str) -> int | None:
    """Reads RFC 3339; without an offset it is UTC, without a time midnight."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        year, month, day, hour, minute, second = (int(part or 0) for part in match.groups()[:6])
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = (moment - _EPOCH) // timedelta(seconds=1) - _offset_seconds(match[8])
    return seconds * _SECOND_NS + _fraction_ns(match[7])


def _offset_seconds(text: str | None) -> int:
    if not text or text in "Zz":
        return 0
    seconds = int(text[1:3]) * 3600 + int(text[4:6]) * 60
    return -seconds if text[0] == "-" else seconds


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0"))
