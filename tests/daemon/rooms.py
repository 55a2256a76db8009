"""The rooms of a daemon in this process, with no network before them: for tests that stand at the writer's side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from rund_daemon.catalog import Catalog
from rund_daemon.feed import Feed
from rund_daemon.identity import new_uid, now
from rund_daemon.ingest.recovery import Recovery, recover
from rund_daemon.ingest.sealing import Sealer
from rund_daemon.ingest.sink import SegmentSink
from rund_daemon.ingest.streams import Ingest, WriteStream
from rund_daemon.limits import Limits
from rund_daemon.model import MetricsTable, RequestKey, Run, Uid
from rund_daemon.names import MetricsTableName, RunName
from rund_daemon.quotas import Quota, Quotas
from rund_daemon.reading.scan import MetricsReader, ScanRequest
from rund_daemon.runs import NewRun, NewTable, Presence, Runs, RunUpdate
from rund_daemon.runs.capture import RunCapture
from rund_daemon.runs.copying import RunCopies
from rund_daemon.runs.snapshots import RunSnapshots
from rund_daemon.runs.trash import A_MONTH
from rund_daemon.segments.compression import Compression
from rund_daemon.segments.layout import Layout, settle_move
from rund_daemon.segments.space import SpaceFloor

T = TypeVar("T")

NO_REQUEST = RequestKey("", "", b"")


@dataclass
class Rooms:
    """A root that is open in this process."""

    root: Path
    map_size: int = 1 << 30
    min_free_bytes: int = 0
    compression: Compression = Compression.NONE
    reserve_bytes: int = 0
    quota: Quota = field(default_factory=Quota)
    before_move: Callable[[str, str], None] = lambda _source, _destination: None
    after_move: Callable[[str, str], None] = lambda _source, _destination: None
    limits: Limits = field(default_factory=Limits)
    folders: threading.Lock = field(default_factory=threading.Lock)
    ripe: set[Uid] = field(default_factory=set)

    def open(self, loop: asyncio.AbstractEventLoop) -> Recovery:
        """Opens the root and gives what its recovery found."""
        self.root.mkdir(parents=True, exist_ok=True)
        self.layout, self.feed = Layout(self.root), Feed()
        self.floor = SpaceFloor(self.root, self.min_free_bytes)
        self.sink = SegmentSink(self.layout, self.floor, now, self._published)
        self.catalog = Catalog(self.layout.catalog, self.map_size, self.sink, self._move, self.reserve_bytes)
        recovery = recover(self.catalog, self.layout)
        self.sink.start(loop)
        self.catalog.start(loop)
        self.quotas = Quotas(self.catalog, self.layout, self.quota)
        self.runs = Runs(
            self.catalog, self.layout, self.limits, self.feed, now, new_uid, presence=Presence(), quotas=self.quotas
        )
        self.ingest = Ingest(self.catalog, self.limits)
        self.sealer = Sealer(self.catalog, self.layout, self.sink, self.floor, self.compression)
        self.reader = MetricsReader(self.catalog, self.layout, self.feed)
        self.capture = RunCapture(self.catalog, self.layout, self.floor, new_uid)
        self.copies = RunCopies(
            self.catalog, self.layout, self.capture, self.feed, now, new_uid, quotas=self.quotas, retention=A_MONTH
        )
        self.snapshots = RunSnapshots(self.catalog, self.layout, self.feed, self.folders)
        return recovery

    def close(self) -> None:
        """Commits what is queued and closes the root. Nothing is sealed."""
        self.catalog.close()
        self.sink.close()

    def _move(self, source: str, destination: str) -> None:
        self.before_move(source, destination)
        with self.folders:
            settle_move(self.root, source, destination)
        self.after_move(source, destination)

    def _published(self, tables: Iterable[Uid], ripe: Iterable[Uid]) -> None:
        self.feed.publish(tables)
        self.ripe.update(ripe)

    async def new_run(self, name: str = "run", project: str = "p") -> Run:
        """Creates a run."""
        return (await self.runs.create(NewRun(project, name), NO_REQUEST)).run

    async def new_table(self, run: Run, name: str = "t", **fields: object) -> MetricsTable:
        """Creates a metrics table."""
        new = NewTable(name=name, **fields)  # type: ignore[arg-type]
        return (await self.runs.create_table(RunName(run.project, run.name), new, NO_REQUEST)).table

    async def rename(self, run: Run, name: str) -> Run:
        """Renames a run."""
        return await self.runs.update(RunName(run.project, run.name), RunUpdate(name=name), "", NO_REQUEST)

    def folder(self, run: Run, table: str = "t") -> Path:
        """The folder of a metrics table."""
        return self.layout.metrics_table(self.layout.run(run.project, run.name), table)

    async def write(self, table: MetricsTable, *batches: pa.RecordBatch, stream_id: str = "w", first: int = 1) -> int:
        """Writes batches and gives the last committed sequence when all are durable."""
        stream = self.ingest.open(table, stream_id)
        try:
            for sequence, batch in enumerate(batches, first):
                await send(stream, sequence, batch)
            await stream.drain()
        finally:
            stream.close()
        return stream.committed

    async def read(self, table: Uid, **fields: object) -> pa.Table:
        """Reads rows of a metrics table."""
        pieces = [piece async for piece in self.reader.read(table, ScanRequest(**fields))]  # type: ignore[arg-type]
        return pa.ipc.open_stream(b"".join(piece.schema + piece.data for piece in pieces)).read_all()

    async def seal(self, *tables: MetricsTable) -> None:
        """Seals what is open of tables."""
        for table in tables:
            self.sealer.request(table.uid)
        await self.sealer.finish()

    @asynccontextmanager
    async def one_group(self) -> AsyncIterator[None]:
        """Whatever is submitted meanwhile is committed as one group."""
        begun, gate = threading.Event(), threading.Event()

        def hold(_: object) -> None:
            begun.set()
            gate.wait(20)

        holding = self.catalog.submit(hold)
        await asyncio.to_thread(begun.wait, 20)
        try:
            yield
        finally:
            gate.set()
            await holding


async def send(stream: WriteStream, sequence: int, batch: pa.RecordBatch) -> None:
    """Hands a batch to a write stream, as a message of its schema."""
    stream.set_schema(batch.schema.serialize().to_pybytes(), "schema")
    await stream.write_batch(sequence, batch.serialize().to_pybytes())


def run_in(root: Path, work: Callable[[Rooms], Awaitable[T]], **settings: object) -> T:
    """Opens a root, works in it and closes it."""

    async def main() -> T:
        rooms = Rooms(root, **settings)  # type: ignore[arg-type]
        rooms.open(asyncio.get_running_loop())
        try:
            return await work(rooms)
        finally:
            await asyncio.to_thread(rooms.close)

    return asyncio.run(main())


def table_name(run: Run, table: str = "t") -> MetricsTableName:
    """Name of a run's metrics table."""
    return MetricsTableName(run.project, run.name, table)


def numbers(begin: int, end: int, name: str = "x") -> pa.RecordBatch:
    """A batch of the numbers from `begin` to `end`."""
    return pa.record_batch({name: pa.array(range(begin, end), pa.int64())})
