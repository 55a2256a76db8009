"""The folders where clients on this host hand files over, and the check of what lies there.

A staged file passes the same checks as a batch that came over the socket. It is checked, made whole and durable on a
thread; the catalog's writer then only gives it its place.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import xxhash

from rund_daemon.errors import InvalidError
from rund_daemon.failpoints import failpoint
from rund_daemon.limits import MIB, Limits
from rund_daemon.segments.file_format import Block
from rund_daemon.segments.heads import read_head
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.ranges import column_ranges
from rund_daemon.segments.space import SpaceFloor, is_full, no_space
from rund_daemon.segments.staged_file import FIELD, IncomingFile, StagedBatch, StagedFile

from .batches import ForeignRows, check_limit, check_rows, decode_batch

MAX_FILE_BYTES = 64 * MIB
"""Largest file that is taken."""
MAX_FILE_BATCHES = 16_384
"""Most batches of one file: each becomes a record of one transaction."""

_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", re.ASCII)


class StagingFolder:
    """The folder of one call."""

    def __init__(self, path: Path, floor: SpaceFloor) -> None:
        self.path = path
        self._floor = floor

    @property
    def min_free_bytes(self) -> int:
        """Free space under which nothing should be staged."""
        return self._floor.min_free_bytes

    def check(self, file_name: str, count: int, head: bytes, foreign: ForeignRows | None, limits: Limits) -> StagedFile:
        """Checks a file, and makes it whole and durable. Call it off the event loop.

        Args:
            file_name: its name in the folder.
            count: how many batches it has.
            head: the schema message that it begins with.
            foreign: the input table that its rows refer to.
            limits: of a batch.

        Raises:
            InvalidError: it is not what it should be.
            ExhaustedError: it is larger than a file may be, or the disk is full.
        """
        if not _FILE_NAME.fullmatch(file_name):
            raise InvalidError(f"{FIELD}.file_name", f"{file_name[:80]!r} is no name of a staged file")
        path = self.path / file_name
        try:
            with IncomingFile(path) as file:
                check_limit("bytes", file.length, MAX_FILE_BYTES, FIELD)
                return _check(path, file, count, _Rows(head, foreign, limits))
        except OSError as error:
            if is_full(error):
                raise no_space(0, self._floor.min_free_bytes) from error
            raise InvalidError(
                f"{FIELD}.file_name", f"{file_name!r} can't be read: {os.strerror(error.errno or 0)}"
            ) from error

    def remove(self) -> None:
        """Removes the folder with what was not taken."""
        shutil.rmtree(self.path, ignore_errors=True)


class Staging:
    """Makes the folders."""

    def __init__(self, layout: Layout, floor: SpaceFloor) -> None:
        self._layout = layout
        self._floor = floor

    def open_folder(self) -> StagingFolder:
        """Makes a folder for a call, under a name that can't be guessed. Call it off the event loop."""
        path = self._layout.incoming(os.urandom(16))
        path.mkdir(mode=0o700, parents=True)
        return StagingFolder(path, self._floor)


@dataclass(frozen=True, slots=True)
class _Rows:
    """What the batches of a file must be."""

    head: bytes
    foreign: ForeignRows | None
    limits: Limits


def _check(path: Path, file: IncomingFile, count: int, rows: _Rows) -> StagedFile:
    schema = read_head(rows.head)
    batches: list[StagedBatch] = []
    blocks: list[Block] = []
    for offset, message, data in file.messages(rows.head):
        batch = decode_batch(data, message, schema, rows.limits, FIELD)
        check_rows(batch, rows.foreign, FIELD)
        blocks.append(Block.of(offset, data))
        if message.rows:
            checksum, ranges = xxhash.xxh3_64_intdigest(data), column_ranges(batch)
            batches.append(StagedBatch(offset, message.end, message.rows, checksum, ranges))
        if len(blocks) > count:
            break
    if len(blocks) != count:
        raise InvalidError(FIELD, f"the file has another number of batches than the {count} sequences it stands for")
    staged = StagedFile(path, rows.head, file.finish(rows.head, blocks), tuple(batches))
    failpoint("staging.checked")
    return staged
