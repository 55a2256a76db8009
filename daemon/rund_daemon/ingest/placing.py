"""Gives staged files their place among a table's segments. Belongs to the writer's thread."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from rund_daemon.errors import InvalidError
from rund_daemon.failpoints import failpoint
from rund_daemon.model import BatchRef, Segment, Uid
from rund_daemon.segments.layout import Layout, make_durable_folder, sync_folder
from rund_daemon.segments.staged_file import FIELD, FileState, StagedFile, changed_file


class PlacedFiles:
    """The files of the present group that were moved into a table's folder."""

    def __init__(self, table: Uid, folder: Path, layout: Layout) -> None:
        self._table = table
        self._folder = folder
        self._layout = layout
        self._segments: list[Segment] = []

    @property
    def segments(self) -> list[Segment]:
        """Their records."""
        return list(self._segments)

    def place(self, staged: StagedFile, number: int) -> Segment:
        """Moves a file to where the segment of a number lies; its entry is not durable before `sync`.

        Raises:
            InvalidError: it is not there any more, or was changed after its check.
        """
        segment = Segment(
            number,
            sealed=True,
            length=staged.length,
            rows=staged.rows,
            arrow_schema=staged.head,
            batches=len(staged.batches),
        )
        target = self._folder / segment.file_name
        make_durable_folder(self._folder)
        try:
            if FileState.of(staged.path.stat()) != staged.state:
                raise changed_file()
            self._layout.announce_segment(self._table, number, target)
            staged.path.rename(target)
        except FileNotFoundError as error:
            raise InvalidError(
                FIELD, f"the file {staged.path.name!r} is gone; it is the daemon's once it is named"
            ) from error
        self._segments.append(segment)
        failpoint("placing.moved")
        return segment

    def sync(self) -> None:
        """Makes the files' entries durable."""
        if self._segments:
            sync_folder(self._folder)

    def keep(self) -> None:
        """The group is committed."""
        for segment in self._segments:
            self._layout.new_segment(self._table, segment.number).unlink(missing_ok=True)
        self._segments.clear()

    def take_back(self) -> None:
        """The group is not: their writers will send them again."""
        for segment in self._segments:
            with suppress(OSError):
                (self._folder / segment.file_name).unlink()
                self._layout.new_segment(self._table, segment.number).unlink()
        self._segments.clear()


def refs_of(staged: StagedFile, number: int, first_row: int) -> list[BatchRef]:
    """The records of a placed file's batches."""
    refs = []
    for batch in staged.batches:
        refs.append(BatchRef(number, batch.offset, batch.length, batch.rows, batch.checksum, first_row, batch.ranges))
        first_row += batch.rows
    return refs
