"""A torn or flipped journal gives its whole rows up to the damage, and says where that is."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rund._journal_format import DATA_HEAD_BYTES, JournalFormatError
from rund._journal_recovery import LeftJournal, left_journals, read_left_journal

from .conftest import Folder, Row, rows_of

FILE_BYTES = 8192


def make(path: Path) -> list[Row]:
    folder = Folder(path)
    journal = folder.new(total_bytes=64 * FILE_BYTES, first_file_bytes=FILE_BYTES, file_bytes=FILE_BYTES)
    for n in range(500):
        journal.append([{"a": n / 3, "b": True}, {"a": n, "c": None}, {"t": f"row {n}"}][n % 3])
    return rows_of(folder.left()[0].files)


def read(path: Path) -> tuple[LeftJournal, list[Row]]:
    (head,) = left_journals(path)
    left = read_left_journal(head)
    return left, rows_of(left.files)


class Whole(tuple[dict[str, bytes], list[Row]]):
    """A whole journal: contents by name, and the rows in it. Too much to show when a test fails."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "Whole"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    path = tmp_path_factory.mktemp("whole")
    rows = make(path)
    return Whole(({file.name: file.read_bytes() for file in path.iterdir()}, rows))


def damaged(files: dict[str, bytes], name: str, data: bytes | None) -> tuple[LeftJournal, list[Row]]:
    with tempfile.TemporaryDirectory() as path:
        for other, content in files.items():
            Path(path, other).write_bytes(content)
        if data is None:
            Path(path, name).unlink()
        else:
            Path(path, name).write_bytes(data)
        return read(Path(path))


def data_names(files: dict[str, bytes]) -> list[str]:
    return sorted(name for name in files if name.count(".") == 2)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 8 * FILE_BYTES - 1))
def test_a_flipped_bit_costs_what_follows_and_is_reported(whole: Whole, number: int, bit: int) -> None:
    files, rows = whole
    names = data_names(files)
    name = names[number % len(names)]
    used = len(files[name].rstrip(b"\0"))
    content = bytearray(files[name])
    content[bit // 8] ^= 1 << bit % 8
    left, found = damaged(files, name, bytes(content))
    assert found == rows[: len(found)]
    if DATA_HEAD_BYTES <= bit // 8 < used:
        assert len(found) < len(rows)
    if len(found) < len(rows):
        (problem, *_) = left.problems
        assert problem.path.name == name
        assert problem.offset <= bit // 8
        assert problem.message


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1000), st.integers(1, FILE_BYTES - 1))
def test_a_cut_off_file_gives_the_rows_before_the_cut(whole: Whole, number: int, size: int) -> None:
    files, rows = whole
    name = data_names(files)[number % len(data_names(files))]
    left, found = damaged(files, name, files[name][:size])
    assert found == rows[: len(found)]
    if len(found) < len(rows):
        assert left.problems[0].path.name >= name


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1000), st.integers(0, FILE_BYTES - 512))
def test_a_zeroed_stretch_gives_the_rows_before_it(whole: Whole, number: int, begin: int) -> None:
    files, rows = whole
    name = data_names(files)[number % (len(data_names(files)) - 1)]
    content = bytearray(files[name])
    content[begin : begin + 512] = bytes(512)
    left, found = damaged(files, name, bytes(content))
    assert found == rows[: len(found)]
    assert len(found) < len(rows)
    assert left.problems


def test_a_missing_file_ends_the_journal_before_it(whole: Whole) -> None:
    files, rows = whole
    names = data_names(files)
    left, found = damaged(files, names[1], None)
    assert found == rows[: len(found)]
    assert 0 < len(found) < len(rows)
    assert names[2] == left.problems[0].path.name


def test_files_that_were_freed_are_not_missed(whole: Whole) -> None:
    files, rows = whole
    left, found = damaged(files, data_names(files)[0], None)
    assert left.problems == []
    assert found == rows[len(rows) - len(found) :]
    assert 0 < len(found) < len(rows)


def test_the_rest_of_a_record_that_was_begun_is_no_damage(tmp_path: Path) -> None:
    rows = make(tmp_path)
    path = max(tmp_path.glob("*.*.journal"))
    used = len(path.read_bytes().rstrip(b"\0")) // 8 * 8 + 8
    with path.open("r+b") as file:
        file.seek(used + 8)
        file.write(os.urandom(40))
    left, found = read(tmp_path)
    assert found == rows
    assert left.problems == []


def test_a_damaged_or_newer_head_is_refused(tmp_path: Path) -> None:
    make(tmp_path)
    (head,) = left_journals(tmp_path)
    content = head.read_bytes()
    for place, message in ((3, "begin"), (8, "version 2|version 3"), (20, "checksum"), (70, "checksum")):
        flipped = bytearray(content)
        flipped[place] ^= 3 if place == 8 else 1
        head.write_bytes(flipped)
        with pytest.raises(JournalFormatError, match=message):
            read_left_journal(head)
    head.write_bytes(content[:1000])
    with pytest.raises(JournalFormatError):
        read_left_journal(head)
