"""Lists of runs: filtered, ordered and in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import RunDetails, details_of
from rund_daemon.identity import parse_uid, uid_text
from rund_daemon.model import Run, Uid, Value

from .filters import RUN_FIELDS, Missing, Timestamp, check_fields, descend, matches, parse_filter
from .order_by import RUN_ORDER_FIELDS, OrderBy, parse_order_by, sort_key
from .pages import check_page_size, make_token, read_token

_NEWEST_FIRST = "create_time desc"


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What to list. An empty project means all."""

    project: str = ""
    filter: str = ""
    order_by: str = ""
    show_deleted: bool = False
    full: bool = False


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs of one page; their values and tables are there if the query asked for them."""

    runs: tuple[RunDetails, ...]
    next_page_token: str


class RunLists:
    """Finds runs."""

    def __init__(self, catalog: Catalog, max_page_size: int) -> None:
        self._catalog = catalog
        self._max_page_size = max_page_size

    def page(self, query: ListQuery, page_size: int, page_token: str) -> RunPage:
        """Gives a page. It reads as many runs as it must: call it off the event loop.

        Raises:
            InvalidError: the filter, the order, the size or the token.
        """
        size = check_page_size(page_size, self._max_page_size)
        position = read_token(page_token, query)
        accept = _acceptor(query)
        order = parse_order_by(query.order_by or _NEWEST_FIRST, RUN_ORDER_FIELDS)
        with self._catalog.snapshot() as snapshot:
            if query.order_by in ("", _NEWEST_FIRST):
                runs, following = _newest_first(snapshot, query, accept, position, size)
            else:
                runs, following = _ordered(snapshot, query, accept, order, position, size)
            found = tuple(details_of(snapshot, run) if query.full else RunDetails(run, (), (), ()) for run in runs)
        return RunPage(found, make_token(query, following) if following else "")


def run_field(run: Run, path: tuple[str, ...]) -> Value | Timestamp | Missing:
    """Gives the value that a path of a filter or an order names.

    The empty path gives the texts in which a word alone is looked for.

    Raises:
        KeyError: runs have no such field.
    """
    if not path:
        return [run.name, run.project, run.description, *run.labels.values()]
    name, *rest = path
    value = _FIELDS[name](run)
    if not rest:
        return value
    if not isinstance(value, dict):
        raise KeyError(".".join(path))
    return descend(value, tuple(rest))


_FIELDS: dict[str, Callable[[Run], Value | Timestamp | Missing]] = {
    "name": lambda run: run.resource_name,
    "project_name": lambda run: run.project,
    "run_name": lambda run: run.name,
    "uid": lambda run: uid_text(run.uid),
    "description": lambda run: run.description,
    "status": lambda run: str(run.status),
    "create_time": lambda run: Timestamp(run.create_time),
    "update_time": lambda run: Timestamp(run.update_time),
    "labels": lambda run: dict(run.labels),
    "parameters": lambda run: run.parameters,
}


def _acceptor(query: ListQuery) -> Callable[[Run], bool]:
    condition = parse_filter(query.filter) if query.filter.strip() else None
    if condition is not None:
        check_fields(condition, RUN_FIELDS)

    def accept(run: Run) -> bool:
        if run.delete_time and not query.show_deleted:
            return False
        return condition is None or matches(condition, lambda path: run_field(run, path))

    return accept


def _scan(snapshot: Snapshot, query: ListQuery, start: Uid | None) -> Iterator[Run]:
    """Runs from the newest down; with a start, those that are older than it."""
    if query.project:
        prefix = keys.names_prefix(query.project)
        begin = prefix + start if start else b""
        for _, uid in snapshot.scan(shelves.PROJECT_RUNS, prefix, start=begin, reverse=True):
            if run := snapshot.get(shelves.RUNS, uid):
                yield run
        return
    for _, run in snapshot.scan(shelves.RUNS, start=start or b"", reverse=True):
        yield run


def _newest_first(
    snapshot: Snapshot, query: ListQuery, accept: Callable[[Run], bool], position: str, size: int
) -> tuple[list[Run], str]:
    start = parse_uid(position, "page_token") if position else None
    found = list(islice(filter(accept, _scan(snapshot, query, start)), size + 1))
    return found[:size], uid_text(found[size - 1].uid) if len(found) > size else ""


def _ordered(
    snapshot: Snapshot,
    query: ListQuery,
    accept: Callable[[Run], bool],
    order: OrderBy,
    position: str,
    size: int,
) -> tuple[list[Run], str]:
    runs = sorted(
        filter(accept, _scan(snapshot, query, None)),
        key=lambda run: sort_key(order, lambda path: run_field(run, path)),
    )
    begin = 0
    if position:
        after = parse_uid(position, "page_token")
        # The run may be gone or have moved since: then the list begins again rather than leave some out.
        begin = next((index + 1 for index, run in enumerate(runs) if run.uid == after), 0)
    page = runs[begin : begin + size]
    return page, uid_text(page[-1].uid) if begin + size < len(runs) and page else ""
