"""Segments of every kind, hurt in many places: each read gives rows as they were or CORRUPT, a salvage a prefix."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from rund_daemon.errors import CorruptError
from rund_daemon.model import BatchRef, Segment
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.file_format import PREAMBLE, Block
from rund_daemon.segments.heads import segment_head
from rund_daemon.segments.reader import SegmentReader, StoredBatch
from rund_daemon.segments.salvage import Salvage, salvage_segment
from rund_daemon.segments.seal import write_sealed
from rund_daemon.segments.staged_file import IncomingFile

from tests.chaos.torn_root import torn

BATCHES = 8
NUMBER = 7


def batch(number: int) -> pa.RecordBatch:
    """Columns of each shape: fixed width, with nulls, text, lists of a fixed size and of any."""
    rows = 400
    return pa.record_batch(
        {
            "step": np.arange(number * rows, (number + 1) * rows),
            "loss": pa.array([None if n % 3 else n / 7 for n in range(rows)]),
            "name": pa.array(["", "text", None, "ü" * 9] * (rows // 4)),
            "vector": pa.FixedSizeListArray.from_arrays(np.ones(rows * 4, np.float32), 4),
            "many": pa.array([[1.5] * (n % 4) for n in range(rows)]),
        }
    )


ROWS = [batch(number) for number in range(BATCHES)]
HEAD = segment_head(ROWS[0].schema, (), {})


def make_open(path: Path) -> None:
    path.write_bytes(b"".join([HEAD, *(rows.serialize().to_pybytes() for rows in ROWS)]))


def make_sealed(path: Path, compression: Compression = Compression.NONE) -> None:
    write_sealed(path, HEAD, (large(number) for number in range(BATCHES)), NUMBER, compression)


def large(number: int) -> StoredBatch:
    """One that is not joined with its neighbours."""
    rows = pa.concat_batches([ROWS[number]] * 20)
    data = memoryview(rows.serialize())
    ref = BatchRef(0, len(HEAD), len(data), rows.num_rows, xxhash.xxh3_64_intdigest(data), number * rows.num_rows)
    return StoredBatch(ref, Segment(0, False, len(HEAD) + len(data), rows.num_rows, HEAD, 1), data)


def make_zstd(path: Path) -> None:
    make_sealed(path, Compression.ZSTD)


def make_placed(path: Path) -> None:
    path.write_bytes(b"".join([PREAMBLE, HEAD, *(rows.serialize().to_pybytes() for rows in ROWS)]))
    with IncomingFile(path) as file:
        file.finish(HEAD, [Block.of(offset, data) for offset, _, data in file.messages(HEAD)])


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "open": (make_open, ".arrows"),
    "sealed": (make_sealed, ".arrow"),
    "zstd": (make_zstd, ".arrow"),
    "placed": (make_placed, ".arrow"),
}


@pytest.mark.parametrize("rounds", [200, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hurt_is_told_and_the_rest_is_read(tmp_path: Path, kind: str, rounds: int) -> None:
    make, suffix = KINDS[kind]
    path, chance = tmp_path / f"{NUMBER:06d}{suffix}", random.Random(kind)
    make(path)
    whole, sound = path.read_bytes(), salvage_segment(path, NUMBER)
    segment = Segment(NUMBER, suffix == ".arrow", len(whole), sound.rows, HEAD)
    assert len(sound.refs) > 1
    assert not sound.problem
    told = 0
    for _ in range(rounds):
        hurt = torn(whole, chance)
        path.write_bytes(hurt)
        changed = [ref for ref in sound.refs if part(hurt, ref) != part(whole, ref)]
        for ref in sound.refs:
            assert is_read(tmp_path, segment, ref) == (ref not in changed)
        check_salvage(salvage_segment(path, NUMBER), sound, first_difference(whole, hurt))
        told += bool(changed)
    assert told > rounds / 2


def part(data: bytes, ref: BatchRef) -> bytes:
    return data[ref.offset : ref.offset + ref.length]


def first_difference(whole: bytes, hurt: bytes) -> int:
    differing = np.nonzero(np.frombuffer(whole[: len(hurt)], np.uint8) != np.frombuffer(hurt, np.uint8))[0]
    return int(differing[0]) if len(differing) else len(hurt)


def is_read(folder: Path, segment: Segment, ref: BatchRef) -> bool:
    reader = SegmentReader(folder, [segment])
    try:
        ((found),) = reader.read([ref])
        found.decode().validate(full=True)
    except CorruptError:
        return False
    finally:
        reader.close()
    return True


def check_salvage(found: Salvage, sound: Salvage, at: int) -> None:
    """Without a catalog there are no checksums, and other values are values; what lies before the damage is there."""
    before = [ref for ref in sound.refs if ref.offset + ref.length <= at]
    if before or at >= sound.refs[0].offset:
        assert list(found.refs[: len(before)]) == before
    assert found.rows <= sound.rows or at < found.end
