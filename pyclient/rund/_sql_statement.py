"""What an SQL statement names, as DuckDB's own parser sees it. Nothing is bound, read or carried out here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ._errors import QueryError

MAX_LENGTH = 100_000

# Functions that give rows and read nothing. Others could read files, or carry out SQL that was not looked at.
_TABLE_FUNCTIONS = frozenset(("range", "generate_series", "unnest"))


@dataclass(frozen=True, slots=True)
class Statement:
    """One SELECT.

    Attributes:
        sql: As the caller wrote it.
        tables: Schema and name of each relation that it names; the schema is empty when it names none.
        words: Every name and text in it, in lower case.
        all_columns: Whether it may mean columns without naming them.
    """

    sql: str
    tables: Sequence[tuple[str, str]]
    words: frozenset[str]
    all_columns: bool

    def columns_of(self, names: Sequence[str]) -> list[str]:
        """Which of a relation's columns must be there. One stays when none is named, so that rows can be counted."""
        wanted = [name for name in names if self.all_columns or name.lower() in self.words]
        return wanted or list(names[:1])


def parse_statement(connection: Any, sql: str) -> Statement:
    """Parses a statement.

    Raises:
        QueryError: It is no SELECT, more than one, or calls a function that may read something else.
    """
    if len(sql) > MAX_LENGTH:
        raise QueryError(f"the SQL has {len(sql)} characters and the limit is {MAX_LENGTH}")
    try:
        [[text]] = connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()
        parsed = json.loads(text)
    except (UnicodeEncodeError, RecursionError) as error:
        raise QueryError(f"the SQL can't be parsed: {error}") from None
    if parsed["error"]:
        raise QueryError(_explained(parsed))
    if len(parsed["statements"]) != 1:
        raise QueryError(f"one SELECT is carried out at a time; the SQL has {len(parsed['statements'])} statements")
    return _read(sql, list(_nodes(parsed["statements"])))


def _explained(parsed: dict[str, str]) -> str:
    if parsed["error_type"] == "not implemented":
        return "only SELECT is carried out: nothing can be written, attached, installed or set (PIVOT goes inside FROM)"
    return f"the SQL can't be parsed: {parsed['error_message']}"


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    # Not by recursion: a statement may nest deeper than Python's stack.
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node


def _read(sql: str, nodes: Sequence[dict[str, Any]]) -> Statement:
    tables, aliases, ctes = dict[tuple[str, str], None](), set[str](), set[str]()
    words, everything = set[str](), False
    for node in nodes:
        kind = node.get("type")
        ctes |= {entry["key"].lower() for entry in (node.get("cte_map") or {}).get("map", ())}
        words |= _texts(node)
        everything |= kind in ("STAR", "SHOW_REF") or node.get("ref_type") == "NATURAL"
        if kind == "TABLE_FUNCTION":
            _check_function(node)
        if kind == "BASE_TABLE":
            if node["catalog_name"]:
                raise QueryError(f"{node['catalog_name']!r} is no part of a relation's name; write SCHEMA.TABLE")
            tables[node["schema_name"], node["table_name"]] = None
            aliases |= {node["table_name"].lower(), node["alias"].lower()}
    # A relation's name in the place of a column is the whole row.
    everything |= any(len(names) == 1 and names[0].lower() in aliases for names in _column_names(nodes))
    named = [(schema, name) for schema, name in tables if schema or name.lower() not in ctes]
    return Statement(sql, named, frozenset(words), everything)


def _texts(node: dict[str, Any]) -> set[str]:
    found = {value.lower() for value in node.values() if isinstance(value, str)}
    for value in node.values():
        if isinstance(value, list):
            found |= {item.lower() for item in value if isinstance(item, str)}
    return found


def _column_names(nodes: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    return (node["column_names"] for node in nodes if node.get("class") == "COLUMN_REF")


def _check_function(node: dict[str, Any]) -> None:
    name = (node.get("function") or {}).get("function_name", "")
    if name.lower() not in _TABLE_FUNCTIONS:
        raise QueryError(
            f"the function {name!r} can't be read from: SQL sees the runs alone; "
            f"known are {', '.join(sorted(_TABLE_FUNCTIONS))}"
        )
