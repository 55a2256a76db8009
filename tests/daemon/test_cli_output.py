"""The forms of the command line's output: tables in a terminal, lines with tabs elsewhere, JSON when asked for."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console
from rund_daemon.cli.report import Report, Shown
from rund_daemon.cli.row_output import row_output

MakeReport = Callable[..., Report]

HISTORY = pa.RecordBatch.from_pydict(
    {
        "step": pa.array([1, 2]),
        "time": pa.array([0, 1_000_001], pa.timestamp("us", "UTC")),
        "loss": [0.5, math.nan],
        "name": ["a\tb", None],
    }
)


def report(*, width: int = 0, as_json: bool = False, **console: Any) -> Report:
    """A report to memory; with a width it believes in a terminal."""
    out = Console(file=io.StringIO(), width=width or None, force_terminal=bool(width), highlight=False, **console)
    return Report(as_json, out, Console(file=io.StringIO()))


def written(report: Report) -> str:
    stream = report.out.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def hints(report: Report) -> str:
    stream = report.err.file
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def terminal(width: int = 80) -> Report:
    return report(width=width, no_color=True, color_system=None)


class TestTables:
    def test_elsewhere_than_in_a_terminal_values_are_whole_and_tabs_part_them(self) -> None:
        plain = report()
        plain.table(("RUN", "ROWS"), [("a b", Shown(1_000_000, "1 M")), ("x" * 300, None)])
        assert written(plain) == f"RUN\tROWS\na b\t1000000\n{'x' * 300}\t\n"

    def test_in_a_terminal_columns_are_aligned_and_markup_is_text(self) -> None:
        people = terminal()
        people.table(("RUN", "ROWS"), [("[bold]a", Shown(1_000_000, "1 M")), ("b", 7)])
        assert written(people).splitlines() == ["RUN      ROWS", "[bold]a   1 M", "b           7"]

    def test_a_long_name_is_folded_and_never_cut(self) -> None:
        people = terminal(width=20)
        people.table(("RUN", "STATUS"), [("r" * 30, "RUNNING")])
        assert written(people).count("r") == 30

    def test_colours_are_there_and_can_be_turned_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def shown() -> str:
            people = report(width=40, color_system="standard")
            people.table(("STATUS",), [("FAILED",)])
            return written(people)

        monkeypatch.delenv("NO_COLOR", raising=False)
        assert "\x1b[1;31mFAILED" in shown()
        monkeypatch.setenv("NO_COLOR", "1")
        assert "31m" not in shown()

    def test_facts(self) -> None:
        plain, people = report(), terminal()
        for form in (plain, people):
            form.facts([("lr", 1 / 3), ("\x1b[1mkey", [1, 2, 3, 4, 5])])
        assert written(plain) == "lr\t0.3333333333333333\n\\x1b[1mkey\t[1, 2, 3, 4, 5]\n"
        assert [line.rstrip() for line in written(people).splitlines()] == [
            "lr          0.333333",
            "\\x1b[1mkey  [1, 2, … 5 values]",
        ]

    def test_with_json_what_was_done_is_said_by_the_document_alone(self) -> None:
        form = report(as_json=True, width=80)
        form.say("done")
        form.document({"done": True})
        assert json.loads(written(form)) == {"done": True}


class TestRows:
    def test_json_lines(self) -> None:
        form = report(as_json=True)
        row_output(form).write(HISTORY)
        assert [json.loads(line) for line in written(form).splitlines()] == [
            {"step": 1, "time": "1970-01-01T00:00:00Z", "loss": 0.5, "name": "a\tb"},
            {"step": 2, "time": "1970-01-01T00:00:01.000001Z", "loss": "NaN", "name": None},
        ]

    def test_tabs(self) -> None:
        form = report()
        row_output(form).write(HISTORY)
        assert written(form) == (
            "step\ttime\tloss\tname\n1\t1970-01-01T00:00:00Z\t0.5\ta\\tb\n2\t1970-01-01T00:00:01.000001Z\tNaN\t\n"
        )

    def test_a_change_of_columns_begins_anew(self) -> None:
        form = report()
        output = row_output(form)
        for rows in ({"a": [1]}, {"a": [2]}, {"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())}):
            output.write(pa.RecordBatch.from_pydict(rows))
        output.write(pa.RecordBatch.from_pydict({"a": [3], "b": [4]}))
        assert written(form) == "a\n1\n2\n\na\tb\n3\t4\n"

    def test_columns_for_people(self) -> None:
        form = terminal()
        row_output(form).write(HISTORY.drop_columns(["time"]))
        assert written(form).splitlines() == ["step  loss  name", "   1   0.5  a\\tb", "   2   NaN"]

    def test_later_rows_keep_the_widths(self) -> None:
        form = terminal()
        output = row_output(form)
        for text, step in (("ab", 1), ("abcdef", 100_000), ("中文", 2)):
            output.write(pa.RecordBatch.from_pydict({"word": [text], "step": [step]}))
        assert written(form).splitlines() == ["word  step", "ab       1", "abcd  100000", "中文     2"]

    def test_what_does_not_fit_is_left_out_and_that_is_said(self) -> None:
        form = terminal(width=20)
        row_output(form).write(pa.RecordBatch.from_pydict({f"column{number}": [number] for number in range(500)}))
        assert written(form).splitlines() == ["column0  column1", "      0        1"]
        assert "498 of 500 columns are left out" in hints(form)

    def test_one_column_is_shown_however_narrow_the_terminal(self) -> None:
        form = terminal(width=5)
        row_output(form).write(pa.RecordBatch.from_pydict({"long_name": [1]}))
        assert written(form).splitlines() == ["long_name", "        1"]

    @pytest.mark.parametrize(
        ("column", "form"),
        [
            (pa.array([1_234_567_891], pa.timestamp("ns")), "1970-01-01T00:00:01.234567"),
            (pa.array([1_500_000_001], pa.duration("ns")), 1.5),
            (pa.array([1_001], pa.time64("ns")), "00:00:00.000001"),
            (pa.array([[1.0, math.inf]], pa.list_(pa.float32(), 2)), [1.0, "Infinity"]),
            (pa.array([b"\xff"]), "/w=="),
            (pa.array([{"a": 1}]), {"a": 1}),
            (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), [["k", 1]]),
        ],
    )
    def test_columns_of_every_type_have_a_form(self, column: Any, form: object) -> None:
        lines = report(as_json=True)
        row_output(lines).write(pa.RecordBatch.from_arrays([column], names=["x"]))
        assert json.loads(written(lines)) == {"x": form}
