"""How values read in the command line's text and JSON."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rund_daemon.cli.json_form import json_document, json_form, json_line, utc_text
from rund_daemon.cli.wording import bytes_text, count_text, plain_text, printable, span_text, value_text

NOON = dt.datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=dt.UTC)


class Number(IntEnum):
    ONE = 1


class Word(StrEnum):
    FIRST = "first"


@dataclass(frozen=True, slots=True)
class Record:
    name: str
    parts: tuple[float, ...]


class TestJson:
    @pytest.mark.parametrize(
        ("value", "form"),
        [
            (10, 10),
            (10.0, 10.0),
            (2**70, 2**70),
            (True, True),
            (None, None),
            (math.nan, "NaN"),
            (math.inf, "Infinity"),
            (-math.inf, "-Infinity"),
            (b"\x00\xff", "AP8="),
            (NOON, "2026-11-23T12:00:00.000005Z"),
            (dt.date(2026, 1, 2), "2026-01-02"),
            (dt.timedelta(seconds=1.5), 1.5),
            (decimal.Decimal("1.10"), "1.10"),
            (Path("/a/b"), "/a/b"),
            (Number.ONE, "ONE"),
            (Word.FIRST, "first"),
            ({1: "a", Word.FIRST: [math.nan]}, {"1": "a", "first": ["NaN"]}),
            (Record("n", (1.0, math.inf)), {"name": "n", "parts": [1.0, "Infinity"]}),
        ],
    )
    def test_each_kind_has_a_form(self, value: object, form: object) -> None:
        assert json_form(value) == form
        assert type(json_form(value)) is type(form)

    def test_what_has_no_form_is_a_fault(self) -> None:
        with pytest.raises(TypeError, match="object"):
            json_form(object())

    def test_a_line_is_one_line_of_ascii(self) -> None:
        line = json_line({"é\n": "\x1b[31m\u2028"})
        assert line.isascii()
        assert line.isprintable()
        assert json.loads(line) == {"é\n": "\x1b[31m\u2028"}

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    def test_what_json_can_hold_comes_back(self, value: object) -> None:
        assert json.loads(json_document(value)) == value

    def test_a_time_of_another_zone_is_given_in_utc(self) -> None:
        time = dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2)))
        assert utc_text(time) == "2025-12-31T23:00:00Z"
        assert utc_text(time.replace(tzinfo=None)) == "2026-01-01T01:00:00"


class TestText:
    @given(st.text())
    def test_no_text_can_steer_a_terminal(self, text: str) -> None:
        shown = printable(text)
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)
        assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")
        shown.encode()  # no lone surrogates

    def test_scripts_stay_as_they_are(self) -> None:
        assert printable("naïve 中文 👩‍💻 [bold]") == "naïve 中文 👩‍💻 [bold]"

    @pytest.mark.parametrize(
        ("count", "text"),
        [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_500_000, "1.4 MiB"), (2**60, "1024.0 PiB")],
    )
    def test_bytes(self, count: int, text: str) -> None:
        assert bytes_text(count) == text

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (90_061, "1 d 1 h")]
    )
    def test_spans(self, seconds: float, text: str) -> None:
        assert span_text(seconds) == text

    def test_counts(self) -> None:
        assert (count_text(1, "run"), count_text(0, "run"), count_text(1234, "run")) == (
            "1 run",
            "0 runs",
            "1,234 runs",
        )

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, ""),
            ("a\tb\nc", "a\\tb\\nc"),
            (0.1, "0.1"),
            (10, "10"),
            (math.nan, "NaN"),
            (True, "true"),
            (NOON, "2026-11-23T12:00:00.000005Z"),
            ([1, None, "é"], '[1, null, "é"]'),
            ({"a": [1.5]}, '{"a": [1.5]}'),
        ],
    )
    def test_plain_values(self, value: object, text: str) -> None:
        assert plain_text(value) == text

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1 / 3, "0.333333"),
            (math.nan, "NaN"),
            (-math.inf, "-Infinity"),
            ([1, 2, 3, 4], "[1, 2, 3, 4]"),
            (list(range(64)), "[0, 1, … 64 values]"),
            ({"a": {"b": [0.25]}, "\x1b": "x"}, "{a: {b: [0.25]}, \\x1b: x}"),
            ("text", "text"),
        ],
    )
    def test_values_for_people(self, value: object, text: str) -> None:
        assert value_text(value) == text
