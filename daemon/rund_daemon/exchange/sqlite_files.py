"""SQLite databases of other tools, opened so that their owners don't notice."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .foreign import MissingSourceError, SourceError

_BUSY_TIMEOUT_S = 30.0


@contextmanager
def reading(file: Path, tables: tuple[str, ...], tool: str) -> Iterator[sqlite3.Connection]:
    """Opens a database for reading, as it is at this moment.

    Raises:
        MissingSourceError: there is none.
        SourceError: it is no database of the tool, or damaged.
    """
    if not file.is_file():
        raise MissingSourceError(f"there is no {file}")
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_TIMEOUT_S)
        connection.row_factory = sqlite3.Row
        try:
            connection.execute("BEGIN")
            found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if missing := [name for name in tables if name not in found]:
                raise SourceError(f"{file} is no database of {tool}: it has no table {missing[0]!r}")
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise SourceError(f"{file} can't be read: {error}") from error


def columns_of(connection: sqlite3.Connection, table: str) -> frozenset[str]:
    """Names of a table's columns; none if it is not there."""
    return frozenset(row["name"] for row in connection.execute("SELECT name FROM pragma_table_info(?)", (table,)))
