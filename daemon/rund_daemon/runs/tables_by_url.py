"""Finds the metrics table that a URL means: one of the run, one of another run, or a file."""

from __future__ import annotations

import asyncio

from rund_daemon.access import FileAccess
from rund_daemon.catalog import Catalog
from rund_daemon.catalog.lookup import find_table
from rund_daemon.errors import NotFoundError, Reason, RundError
from rund_daemon.names import RunName, check_name, parse_metrics_table
from rund_daemon.segments.layout import Layout
from rund_daemon.segments.registered import probe
from rund_daemon.urls import is_object_url, metrics_table_of_url

from . import StreamNames
from .metrics_tables import Reference


class TablesByUrl:
    """Resolves URLs of metrics tables."""

    def __init__(self, catalog: Catalog, layout: Layout, access: FileAccess) -> None:
        self._catalog = catalog
        self._layout = layout
        self._access = access

    async def find(self, run: RunName, url: str, field: str, stream_name: str) -> StreamNames:
        """Gives what to register.

        Args:
            run: the run that registers it.
            url: relative to the run (`metrics/{table}`), absolute, or a resource name.
            field: path of the request's field, for errors.
            stream_name: the name to give it; empty leaves it.

        Raises:
            NotFoundError: METRICS_TABLE_NOT_FOUND.
            InvalidError: the URL can't be parsed.
        """
        if url.startswith("metrics/"):
            return StreamNames(check_name(url.removeprefix("metrics/"), field), None, stream_name)
        if url.startswith("projects/"):
            name = parse_metrics_table(url, field)
        else:
            elsewhere = url.startswith("<") or is_object_url(url)
            found = None if elsewhere else metrics_table_of_url(url, self._layout.url, field)
            if found is None:
                return StreamNames("", await self._file(url, field, stream_name), stream_name)
            name = found
        if RunName(name.project, name.run) == run:
            return StreamNames(name.table, None, stream_name)
        with self._catalog.snapshot() as snapshot:
            state = find_table(snapshot, name)
        folder = self._layout.metrics_table(self._layout.run(name.project, name.run), name.table)
        table = state.table
        reference = Reference(
            str(folder),
            state.mark.rows,
            state.mark.bytes,
            table.arrow_schema,
            table.foreign_table_url,
            stream_name or table.stream_name,
        )
        return StreamNames("", reference, stream_name)

    async def _file(self, url: str, field: str, stream_name: str) -> Reference:
        path = self._access.place_of(url, field)
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, probe, path)
        except NotFoundError:
            raise NotFoundError(
                Reason.METRICS_TABLE_NOT_FOUND,
                f"{field}: there is no metrics table at {url[:200]!r}",
                field=field,
            ) from None
        except RundError as error:
            error.blame(field)
            raise
        schema = found.schema.serialize().to_pybytes()
        return Reference(str(path), found.row_count, found.file_size, schema, stream_name=stream_name)
