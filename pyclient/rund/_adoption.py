"""Sends the rows that are left in journals: of writers that died, and of forked children that must not send.

docs/journal.md, "Taking a journal over", is what is done here. The daemon begins it as a process of its own
(``python -m rund._adopt``), so that no journal, however damaged, can hurt the daemon, and one implementation of the
format serves writer and adopter.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ._adopted_head import AdoptedHead
from ._errors import NotFoundError, RundError, WaitTimeoutError
from ._failpoints import failpoint
from ._history_batch import HistoryBatches
from ._journal_files import DataFile
from ._journal_format import CUT_SLOTS, Cut, Identity, JournalFormatError, unpack_head
from ._journal_reader import JournalReader
from ._journal_records import WORD
from ._journal_recovery import LeftJournal, data_paths, left_journals, parse_left_journal, read_cursor, read_cuts
from ._transport import Transport, run_calls
from ._transport.write_stream import WriteStream

_OPEN_S = 30.0
_POLL_S = 0.5
# A head is made within a millisecond; one that is this old was left by a process that died meanwhile.
_UNFINISHED_S = 60.0


class Outcome(enum.StrEnum):
    """What became of a journal."""

    DRAINED = "drained"  # every row is acknowledged and the files are removed
    FOLLOWED = "followed"  # every row so far is acknowledged; the writer lives and may go on
    KEPT = "kept"  # it can't be drained now; the message says why
    DAMAGED = "damaged"  # rows up to the damage are acknowledged; the files stay for a person to look at


@dataclass(frozen=True, slots=True)
class Adoption:
    """One journal that was looked at."""

    path: Path
    outcome: Outcome
    rows: int
    message: str = ""


def adopt_all(directory: Path, transport: Transport) -> Iterator[Adoption]:
    """Drains every journal of a folder that nobody else drains, once, and clears up after who died making one."""
    for unfinished in directory.glob("*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - unfinished.stat().st_mtime > _UNFINISHED_S:
                unfinished.unlink()
    for path in list(left_journals(directory)):
        try:
            head = AdoptedHead.take(path)
        except (OSError, JournalFormatError) as error:
            yield Adoption(path, Outcome.DAMAGED, 0, str(error))
            continue
        if head is not None:
            yield _adopt(head, transport)


def follow(directory: Path, transport: Transport, report: Callable[[Adoption], None]) -> None:
    """Drains a folder until no journal is left whose writer lives and does not send by itself."""
    while True:
        began = time.monotonic()
        adoptions = list(adopt_all(directory, transport))
        for adoption in adoptions:
            if adoption.rows or adoption.outcome is not Outcome.FOLLOWED:
                report(adoption)
        if not any(adoption.outcome is Outcome.FOLLOWED for adoption in adoptions):
            return
        # A pass reads the files that are not acknowledged yet from their begin; most of the time is left to others.
        time.sleep(max(_POLL_S, 4 * (time.monotonic() - began)))


def _adopt(head: AdoptedHead, transport: Transport) -> Adoption:
    removed = False
    failpoint("adoption.taken")
    try:
        # Asked first, read then: what a writer that is gone has written is all there.
        identity = unpack_head(head.read())
        if head.is_drained_by_writer(identity):
            return Adoption(head.path, Outcome.KEPT, 0, "its writer lives and sends the rows itself")
        gone = head.writer_is_gone(identity)
        drain = _Drain(head, identity, transport)
        rows, journal = drain.run(), drain.journal
        if journal.dropped_rows:
            run_calls.report_dropped_rows(
                transport, _run_name(identity, transport), identity.writer_id, journal.dropped_rows
            )
        if not (gone or journal.closed):
            return Adoption(head.path, Outcome.FOLLOWED, rows)
        if journal.problems:
            return Adoption(head.path, Outcome.DAMAGED, rows, _described(journal))
        failpoint("adoption.drained")
        for path in data_paths(head.path.parent, identity.writer_id):
            path.unlink(missing_ok=True)
            failpoint("adoption.file_removed")
        head.remove()
        failpoint("adoption.head_removed")
        removed = True
        return Adoption(head.path, Outcome.DRAINED, rows)
    except (OSError, RundError, JournalFormatError) as error:
        return Adoption(head.path, Outcome.KEPT, 0, str(error))
    finally:
        if not removed:
            head.close()


class _Drain:
    """Sends what one journal holds beyond what the daemon has of it.

    Attributes:
        journal: What it holds from there on, when it was read.
    """

    journal: LeftJournal

    def __init__(self, head: AdoptedHead, identity: Identity, transport: Transport) -> None:
        self._head = head
        self._batches = HistoryBatches(identity.rank)
        self._stream = WriteStream(
            transport,
            f"{_run_name(identity, transport)}/metrics/history",
            stream_id=identity.stream_id,
            create_missing=True,
        )
        self._outstanding: deque[Cut] = deque()

    def run(self) -> int:
        """Returns the rows that were sent, when all are acknowledged.

        Raises:
            JournalFormatError: The daemon and the journal do not agree on what was sent.
            RundError: They can't be sent.
        """
        try:
            last = self._skip(*self._committed())
            sent_before = last.rows
            for cut in self.journal.cuts:
                if cut.sequence == last.sequence + 1 and cut.begin == last.end:
                    last = self._send(cut, cut.end)
            while (following := self._next_cut(last)) is not None:
                last = following
            self._stream.wait()
            self._acknowledge()
            self._stream.close(timeout=_OPEN_S)
            self._free(last)
            return last.rows - sent_before
        finally:
            self._stream.abort()

    def _committed(self) -> tuple[int, int]:
        """The last sequence that the daemon holds, and the last position."""
        deadline = time.monotonic() + _OPEN_S
        while (limits := self._stream.open()) is None:
            if time.monotonic() > deadline:
                raise WaitTimeoutError("the daemon did not open the stream in time; the rows stay in the journal")
            time.sleep(0.01)
        return self._stream.committed, limits.position

    def _skip(self, sequence: int, position: int) -> Cut:
        """Reads the journal and passes over what the daemon holds, of which it gives the last cut."""
        content, folder = self._head.read(), self._head.path.parent
        last = last_held(content, sequence, position)
        if last is None:
            raise JournalFormatError(_unknown(sequence, parse_left_journal(content, folder)))
        self.journal = parse_left_journal(content, folder, held=last.end)
        files = self.journal.files
        self._reader = JournalReader(files)
        begin = files[0].base if files else last.end
        if begin > last.end:
            raise JournalFormatError(f"the rows from position {last.end} to {begin} are not in the journal any more")
        if last.sequence > self.journal.cursor.sequence:
            self._head.write_cursor(last)
        if last.end > begin:
            self._reader.take(until=last.end)
        return last

    def _send(self, cut: Cut, until: int | None) -> Cut:
        rows = self._reader.take(until=until)
        if rows is None or rows.end != cut.end:
            raise JournalFormatError(f"the rows of batch {cut.sequence} are not in the journal any more")
        self._write(cut, self._batches.batch(rows))
        return cut

    def _next_cut(self, last: Cut) -> Cut | None:
        rows = self._reader.take()
        if rows is None:
            return None
        cut = Cut(last.sequence + 1, last.end, rows.end, last.rows + rows.count)
        self._head.write_cut(cut)
        failpoint("adoption.cut_written")
        self._write(cut, self._batches.batch(rows))
        return cut

    def _write(self, cut: Cut, batch: object) -> None:
        sequence = self._stream.write(batch, cut.end)  # type: ignore[arg-type]  # only this line handles a RecordBatch
        failpoint("adoption.sent")
        if sequence != cut.sequence:
            raise JournalFormatError(f"the stream is at batch {sequence} and the journal at {cut.sequence}")
        self._outstanding.append(cut)
        # A slot of the cut log is used again only when the cursor has passed it.
        if len(self._outstanding) >= CUT_SLOTS // 2:
            self._stream.wait(cut.sequence)
            self._acknowledge()

    def _acknowledge(self) -> None:
        if self._outstanding:
            failpoint("adoption.acked")
            self._head.write_cursor(self._outstanding[-1])
            failpoint("adoption.cursor_written")
            self._outstanding.clear()

    def _free(self, last: Cut) -> None:
        """Removes the files of a living writer that are acknowledged, and so gives it room."""
        freed = [file.path for file in self.journal.files if file.finished and _end(file) <= last.end]
        for path in (*self.journal.passed, *freed):
            path.unlink(missing_ok=True)


def last_held(head: bytes, sequence: int, position: int) -> Cut | None:
    """Gives the cut of the last batch that the daemon holds, which the journal may have lost with the host's power.

    Args:
        head: The journal's head.
        sequence: The last sequence that the daemon holds.
        position: The last position; 0 when it was told none.

    Returns:
        The cut. ``rows`` of one that was lost is the least that it can be. None if neither head nor daemon knows it.

    Raises:
        JournalFormatError: The daemon holds less than it has acknowledged.
    """
    cursor = read_cursor(head)
    if sequence < cursor.sequence:
        raise JournalFormatError(
            f"the daemon holds this stream up to batch {sequence}, and has acknowledged it up to {cursor.sequence}"
        )
    if sequence == cursor.sequence:
        return cursor
    known = {cut.sequence: cut for cut in (cursor, *read_cuts(head, cursor))}
    cut = known.get(sequence)
    before = known[min(sequence - 1, max(known))]
    # One that is not beyond is of an earlier batch: whoever sent this one passed none.
    if position <= before.end or position % WORD:
        return cut
    # A slot of before the loss may stand for another batch of the same sequence: what the daemon says comes first.
    if cut is not None and cut.end == position:
        return cut
    return Cut(sequence, before.end, position, before.rows + sequence - before.sequence)


def _unknown(sequence: int, journal: LeftJournal) -> str:
    reader, count = JournalReader(journal.files), 0
    while (rows := reader.take()) is not None:
        count += rows.count
    begin = journal.files[0].base if journal.files else 0
    return (
        f"the daemon holds batch {sequence} of this stream, which the journal does not know, and was told no position: "
        f"of the {count} rows that are whole here, from position {begin} to {reader.position}, it has the first ones, "
        "and nobody can say how many"
    )


def _end(file: DataFile) -> int:
    return file.position(file.tail)


def _run_name(identity: Identity, transport: Transport) -> str:
    """The run's resource name now: it may have been renamed since."""
    if not identity.run_uid:
        return identity.run
    try:
        return run_calls.get_run(transport, uid=identity.run_uid).resource_name
    except NotFoundError:
        return identity.run


def _described(journal: LeftJournal) -> str:
    return "; ".join(f"{problem.path.name} at {problem.offset}: {problem.message}" for problem in journal.problems)
