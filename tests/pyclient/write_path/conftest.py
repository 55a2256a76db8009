"""Journals, and runs on a real daemon, for the tests of the write path."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pytest
from rund._journal import Journal, JournalOwner
from rund._journal_limits import JournalLimits
from rund._journal_reader import JournalReader
from rund._journal_records import Kind, Value
from rund._journal_recovery import LeftJournal, left_journals, read_left_journal
from rund._transport import RowRequest, Transport, WriteStream, metrics_calls, run_calls
from rund._transport.run_calls import NewRun
from rund._types import MetricTableInfo

from tests.conftest import RunningDaemon

Row = tuple[int, dict[str, Value]]


def rows_of(files: list) -> list[Row]:
    """Every row of these data files, with its step, in order and as it was logged."""
    reader, found = JournalReader(files), []
    while (rows := reader.take()) is not None:
        batch: dict[int, Row] = {
            place: (row.step, dict(zip(row.keys, row.values, strict=True))) for place, row in rows.loose
        }
        for group in rows.groups:
            keys, kinds = group.shape.keys, group.shape.kinds
            for place, record in zip(group.row_places().tolist(), group.records(), strict=True):
                values = [None if kind is Kind.NULL else record[str(n)].item() for n, kind in enumerate(kinds)]
                batch[place] = (int(record["step"]), dict(zip(keys, values, strict=True)))
        assert sorted(batch) == list(range(rows.count))
        found += [batch[place] for place in range(rows.count)]
    return found


@dataclass
class Folder:
    """A folder of journals."""

    path: Path
    wakes: list[None] = field(default_factory=list)

    def new(self, *, sends: bool = True, **limits: object) -> Journal:
        """A journal without anybody who empties it."""
        owner = JournalOwner(str(uuid.uuid4()), str(uuid.uuid4()), "projects/p/runs/r", "/root", 3, sends)
        return Journal(self.path, owner, JournalLimits(**limits), lambda: self.wakes.append(None))

    def left(self) -> list[LeftJournal]:
        """All journals, as another process finds them."""
        return [read_left_journal(path) for path in left_journals(self.path)]

    def rows(self) -> list[Row]:
        """The rows of the one journal in the folder."""
        (left,) = self.left()
        assert left.problems == []
        return rows_of(left.files)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """An empty folder for journals."""
    return Folder(tmp_path)


@dataclass
class LiveRun:
    """A run on a real daemon."""

    daemon: object
    transport: Transport
    name: str
    root: Path  # for journals; not the daemon's, so that nobody takes them over

    def stream(self, table: str = "t", **options: object) -> WriteStream:
        """A stream into a table of the run that need not be there."""
        return WriteStream(self.transport, f"{self.name}/metrics/{table}", create_missing=True, **options)

    def rows(self, table: str = "t") -> list[dict[str, object]]:
        """What is committed."""
        info = MetricTableInfo("", resource_name=f"{self.name}/metrics/{table}")
        batches = metrics_calls.read_metrics(self.transport, info, RowRequest())
        return [row for batch in batches for row in batch.to_pylist()]

    def journals(self) -> dict[str, int]:
        """Files of journals, with their sizes."""
        sizes = {}
        for path in (self.root / "journals").glob("*"):
            with contextlib.suppress(FileNotFoundError):  # it may be given back at any time
                sizes[path.name] = path.stat().st_size
        return sizes


@pytest.fixture(scope="session")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """A daemon that no test kills."""
    running = RunningDaemon(tmp_path_factory.mktemp("root"))
    yield running
    running.kill()


@pytest.fixture
def new_run(tmp_path: Path) -> Iterator[Callable[[object], LiveRun]]:
    """Makes a run on a daemon."""
    transports: list[Transport] = []

    def make(daemon: object) -> LiveRun:
        transport = Transport(daemon.address)
        transports.append(transport)
        info, _ = run_calls.create_run(transport, NewRun(project_name="p", run_name=uuid.uuid4().hex))
        return LiveRun(daemon, transport, info.resource_name, tmp_path)

    yield make
    for transport in transports:
        transport.close()


@pytest.fixture
def run(new_run: Callable[[object], LiveRun], shared_daemon: object) -> LiveRun:
    """A run on the shared daemon."""
    return new_run(shared_daemon)


@pytest.fixture
def own_run(new_run: Callable[[object], LiveRun], daemon: Callable) -> LiveRun:
    """A run on a daemon of the test's own, to be killed."""
    return new_run(daemon())


@pytest.fixture
def numbers() -> Callable[[int, int], pa.RecordBatch]:
    """Batches of numbers from one to another."""
    return lambda begin, end: pa.RecordBatch.from_pydict({"n": pa.array(range(begin, end), pa.int64())})
