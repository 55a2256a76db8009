"""Where a table's rows come from: an input table or a metrics table, over one interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from ._errors import TableNotFoundError
from ._locate import Daemon
from ._root import is_alias, local_path
from ._transport import ListedTable, RowRequest, metrics_calls, table_calls
from ._types import MetricTableInfo, TableInfo


class RowSource(Protocol):
    """Gives a table's record and its rows. Nothing is read before it is asked for."""

    @property
    def url(self) -> str:
        """The table's absolute URL."""

    def record(self) -> TableInfo | MetricTableInfo:
        """The table's record as it is now."""

    def read(self, rows: RowRequest) -> Iterator[pa.RecordBatch]:
        """The rows; the first batch, which may be empty, brings the schema."""


@dataclass(frozen=True, slots=True)
class InputRows:
    """Rows of an input table, which never change."""

    daemon: Daemon
    info: TableInfo

    @property
    def url(self) -> str:
        """Its folder in the root, or the URL it was registered with."""
        return self.info.url

    def record(self) -> TableInfo:
        """What was known when it was opened: it can't have changed."""
        return self.info

    def read(self, rows: RowRequest) -> Iterator[pa.RecordBatch]:
        """The rows in the order of the file."""
        return table_calls.read_table(self.daemon.transport, self.info.resource_name, rows)


@dataclass(frozen=True, slots=True)
class MetricsRows:
    """Rows of a metrics table, which may be growing.

    Attributes:
        daemon: Where it is.
        opened: Gives its record when it was opened.
        run_url: The folder of its run.
        flush: Called before anything is read, so that a writer sees what it wrote.
    """

    daemon: Daemon
    opened: Callable[[], MetricTableInfo]
    run_url: str
    flush: Callable[[], None]

    @property
    def url(self) -> str:
        """Its folder in the run, or its own URL when it lies elsewhere."""
        url = self.opened().url
        return url if Path(url).is_absolute() else f"{self.run_url}/{url}"

    def record(self) -> MetricTableInfo:
        """Its record as it is now; of a sealed table it is the one that was opened."""
        self.flush()
        opened = self.opened()
        if opened.sealed:
            return opened
        return metrics_calls.get_metrics_table(self.daemon.transport, opened.resource_name)

    def read(self, rows: RowRequest) -> Iterator[pa.RecordBatch]:
        """The rows in the order of their commits."""
        self.flush()
        return metrics_calls.read_metrics(self.daemon.transport, self.opened(), rows)


def no_flush() -> None:
    """For readers that write nothing."""


def source_of(daemon: Daemon, listed: ListedTable, run_url: str, flush: Callable[[], None]) -> RowSource:
    """Where the rows of a run's metrics table are; an entry without a name refers to a table elsewhere."""
    if listed.resource_name:
        return MetricsRows(daemon, listed.info, run_url, flush)
    return source_at(daemon, listed.url)


def source_at(daemon: Daemon, url: str) -> RowSource:
    """Where the rows of the table at a URL are.

    Raises:
        TableNotFoundError: The daemon knows no table there.
        MetricsTableNotFoundError: The run there has no such metrics table.
    """
    if not is_alias(url) and "://" not in url.removeprefix("file://"):
        path = local_path(url)
        if path.parts[-4:-3] == ("runs",) and path.parts[-2] == "metrics":
            run_url = str(path.parents[1])
            name = f"projects/{path.parts[-5]}/runs/{path.parts[-3]}/metrics/{path.name}"
            opened = metrics_calls.get_metrics_table(daemon.transport, name)
            return MetricsRows(daemon, lambda: opened, run_url, no_flush)
        url = str(path)
    return InputRows(daemon, table_calls.get_table(daemon.transport, url=url))


def find_or_register(daemon: Daemon, url: str) -> TableInfo:
    """The input table at a URL; a file that is not yet known is registered where it lies.

    Raises:
        TableNotFoundError: There is no such table or file.
        InvalidUrlError: The URL can't be a table's.
    """
    try:
        return table_calls.get_table(daemon.transport, url=url)
    except TableNotFoundError:
        return table_calls.register_table(daemon.transport, TableInfo(url=url))


def table_url(url: str) -> str:
    """A URL of the caller's as the daemon takes it: absolute, unless it is of another scheme or an alias."""
    if is_alias(url) or ("://" in url and not url.startswith("file:")):
        return url
    return str(local_path(url))
