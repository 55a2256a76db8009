"""Arrow batches to the tables of other libraries, which are imported only when they are asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import pyarrow as pa

from ._errors import MissingPackageError


def table_of(batches: Iterable[pa.RecordBatch]) -> pa.Table:
    """One table of batches; where their columns differ, what a batch lacks is null."""
    pieces = list(batches)
    if not pieces:
        return pa.table({})
    schema = pieces[0].schema
    if all(piece.schema.equals(schema) for piece in pieces):
        return pa.Table.from_batches(pieces, schema=schema)
    tables = [pa.Table.from_batches([piece]) for piece in pieces]
    return pa.concat_tables(tables, promote_options="permissive")


def to_pandas(table: pa.Table) -> Any:
    """A pandas data frame.

    Raises:
        MissingPackageError: pandas is not installed.
    """
    package("pandas")
    return table.to_pandas()


def to_polars(table: pa.Table) -> Any:
    """A Polars data frame.

    Raises:
        MissingPackageError: Polars is not installed.
    """
    return package("polars").from_arrow(table)


def to_duckdb(table: pa.Table, connection: Any) -> Any:
    """A DuckDB relation on the connection, or on DuckDB's default one.

    Raises:
        MissingPackageError: DuckDB is not installed.
    """
    return (connection or package("duckdb")).from_arrow(table)


def package(name: str) -> ModuleType:
    """An optional package, imported when it is needed.

    Raises:
        MissingPackageError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingPackageError(f"{name} is not installed; pip install {name}") from None
