"""What stands behind a ``Run`` that a daemon keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ._locate import Daemon
from ._rows import source_of
from ._run_writer import RunWriter
from ._table import Table
from ._transport import ListedTable, metrics_calls, run_calls
from ._types import MetricTableInfo, RunInfo


@dataclass(frozen=True, slots=True)
class Keeper:
    """A daemon, and what this process writes to the run."""

    daemon: Daemon
    writer: RunWriter

    @property
    def read_only(self) -> bool:
        """It can be changed."""
        return False

    def info(self, run: RunInfo) -> RunInfo:
        """Everything the daemon knows of the run now."""
        self.writer.flush_for_reading()
        return run_calls.get_run(self.daemon.transport, uid=run.uid, deleted=True)

    def basic(self, run: RunInfo) -> RunInfo:
        """What is small of it: all but inputs, outputs and metrics tables, and when these last changed."""
        self.writer.flush_for_reading()
        return run_calls.get_run(self.daemon.transport, uid=run.uid, deleted=True, full=False)

    def metrics(self, run: RunInfo) -> list[MetricTableInfo]:
        """Its metrics tables in order of writing."""
        return [listed.info() for listed in self._listed(run)]

    def metrics_tables(self, run: RunInfo) -> list[Table]:
        """They, with their rows."""
        flush = self.writer.flush_for_reading
        return [Table(source_of(self.daemon, listed, run.url, flush)) for listed in self._listed(run)]

    def bulk_data_url(self, run: RunInfo) -> str:
        """Its folder of side files."""
        return run_calls.make_bulk_data_folder(self.daemon.transport, run.resource_name)

    def _listed(self, run: RunInfo) -> Iterator[ListedTable]:
        self.writer.flush_for_reading()
        return metrics_calls.list_metrics_tables(self.daemon.transport, run.resource_name)
