"""Input tables: immutable data set revisions, written through the daemon or registered and read where they lie."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from rund_daemon.access import FileAccess
from rund_daemon.catalog import Catalog, Change, shelves
from rund_daemon.catalog.requests import find_request, is_known, once
from rund_daemon.errors import NotFoundError, Reason, RundError
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock, UidSource, parse_uid, uid_text
from rund_daemon.model import InputTable, RequestKey
from rund_daemon.names import DatasetName, TableName, check_name, parse_table
from rund_daemon.quotas import UNLIMITED, Allowance, Quotas
from rund_daemon.segments.heads import read_head, segment_head
from rund_daemon.segments.layout import TABLE_DATA, Layout
from rund_daemon.segments.object_stores import ObjectPath, checked_object_url
from rund_daemon.segments.registered import TableProbe, probe, scan
from rund_daemon.segments.space import SpaceFloor
from rund_daemon.segments.table_data import CheckedFile, CheckedFiles, TableData, TableDataWriter
from rund_daemon.urls import is_object_url, local_path, table_of_url

from .records import NewInputTable, has_table, insert_registered, insert_written, table_by_name, table_by_url

__all__ = ["InputTables", "NewInputTable", "StagedTable"]

T = TypeVar("T")

REGISTERED = DatasetName("default", "registered")
"""Where tables go that are registered without a place of their own."""


class StagedTable:
    """A table that is being written; nobody sees it yet."""

    def __init__(self, folder: Path, schema: pa.Schema, floor: SpaceFloor, allowance: Allowance) -> None:
        """Touches no file yet."""
        self.folder = folder
        self.schema = schema
        self._floor = floor
        self._allowance = allowance
        self._size = 0
        self._writer: TableDataWriter | None = None
        self._work: asyncio.Future[Any] | None = None

    async def add(self, batch: pa.RecordBatch) -> None:
        """Writes a batch. Raises ExhaustedError."""
        self._floor.check(batch.nbytes)
        self._size += batch.nbytes
        self._allowance.check(self._size)
        await self._in_turn(lambda: self._opened().add(batch))

    async def finish(self) -> TableData:
        """Makes it durable."""
        return await self._in_turn(lambda: self._opened().finish())

    async def abort(self) -> None:
        """Removes it."""
        if self._work is not None:
            # A thread goes on when the call that began its work is cancelled.
            await asyncio.wait([self._work])
        await self._in_turn(self._remove)

    async def _in_turn(self, work: Callable[[], T]) -> T:
        self._work = asyncio.get_running_loop().run_in_executor(None, work)
        return await asyncio.shield(self._work)

    def _opened(self) -> TableDataWriter:
        if self._writer is None:
            self._writer = TableDataWriter(self.folder, self.schema)
        return self._writer

    def _remove(self) -> None:
        if self._writer is not None:
            self._writer.abort()


class InputTables:
    """The input tables of a root."""

    def __init__(
        self,
        catalog: Catalog,
        layout: Layout,
        access: FileAccess,
        floor: SpaceFloor,
        *,
        feed: Feed,
        clock: Clock,
        new_uid: UidSource,
        quotas: Quotas,
    ) -> None:
        self._catalog = catalog
        self._quotas = quotas
        self._layout = layout
        self._feed = feed
        self._access = access
        self._floor = floor
        self._clock = clock
        self._new_uid = new_uid
        self._files = CheckedFiles()

    def get(self, name: TableName) -> InputTable:
        """Gives a table by name. Raises NotFoundError."""
        with self._catalog.snapshot() as snapshot:
            return table_by_name(snapshot, name)

    def url_of(self, table: InputTable) -> str:
        """URL of a table: where it was registered, or its folder."""
        return table.registered_url or str(self._layout.input_table(table.project, table.dataset, table.name))

    def get_by_url(self, url: str, field: str) -> InputTable:
        """Gives a table of this root by its URL or resource name. Raises NotFoundError, InvalidError."""
        if url.startswith("projects/"):
            return self.get(parse_table(url, field))
        registered = None if _is_elsewhere(url) else table_of_url(url, self._layout.url, field)
        with self._catalog.snapshot() as snapshot:
            if registered is not None:
                return table_by_name(snapshot, registered)
            table = table_by_url(snapshot, _normal(url, field))
        if table is None:
            raise NotFoundError(
                Reason.TABLE_NOT_FOUND,
                f"{field}: no input table is registered with {url[:200]!r}",
                field=field,
            )
        return table

    def page(self, dataset: DatasetName, size: int, position: str) -> tuple[list[InputTable], str]:
        """Gives the tables of a data set, newest first, and where the next page begins. Empty names mean all."""
        start = parse_uid(position, "page_token") if position else b""
        with self._catalog.snapshot() as snapshot:
            tables = (table for _, table in snapshot.scan(shelves.INPUT_TABLES, start=start, reverse=True))
            wanted = (
                table
                for table in tables
                if dataset.project in ("", table.project) and dataset.dataset in ("", table.dataset)
            )
            found = list(islice(wanted, size + 1))
        return found[:size], uid_text(found[size - 1].uid) if len(found) > size else ""

    async def admission(self, new: NewInputTable, request: RequestKey) -> Allowance:
        """Gives what a table's rows are measured by while they come.

        One that may be there already is measured when it is known to be new.

        Raises:
            ExhaustedError: OVER_QUOTA: its project is full.
        """
        allowance = await self._quotas.allowance(new.name.project)
        if allowance.quota:
            with self._catalog.snapshot() as snapshot:
                if is_known(snapshot, request) or has_table(snapshot, new.name):
                    return UNLIMITED
            allowance.check()
        return allowance

    def stage(self, schema: pa.Schema, allowance: Allowance) -> StagedTable:
        """Begins to write a table."""
        return StagedTable(self._layout.unfinished(self._new_uid()), schema, self._floor, allowance)

    async def publish(self, staged: StagedTable, new: NewInputTable, request: RequestKey) -> InputTable:
        """Puts a staged table under its name. Raises ExistsError, ExhaustedError."""
        # A caller that goes away must not have the files removed of a table that is being committed.
        return await asyncio.shield(self._publish(staged, new, request))

    async def _publish(self, staged: StagedTable, new: NewInputTable, request: RequestKey) -> InputTable:
        uid, now = self._new_uid(), self._clock()
        published = False
        try:
            data = await staged.finish()
            head = segment_head(staged.schema, new.columns, {})
            allowance = await self._quotas.allowance(new.name.project)
            source = self._layout.relative(staged.folder)
            table = await self._once(
                # The same request is one with the same rows too.
                replace(request, fingerprint=request.fingerprint + data.content_hash),
                lambda change: insert_written(
                    change,
                    new,
                    data,
                    head,
                    staging=source,
                    uid=uid,
                    now=now,
                    layout=self._layout,
                    allowance=allowance,
                ),
            )
            published = table.uid == uid
            if published:
                self._quotas.grow(table.project, table.file_size)
            return table
        finally:
            if not published:
                await staged.abort()

    async def register(
        self, url: str, new: NewInputTable | None, request: RequestKey, field: str = "url"
    ) -> InputTable:
        """Registers a file or folder to be read where it lies. Raises NotFoundError, InvalidError, AccessError."""
        if kept := self._carried_out(request):
            return kept
        path = self._access.place_of(url, field)
        try:
            found = await _in_thread(lambda: probe(path))
        except RundError as error:
            error.blame(field)
            raise
        table = self._record(_normal(url, field), found, new)
        return await self._once(request, lambda change: insert_registered(change, table))

    async def resolve(self, url: str, field: str) -> InputTable:
        """Gives the table that a URL or resource name means; a file that is not known yet is registered."""
        try:
            table = self.get_by_url(url, field)
        except NotFoundError:
            if url.startswith("projects/") or self._is_inside(url, field):
                raise
            return await self.register(url, None, RequestKey("", "", b""), field)
        if not table.registered_url:
            return table
        # The file may have changed since; then its rows must be counted again.
        return await self.register(url, None, RequestKey("", "", b""), field)

    async def read(
        self, table: InputTable, columns: Sequence[str], start_row: int, row_limit: int | None
    ) -> AsyncIterator[pa.RecordBatch]:
        """Gives rows, lazily and without a gap. Raises CorruptError, if they are ours and not whole."""
        path: Path | ObjectPath
        if table.registered_url:
            path = self._access.place_of(table.registered_url, "name")
        else:
            path = (await self.checked_file(table))[0].parent
        schema = read_head(table.arrow_schema)
        rows = scan(path, table.format, schema, columns, None, start_row, row_limit)
        while (batch := await _in_thread(lambda: _next(rows))) is not None:
            yield batch

    async def checked_file(self, table: InputTable) -> tuple[Path, CheckedFile]:
        """The file of a table that was written, found whole. Raises CorruptError."""
        path = self._layout.input_table(table.project, table.dataset, table.name) / TABLE_DATA
        return path, await _in_thread(lambda: self._files.check(path, table.content_hash))

    def _carried_out(self, request: RequestKey) -> InputTable | None:
        with self._catalog.snapshot() as snapshot:
            kept = find_request(snapshot, request)
            return snapshot.get(shelves.INPUT_TABLES, kept.result_uid) if kept else None

    def _is_inside(self, url: str, field: str) -> bool:
        return not _is_elsewhere(url) and table_of_url(url, self._layout.url, field) is not None

    def _record(self, url: str, found: TableProbe, new: NewInputTable | None) -> InputTable:
        name = new.name if new else TableName(*REGISTERED, _table_name(url))
        columns = new.columns if new else ()
        return InputTable(
            uid=self._new_uid(),
            project=name.project,
            dataset=name.dataset,
            name=name.table or _table_name(url),
            create_time=self._clock(),
            row_count=found.row_count,
            file_size=found.file_size,
            format=found.format,
            input_table_id=0,
            arrow_schema=segment_head(found.schema, columns, {}),
            description=new.description if new else "",
            registered_url=url,
            columns=columns,
            content_hash=found.content_hash,
        )

    async def _once(self, request: RequestKey, carry_out: Callable[[Change], InputTable]) -> InputTable:
        now = self._clock()

        def mutation(change: Change) -> InputTable:
            table, _ = once(
                change,
                request,
                now,
                lambda: carry_out(change),
                lambda result: result.uid,
                lambda kept: change.get(shelves.INPUT_TABLES, kept),
            )
            return table

        table = await self._catalog.submit(mutation)
        # Whoever writes `table.json` waits for news of runs.
        self._feed.publish((RUNS_TOPIC,))
        return table


def _normal(url: str, field: str) -> str:
    """One spelling of a URL: a plain path or URL without a slash at its end. An alias stays as it is."""
    if url.startswith("<"):
        return url.rstrip("/")
    return checked_object_url(url, field) if is_object_url(url) else str(local_path(url, field))


def _is_elsewhere(url: str) -> bool:
    """Whether a URL can't be that of a table in the root."""
    return url.startswith("<") or is_object_url(url)


def _table_name(url: str) -> str:
    """A name made of the file's, with a mark of the whole URL: files of one name may lie in many folders."""
    mark = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    stem = "".join(c for c in Path(url).stem if c.isprintable() and c not in "\\/").strip(". ")[:40]
    return check_name(f"{stem or 'table'}-{mark}", "table_id")


def _next(rows: Iterator[pa.RecordBatch]) -> pa.RecordBatch | None:
    return next(rows, None)


async def _in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)
