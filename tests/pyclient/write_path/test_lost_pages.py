"""Journals after a loss of power: pages are as old as the disk had them, and the daemon holds batches of later ones.

A journal is drained for a part, and its files are put together of pages of different age. Whoever drains the rest must
neither lose a row that is there nor store one twice.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from rund._adopted_head import AdoptedHead
from rund._adoption import Adoption, Outcome, adopt_all
from rund._history_batch import HistoryBatches
from rund._journal import Journal, JournalOwner
from rund._journal_format import CURSOR_OFFSET, CUTS_OFFSET, HEAD_BYTES, NO_CUT, Cut
from rund._journal_limits import JournalLimits
from rund._journal_reader import JournalReader
from rund._journal_recovery import LeftJournal, data_paths, parse_left_journal
from rund._transport import WriteStream, run_calls
from rund._transport.run_calls import NewRun

from .conftest import LiveRun

PAGE, FILE_BYTES = 4096, 3 * 4096
TEXT_EVERY = 10


@dataclass
class Drained:
    """A journal of a dead writer, of which the daemon holds a part.

    Attributes:
        ends: Position behind each row.
        held: How many rows the daemon holds.
        versions: What stood in the files, from time to time; the last is what there was when the power went.
    """

    run: LiveRun
    head: Path
    ends: list[int]
    held: int = 0
    position: int = 0
    versions: list[dict[str, bytes]] = field(default_factory=list)

    def keep(self) -> None:
        """Remembers what stands in the files now."""
        files = [self.head, *data_paths(self.head.parent, self.head.stem)]
        self.versions.append({path.name: path.read_bytes() for path in files})

    def put(self, files: dict[str, bytes]) -> None:
        """Has this be what the disk held."""
        for name, content in files.items():
            (self.head.parent / name).write_bytes(content)

    def adopt(self) -> Adoption:
        """Drains the rest."""
        (adoption,) = adopt_all(self.head.parent, self.run.transport)
        return adoption

    def numbers(self) -> list[object]:
        """What the run has."""
        return [row["n"] for row in self.run.rows("history")]


def write(folder: Path, run: str, rows: int) -> tuple[Path, list[int]]:
    """A journal of many small files, left by its writer."""
    owner = JournalOwner(str(uuid.uuid4()), str(uuid.uuid4()), run, "/root", 0, sends=False)
    limits = JournalLimits(total_bytes=64 * FILE_BYTES, first_file_bytes=FILE_BYTES, file_bytes=FILE_BYTES)
    journal, ends = Journal(folder, owner, limits, lambda: None), []
    for n in range(rows):
        journal.append({"n": n, "text": f"row {n}"} if n % TEXT_EVERY == 0 else {"n": n, "loss": 1 / (n + 1)}, n)
        ends.append(journal.position())
    journal.release()
    (head,) = (path for path in folder.glob("*.journal") if "." not in path.stem)
    return head, ends


def drain_some(journal: Drained, sizes: list[int], acked: int, *, positions: bool = True) -> None:
    """Drains so many rows in batches, as docs/journal.md says; the cursor knows only the first ones."""
    head = AdoptedHead.take(journal.head)
    assert head is not None
    left: LeftJournal = parse_left_journal(head.read(), journal.head.parent)
    stream = WriteStream(
        journal.run.transport,
        f"{journal.run.name}/metrics/history",
        stream_id=left.identity.stream_id,
        create_missing=True,
    )
    reader, batches, last = JournalReader(left.files), HistoryBatches(0), NO_CUT
    journal.keep()
    for number, size in enumerate(sizes, 1):
        end = journal.ends[journal.held + size - 1]
        rows = reader.take(until=end)
        assert rows is not None
        last = Cut(number, last.end, rows.end, last.rows + rows.count)
        head.write_cut(last)
        stream.write(batches.batch(rows), last.end if positions else 0)
        stream.wait(timeout=60)
        if number <= acked:
            head.write_cursor(last)
        journal.held += rows.count
        journal.position = last.end
        journal.keep()
    stream.close(timeout=60)
    head.close()


@pytest.fixture
def drained(shared_daemon: object, run: LiveRun, tmp_path: Path) -> Callable[..., Drained]:
    def make(sizes: list[int], acked: int, rows: int = 1500, *, positions: bool = True) -> Drained:
        info, _ = run_calls.create_run(run.transport, NewRun(project_name="p", run_name=uuid.uuid4().hex))
        folder = tmp_path / uuid.uuid4().hex
        folder.mkdir()
        live = LiveRun(shared_daemon, run.transport, info.resource_name, folder)
        journal = Drained(live, *write(folder, info.resource_name, rows))
        drain_some(journal, sizes, acked, positions=positions)
        return journal

    return make


def without_cuts(journal: Drained, begin: int = CURSOR_OFFSET) -> None:
    content = bytearray(journal.head.read_bytes())
    content[begin:] = bytes(HEAD_BYTES - begin)
    journal.head.write_bytes(content)


@pytest.mark.parametrize("begin", [CURSOR_OFFSET, CUTS_OFFSET])
def test_cuts_that_are_lost_are_asked_of_the_daemon(drained: Callable[..., Drained], begin: int) -> None:
    journal = drained([100, 50, 300], 1)
    without_cuts(journal, begin)
    assert journal.adopt() == Adoption(journal.head, Outcome.DRAINED, 1500 - 450)
    assert journal.numbers() == list(range(1500))
    assert not list(journal.head.parent.iterdir())


def test_nobody_guesses_how_many_rows_a_daemon_has_that_was_told_no_position(drained: Callable[..., Drained]) -> None:
    journal = drained([100, 50, 300], 1, positions=False)
    without_cuts(journal)
    kept = sorted(journal.head.parent.iterdir())
    adoption = journal.adopt()
    assert adoption.outcome is Outcome.KEPT
    assert "holds batch 3 of this stream, which the journal does not know" in adoption.message
    assert "1500 rows that are whole" in adoption.message
    assert sorted(journal.head.parent.iterdir()) == kept
    assert journal.numbers() == list(range(450))


def test_rows_that_the_daemon_holds_are_not_missed(drained: Callable[..., Drained]) -> None:
    journal = drained([400, 300], 1)
    for path in data_paths(journal.head.parent, journal.head.stem)[:2]:
        path.write_bytes(bytes(FILE_BYTES))
    assert journal.adopt().outcome is Outcome.DRAINED
    assert journal.numbers() == list(range(1500))


def test_a_journal_that_has_less_than_the_daemon_is_done(drained: Callable[..., Drained]) -> None:
    journal = drained([1400], 0)
    without_cuts(journal)
    for path in data_paths(journal.head.parent, journal.head.stem)[1:]:
        path.unlink()
    assert journal.adopt() == Adoption(journal.head, Outcome.DRAINED, 0)
    assert journal.numbers() == list(range(1400))


def test_a_file_that_is_gone_before_its_rows_were_sent_is_missed(drained: Callable[..., Drained]) -> None:
    journal = drained([10], 1)
    data_paths(journal.head.parent, journal.head.stem)[0].unlink()
    adoption = journal.adopt()
    assert adoption.outcome is Outcome.KEPT
    assert "are not in the journal any more" in adoption.message


def lose(journal: Drained, chance: random.Random, share: float) -> dict[str, bytes]:
    """Pages of any age. Those that say whose journal it is were written long before."""
    last = journal.versions[-1]
    files = {}
    for name, content in last.items():
        pages = [content[at : at + PAGE] for at in range(0, len(content), PAGE)]
        for number in range(CURSOR_OFFSET // PAGE if name == journal.head.name else 0, len(pages)):
            if chance.random() < share:
                old = chance.choice(journal.versions)[name][number * PAGE : (number + 1) * PAGE]
                pages[number] = chance.choice((old, bytes(PAGE))) if name == journal.head.name else bytes(PAGE)
        files[name] = b"".join(pages)
    return files


def rows_still_there(journal: Drained, files: dict[str, bytes]) -> int:
    """Up to which row everything is whole that the daemon does not hold."""
    whole, base = journal.held, 0
    for path in sorted(name for name in files if name != journal.head.name):
        before, after = journal.versions[-1][path], files[path]
        used = len(before.rstrip(b"\0"))
        size = -(-used // 8) * 8 - 128
        if base + size > journal.position:
            needs = max(0, journal.position - base) + 128
            if before[:PAGE] != after[:PAGE]:
                return whole  # the head of the file, and with it the place of its rows
            lost = next((at for at in range(needs, used) if before[at] != after[at]), None)
            reach = base + (size if lost is None else lost - 128)
            whole = max(whole, sum(end <= reach for end in journal.ends))
            if lost is not None:
                return whole
        base += size
    return whole


def check_loss(drained: Callable[..., Drained], seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.randrange(1, 120) for _ in range(chance.randrange(1, 10))]
    journal = drained(sizes, chance.randrange(len(sizes) + 1))
    files = lose(journal, chance, chance.choice((0.1, 0.3, 0.8)))
    journal.put(files)
    adoption = journal.adopt()
    numbers = journal.numbers()
    assert numbers == list(range(len(numbers))), f"seed {seed}: {adoption}"
    assert len(numbers) >= rows_still_there(journal, files), f"seed {seed}: {adoption}"
    if adoption.outcome is Outcome.DRAINED:
        assert not list(journal.head.parent.iterdir())
    else:
        assert adoption.message
        assert journal.head.exists()


def test_whatever_pages_are_lost_nothing_is_doubled_and_what_is_there_arrives(drained: Callable[..., Drained]) -> None:
    for seed in range(40):
        check_loss(drained, seed)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_same_many_times(drained: Callable[..., Drained]) -> None:
    for seed in range(1000, 3000):
        check_loss(drained, seed)
