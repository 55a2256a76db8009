"""DuckDB in this process, shut off from everything but the rows that it is handed."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ._errors import MissingPackageError, OverLimitError, QueryError, WaitTimeoutError
from ._frames import package
from ._sql_statement import Statement, parse_statement

MAX_MEMORY_BYTES = 1024 * 1024 * 1024
TIMEOUT_S = 60.0


_CLOSED = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
    # Else a name that is no relation would be looked up among the caller's variables.
    "python_enable_replacements": "false",
    "temp_directory": "",
    "threads": "2",
}
_BATCH_ROWS = 100_000
_OLDEST = 2


@dataclass(slots=True)
class Budget:
    """How much memory rows may take, those that are read and those of the result, each; and until when.

    Attributes:
        max_bytes: How much.
        give_up: Called whenever some is taken; raises when the time is over.
        used_bytes: How much is taken.
    """

    max_bytes: int
    give_up: Callable[[], None]
    used_bytes: int = 0

    def take(self, size_bytes: int) -> None:
        """Takes some of it.

        Raises:
            OverLimitError: There is not so much left.
            WaitTimeoutError: The time is over.
        """
        self.give_up()
        self.used_bytes += size_bytes
        if self.used_bytes > self.max_bytes:
            raise self.passed()

    def passed(self) -> OverLimitError:
        """The error of a query that needs more than there is."""
        return OverLimitError(
            f"the query takes more memory than {self.max_bytes // 2**20} MiB; name fewer columns, fewer runs or an "
            f"aggregate, or give more with max_memory_bytes",
            details={"limit": "max_memory_bytes", "value": str(self.max_bytes)},
        )


def run_sql(
    sql: str,
    relation: Callable[[Statement, str, str, Budget], pa.Table | None],
    *,
    timeout: float,
    max_memory_bytes: int,
) -> pa.Table:
    """Carries out one SELECT.

    Args:
        sql: The statement.
        relation: Gives the rows of a relation by schema and name, with the columns that the statement may mean;
            None: there is no such relation.
        timeout: Seconds after which it is interrupted.
        max_memory_bytes: What the rows that are read, the work and the result may take, each.

    Raises:
        QueryError: The SQL is wrong, or does what is not allowed.
        OverLimitError: It takes too much memory.
        WaitTimeoutError: It takes too long.
        MissingPackageError: DuckDB is not installed, or too old.
    """
    duckdb = package("duckdb")
    if int(duckdb.__version__.partition(".")[0]) < _OLDEST:
        # What a statement names is read from the parser's own tree, and that of older ones was never tried.
        raise MissingPackageError(f"duckdb {duckdb.__version__} is too old for SQL; pip install 'duckdb>={_OLDEST}'")
    connection = duckdb.connect(":memory:", config={**_CLOSED, "memory_limit": f"{max_memory_bytes // 1000}KB"})
    try:
        with _interrupted_after(connection, timeout) as interrupted:
            budget = Budget(max_memory_bytes, lambda: _check(interrupted, timeout))
            try:
                return _carry_out(connection, sql, relation, budget)
            except (duckdb.OutOfMemoryException, MemoryError, pa.ArrowMemoryError):
                raise budget.passed() from None
            except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
                # The interruption may come wrapped in whatever was being done.
                if interrupted.is_set():
                    raise _too_long(timeout) from None
                if "Out of Memory" in str(error):
                    raise budget.passed() from None
                raise QueryError(_first_lines(error)) from None
    finally:
        connection.close()


def _carry_out(
    connection: Any,
    sql: str,
    relation: Callable[[Statement, str, str, Budget], pa.Table | None],
    budget: Budget,
) -> pa.Table:
    statement = parse_statement(connection, sql)
    for number, (schema, name) in enumerate(statement.tables):
        rows = relation(statement, schema, name, budget)
        if rows is not None:
            _register(connection, f"rows {number}", schema, name, rows)
    connection.execute("SET lock_configuration = true")
    return _result(connection.sql(sql), Budget(budget.max_bytes, budget.give_up))


def _register(connection: Any, source: str, schema: str, name: str, rows: pa.Table) -> None:
    connection.register(source, rows)
    if schema:
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}")
    place = f"{_quoted(schema)}.{_quoted(name)}" if schema else _quoted(name)
    connection.execute(f"CREATE VIEW IF NOT EXISTS {place} AS SELECT * FROM {_quoted(source)}")  # noqa: S608 - quoted


def _result(relation: Any, budget: Budget) -> pa.Table:
    if relation is None:
        return pa.table({})
    reader = relation.to_arrow_reader(_BATCH_ROWS)
    batches = []
    for batch in reader:
        budget.take(batch.nbytes)
        batches.append(batch)
    return pa.Table.from_batches(batches, reader.schema)


@contextmanager
def _interrupted_after(connection: Any, timeout: float) -> Iterator[threading.Event]:
    interrupted, done = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(timeout):
            return
        interrupted.set()
        # An interruption that comes between two statements is forgotten, so it is repeated.
        while not done.wait(0.05):
            connection.interrupt()

    thread = threading.Thread(target=watch, name="rund-query-timeout", daemon=True)
    thread.start()
    try:
        yield interrupted
    finally:
        done.set()
        thread.join()


def _check(interrupted: threading.Event, timeout: float) -> None:
    if interrupted.is_set():
        raise _too_long(timeout)


def _too_long(timeout: float) -> WaitTimeoutError:
    return WaitTimeoutError(
        f"the query was interrupted after {timeout:g} s; name fewer columns or runs, or give it more time with timeout"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _first_lines(error: Exception) -> str:
    text = re.sub(r"^(\w+ )+Error: ", "", str(error))
    return text.partition("\n\nLINE ")[0].strip()
