"""What is logged is what is read back, whatever the keys, the types and their order."""

from __future__ import annotations

import enum
import math
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund._errors import InvalidColumnError, InvalidFieldError, InvalidValueError, RundError, WrongStateError

from .conftest import Folder

SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(["loss", "acc", "lr", "größe", "a/b", "日本", "k" * 255])
ROWS = st.lists(
    st.tuples(st.none() | st.integers(-(2**62), 2**62), st.dictionaries(KEYS, SCALARS, max_size=5)),
    max_size=60,
)


def same(a: object, b: object) -> bool:
    """Whether two values are equal, of one type, and NaN if one is."""
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a):
        return math.isnan(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_every_row_comes_back_as_it_was(rows: list) -> None:
    with tempfile.TemporaryDirectory() as path:
        folder, next_step = Folder(Path(path)), 0
        journal = folder.new(total_bytes=4 * 64 * 1024)
        expected = []
        for step, values in rows:
            journal.append(values, step)
            at = next_step if step is None else step
            next_step = at + 1
            expected.append((at, values))
        found = folder.rows() if rows else []
        assert [step for step, _ in found] == [step for step, _ in expected]
        for (_, values), (_, wanted) in zip(found, expected, strict=True):
            assert values.keys() == wanted.keys()
            assert all(same(values[key], wanted[key]) for key in wanted)


class Level(enum.IntEnum):
    HIGH = 3


class Phase(enum.StrEnum):
    TRAIN = "train"


class Tensor:
    """What torch and JAX have in common, as far as `log` looks."""

    def __init__(self, value: object) -> None:
        self._value = np.asarray(value)
        self.ndim, self.shape = self._value.ndim, self._value.shape

    def item(self) -> object:
        return self._value.item()

    def tolist(self) -> object:
        return self._value.tolist()


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (np.float32(0.5), 0.5),
        (np.float64("nan"), math.nan),
        (np.float16(2), 2.0),
        (np.longdouble(1.5), 1.5),
        (np.int8(-3), -3),
        (np.uint64(7), 7),
        (np.uint64(2**64 - 1), float(2**64 - 1)),
        (np.bool_(True), True),
        (np.array(3), 3),
        (np.array(2.5), 2.5),
        (np.array([1, 2]), [1.0, 2.0]),
        (np.str_("x"), "x"),
        (Tensor(1.25), 1.25),
        (Tensor(4), 4),
        (Tensor([1.0, 2.0]), [1.0, 2.0]),
        ([1, 2.5, True], [1.0, 2.5, 1.0]),
        ((np.float32(1), np.array(2)), [1.0, 2.0]),
        ([], []),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (2**63, float(2**63)),
        (-(10**30), -1e30),
        (Level.HIGH, 3),
        (Phase.TRAIN, "train"),
        (math.inf, math.inf),
    ],
)
def test_values_of_other_libraries_are_kept_as_plain_ones(folder: Folder, value: object, kept: object) -> None:
    journal = folder.new()
    for _ in range(3):
        journal.append({"v": value, "w": 1})
    assert [same(values["v"], kept) for _, values in folder.rows()] == [True] * 3


@pytest.mark.parametrize(
    "value",
    [
        1j,
        b"x",
        object(),
        {"a": 1},
        np.zeros((2, 2)),
        [1, "x"],
        [[1]],
        [None],
        np.array(["a"]),
        "\ud800",
        10**400,
        [10**400],
    ],
)
def test_other_values_are_refused_by_name(folder: Folder, value: object) -> None:
    with pytest.raises(InvalidValueError, match="'bad'") as caught:
        folder.new().append({"good": 1.0, "bad": value})
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("key", ["step", "time", "rank", "", "k" * 256, "ü" * 128, "a\nb", 3, None, "\ud800"])
def test_keys_that_are_no_columns_are_refused(folder: Folder, key: object) -> None:
    with pytest.raises(InvalidColumnError):
        folder.new().append({key: 1.0})


@pytest.mark.parametrize("step", [1.0, "1", True, 2**63, -(2**63) - 1, np.float32(1)])
def test_steps_are_integers_of_64_bits(folder: Folder, step: object) -> None:
    journal = folder.new()
    journal.append({"a": 1.0})
    with pytest.raises(InvalidFieldError, match="step"):
        journal.append({"a": 1.0}, step)
    journal.append({"a": 1.0}, np.int32(5))
    journal.append({"a": 1.0})
    assert [step for step, _ in folder.rows()] == [0, 5, 6]


def test_there_is_no_step_after_the_last_one(folder: Folder) -> None:
    journal = folder.new()
    journal.append({"a": 1.0}, 2**63 - 1)
    with pytest.raises(InvalidFieldError, match="step"):
        journal.append({"a": 1.0})


def test_a_refused_row_leaves_nothing_behind(folder: Folder) -> None:
    journal = folder.new()
    for n in range(50):
        journal.append({"a": float(n)})
        with pytest.raises(RundError):
            journal.append({"a": float(n), "b": object()})
    assert folder.rows() == [(n, {"a": float(n)}) for n in range(50)]


def test_what_is_no_dict_is_refused(folder: Folder) -> None:
    for values in ([1], "a", 3, None):
        with pytest.raises(InvalidValueError, match="dict"):
            folder.new().append(values)


def test_a_key_may_be_a_list_and_a_single_value(folder: Folder) -> None:
    journal = folder.new()
    rows: list[dict[str, object]] = [{"k": [1.0]}, {"k": 1.0}, {"k": None}, {"k": [2.0, 3.0]}]
    for row in rows:
        journal.append(row)
    assert [values for _, values in folder.rows()] == rows


def test_keys_come_in_any_order_and_with_other_types(folder: Folder) -> None:
    journal = folder.new()
    rows = [{"a": 1.0, "b": 2}, {"b": 3, "a": 4.0}, {"a": 5, "b": 6.5}, {"a": True, "b": 7}, {"a": 8.0, "c": 9}] * 2
    for values in rows:
        journal.append(values)
    journal.append({"a": 10.0, "b": 11}, np.int64(40))
    journal.append({"a": 12.0, "b": 13})
    kept = folder.rows()
    assert [step for step, _ in kept] == [*range(10), 40, 41]
    wanted = [*rows, {"a": 10.0, "b": 11}, {"a": 12.0, "b": 13}]
    assert all(found.keys() == row.keys() for (_, found), row in zip(kept, wanted, strict=True))
    assert all(same(found[key], row[key]) for (_, found), row in zip(kept, wanted, strict=True) for key in row)


def test_mappings_that_make_up_values_are_asked_for_no_others(folder: Folder) -> None:
    journal = folder.new()
    journal.append({"a": 1.0, "b": 2.0})
    values = defaultdict(float, {"a": 3.0, "c": 4.0})
    journal.append(values)
    assert values == {"a": 3.0, "c": 4.0}
    assert [found for _, found in folder.rows()] == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 4.0}]


@pytest.mark.parametrize("count", [0, 1, 64, 65, 500])
def test_rows_of_any_number_of_keys(folder: Folder, count: int) -> None:
    journal = folder.new()
    values = {f"key {number}": float(number) for number in range(count)}
    for _ in range(3):
        journal.append(values)
    assert folder.rows() == [(step, values) for step in range(3)]


def test_more_shapes_than_codes(folder: Folder) -> None:
    journal = folder.new()
    for n in range(3000):
        journal.append({f"key{n}": n, "n": float(n)})
    assert folder.rows() == [(n, {f"key{n}": n, "n": float(n)}) for n in range(3000)]


def test_rows_go_on_through_many_files(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 * 65536, first_file_bytes=4096, file_bytes=8192)
    for n in range(3000):
        journal.append({"loss": n / 2, "n": n} if n % 7 else {"note": f"row {n}"})
    (left,) = folder.left()
    assert len(left.files) > 10
    assert [step for step, _ in folder.rows()] == list(range(3000))


def test_a_row_that_no_file_holds_is_refused(folder: Folder) -> None:
    with pytest.raises(InvalidValueError, match="'text'"):
        folder.new().append({"loss": 1.0, "text": "x" * 600_000})
    with pytest.raises(InvalidValueError, match="too large"):
        folder.new(total_bytes=64 * 1024).append({"text": "x" * 50_000})


def test_a_closed_journal_takes_no_rows(folder: Folder) -> None:
    journal = folder.new()
    journal.append({"a": 1.0})
    journal.close()
    with pytest.raises(WrongStateError):
        journal.append({"a": 1.0})
    (left,) = folder.left()
    assert left.closed


def test_nothing_is_made_before_the_first_row(folder: Folder) -> None:
    folder.new()
    assert list(folder.path.iterdir()) == []
