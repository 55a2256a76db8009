"""docs/journal.md says what the files are: a reader written from it alone finds the rows, and its example is real."""

from __future__ import annotations

import itertools
import re
import struct
import zlib
from pathlib import Path

from .conftest import Folder

PAGE = Path(__file__).parents[3] / "docs" / "journal.md"


def read_by_the_page(folder: Path) -> tuple[dict[str, object], list]:
    """Head and rows of the one journal in a folder; knows the page and nothing of rund."""
    (head_path,) = (path for path in folder.iterdir() if path.name.count(".") == 1)
    head = head_path.read_bytes()
    assert len(head) == 32768
    magic, version, _, flags, pid, ticks, made, rank, size, checksum, _ = struct.unpack_from("<8sHHIqqqiIII", head)
    assert (magic, version) == (b"RUNDJRNH", 1)
    assert checksum == zlib.crc32(head[:48] + head[56 : 56 + size])
    texts, at = [], 56
    while at < 56 + size:
        (length,) = struct.unpack_from("<H", head, at)
        texts.append(head[at + 2 : at + 2 + length].decode())
        at += 2 + length
    facts = {"texts": texts, "flags": flags, "pid": pid, "ticks": ticks, "made": made, "rank": rank}
    rows, position = [], 0
    for path in sorted(folder.glob("*.*.journal")):
        data = path.read_bytes()
        base, number, length = struct.unpack_from("<QQH", data, 16)
        assert data[:8] == b"RUNDJRND"
        assert path.name == f"{data[34 : 34 + length].decode()}.{number:04d}.journal"
        assert struct.unpack_from("<I", data, 124)[0] == zlib.crc32(data[:112])
        assert base == position
        ended, end = read_records(data, rows)
        position = base + end - 128
        assert ended == (len(list(folder.glob("*.*.journal"))) > number)
    return facts, rows


def read_records(data: bytes, rows: list) -> tuple[bool, int]:
    shapes, at = {}, 128
    while at < len(data):
        words, code, checksum = struct.unpack_from("<HHI", data, at)
        if words == 0:
            return False, at
        body = data[at + 8 : at + 8 * words]
        assert checksum == zlib.crc32(data[at : at + 4] + body)
        at += 8 * words
        if code == 3:
            return True, at
        if code == 1:
            read_shape(body, shapes, rows)
        elif code == 2:
            rows.append(read_row(body))
        else:
            keys, form = shapes[code]
            step, time, *values = struct.unpack_from(form, body)
            kept = iter(values)
            rows.append((step, time, {key: None if kind == 0 else next(kept) for key, kind in keys}))
    return False, at


def read_shape(body: bytes, shapes: dict, rows: list) -> None:
    code, count, size = struct.unpack_from("<HHI", body)
    at, keys, form = 8, [], "<qq"
    for _ in range(count):
        kind, _, length = struct.unpack_from("<BBH", body, at)
        keys.append((body[at + 4 : at + 4 + length].decode(), kind))
        at += 4 + length
        form += ["", "?", "q", "d"][kind]
    shapes[code] = keys, form
    assert size == 8 + -(-struct.calcsize(form) // 8) * 8


def read_row(body: bytes) -> tuple:
    step, time, count = struct.unpack_from("<qqH", body)
    at, values = 24, {}
    for _ in range(count):
        kind, _, key_length, length = struct.unpack_from("<BBHI", body, at)
        key = body[at + 8 : at + 8 + key_length].decode()
        at += 8 + key_length + length
        data = body[at - length : at]
        if kind == 4:
            values[key] = data.decode()
        elif kind == 5:
            values[key] = list(struct.unpack(f"<{length // 8}d", data))
        else:
            values[key] = struct.unpack("<" + ["", "?", "q", "d"][kind], data)[0] if kind else None
    return step, time, values


def test_the_page_is_enough_to_read_a_journal(folder: Folder) -> None:
    journal = folder.new(total_bytes=64 * 65536, first_file_bytes=4096, file_bytes=8192)
    logged = []
    for n in range(400):
        values = [{"a": n / 3, "b": True}, {"a": n, "none": None}, {"t": f"ü{n}"}, {"l": [1.0, float(n)]}][n % 4]
        journal.append(values, 10 * n)
        logged.append((10 * n, values))
    facts, rows = read_by_the_page(folder.path)
    assert [(step, values) for step, _, values in rows] == logged
    assert all(before <= after for (_, before, _), (_, after, _) in itertools.pairwise(rows))
    (left,) = folder.left()
    who = left.identity
    assert facts["texts"][:6] == [who.writer_id, who.stream_id, who.run, who.run_uid, who.root, who.host]
    assert facts["rank"] == 3
    assert facts["flags"] == 3


def test_the_example_of_the_page_is_a_journal() -> None:
    (example,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL)
    data = bytes.fromhex("".join(line[:25] for line in example.splitlines()))
    rows: list = []
    assert read_records(bytes(128) + data + bytes(8), rows) == (False, 128 + len(data))
    assert rows == [(7, 1, {"loss": 0.5})]
