"""Lists of runs: filtered, ordered and in pages."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from rund_daemon.catalog import Catalog, Snapshot, keys, shelves
from rund_daemon.catalog.lookup import RunDetails, details_of
from rund_daemon.model import Run, Uid

from .filters import RUN_FIELDS, check_fields, parse_filter
from .order_by import RUN_ORDER_FIELDS, parse_order_by
from .pages import check_page_size, invalid_token, make_token, read_token
from .positions import Position, position_from_text, position_to_text
from .run_index import RunIndex

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
        self._index = RunIndex()
        self._lock = threading.Lock()

    def page(self, query: ListQuery, page_size: int, page_token: str) -> RunPage:
        """Gives a page. It reads as many runs as it must: call it off the event loop.

        Raises:
            InvalidError: the filter, the order, the size or the token.
        """
        size = check_page_size(page_size, self._max_page_size)
        order = (
            () if query.order_by.strip() in ("", _NEWEST_FIRST) else parse_order_by(query.order_by, RUN_ORDER_FIELDS)
        )
        tree = parse_filter(query.filter)
        check_fields(tree, RUN_FIELDS)
        position = _position(read_token(page_token, query), len(order))
        if order or query.filter.strip():
            # The index is as new as the newest snapshot that it was given, so they come to it one by one.
            with self._lock, self._catalog.snapshot() as snapshot:
                found = self._index.find(snapshot, tree, order, project=query.project, deleted=query.show_deleted)
                return _page(snapshot, query, *found.after(position, size))
        with self._catalog.snapshot() as snapshot:
            newest = islice(_newest_first(snapshot, query, position.uid if position else None), size + 1)
            uids = [run.uid for run in newest]
            return _page(snapshot, query, uids[:size], Position(uids[size - 1]) if len(uids) > size else None)


def _position(text: str, values: int) -> Position | None:
    position = position_from_text(text, values) if text else None
    if text and position is None:
        raise invalid_token("is not one that this method gave")
    return position


def _page(snapshot: Snapshot, query: ListQuery, uids: Sequence[Uid], following: Position | None) -> RunPage:
    runs = (snapshot.get(shelves.RUNS, uid) for uid in uids)
    found = tuple(
        details_of(snapshot, run) if query.full else RunDetails(run, (), (), ()) for run in runs if run is not None
    )
    return RunPage(found, make_token(query, position_to_text(following)) if following else "")


def _newest_first(snapshot: Snapshot, query: ListQuery, start: Uid | None) -> Iterator[Run]:
    """Runs from the newest down; with a start, those that are older than it."""
    for run in _scan(snapshot, query.project, start):
        if query.show_deleted or not run.delete_time:
            yield run


def _scan(snapshot: Snapshot, project: str, start: Uid | None) -> Iterator[Run]:
    if project:
        prefix = keys.names_prefix(project)
        begin = prefix + start if start else b""
        for _, uid in snapshot.scan(shelves.PROJECT_RUNS, prefix, start=begin, reverse=True):
            if run := snapshot.get(shelves.RUNS, uid):
                yield run
        return
    for _, run in snapshot.scan(shelves.RUNS, start=start or b"", reverse=True):
        yield run
