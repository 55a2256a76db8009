"""SQL over runs: what ``Run.query`` and ``rund.query`` do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from . import _frames
from ._locate import Daemon
from ._query_relations import Relations
from ._root import PathLike
from ._session import daemon_for
from ._sql_engine import MAX_MEMORY_BYTES, TIMEOUT_S, run_sql
from ._transport import run_calls

if TYPE_CHECKING:  # Run binds one of these functions, so it imports this module
    from ._run import Run


class QueryResult:
    """The rows that a query gave."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self._table

    def to_pandas(self) -> Any:
        """As a pandas data frame.

        Raises:
            MissingPackageError: pandas is not installed (an ImportError).
        """
        return _frames.to_pandas(self._table)

    def to_polars(self) -> Any:
        """As a Polars data frame.

        Raises:
            MissingPackageError: Polars is not installed (an ImportError).
        """
        return _frames.to_polars(self._table)

    def to_pylist(self) -> list[dict[str, Any]]:
        """As one dict a row."""
        return self._table.to_pylist()

    def __len__(self) -> int:
        return self._table.num_rows

    def __repr__(self) -> str:
        return f"QueryResult({self._table.num_rows} rows of {', '.join(self._table.column_names)})"


def query(
    sql: str,
    project_name: str | None = None,
    *,
    filter: str = "",  # noqa: A002 - the name that the API gives it
    root_url: PathLike | None = None,
    address: str | None = None,
    timeout: float = TIMEOUT_S,
    max_memory_bytes: int = MAX_MEMORY_BYTES,
) -> QueryResult:
    """Carries out a SELECT of DuckDB's SQL over runs, in this process. It sees nothing but runs and input tables.

    Relations are ``runs``, ``parameters``, ``labels``, ``inputs``, ``outputs``, ``tables`` and ``input_tables``; a
    metrics table of all runs together, with the columns ``project_name`` and ``run_name``, by its name or as
    ``metrics.NAME``; that of one run as ``"PROJECT/RUN".NAME``; and an input table as ``"PROJECT/DATASET/TABLE"``,
    whose ``example_id`` is the number of the row unless it has such a column. Only the tables and columns that the
    SQL names are read.

    Args:
        sql: One SELECT.
        project_name: Runs of which project; None: of all.
        filter: Which runs, as for ``Client.list_runs``.
        root_url: The root; that of the active run when not given.
        address: Where the daemon listens.
        timeout: Seconds after which it is interrupted.
        max_memory_bytes: What the rows that are read, the work and the result may take, each.

    Raises:
        QueryError: The SQL is wrong, or does what is not allowed (a ValueError).
        OverLimitError: It takes too much memory (an OSError).
        WaitTimeoutError: It takes too long (a TimeoutError).
        MissingPackageError: DuckDB is not installed (an ImportError).
    """
    daemon = daemon_for(root_url, address)
    relations = relations_of_runs(daemon, project_name or "", filter)
    return QueryResult(run_sql(sql, relations, timeout=timeout, max_memory_bytes=max_memory_bytes))


def query_run(
    run: Run, sql: str, *, timeout: float = TIMEOUT_S, max_memory_bytes: int = MAX_MEMORY_BYTES
) -> QueryResult:
    """Carries out a SELECT of DuckDB's SQL over the run, in this process.

    Relations are its metrics tables by their names, input tables as ``"PROJECT/DATASET/TABLE"``, and ``runs``,
    ``parameters``, ``labels``, ``inputs``, ``outputs``, ``tables`` and ``input_tables``. The arguments and errors are
    those of ``rund.query``.
    """
    if run.read_only:
        relations = Relations(None, lambda: [run.info], one_run=True, tables=run.metrics_tables)
    else:
        relations = Relations(run.daemon, lambda: [run.info], one_run=True, flush=run.writer.flush_for_reading)
    return QueryResult(run_sql(sql, relations, timeout=timeout, max_memory_bytes=max_memory_bytes))


def relations_of_runs(daemon: Daemon, project_name: str, filter_text: str) -> Relations:
    """The relations over the runs that a filter holds for."""
    page_size = daemon.info.limits.max_page_size
    wanted = run_calls.RunQuery(project_name, filter_text, page_size=page_size)
    return Relations(daemon, lambda: run_calls.list_runs(daemon.transport, wanted))
