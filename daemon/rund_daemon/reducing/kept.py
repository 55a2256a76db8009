"""The reducers that are kept, and what becomes of them."""

from __future__ import annotations

from rund_daemon.catalog import Change, Snapshot, keys, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.catalog.requests import find_request, keep_request
from rund_daemon.errors import NotFoundError, Reason
from rund_daemon.model import KeptReducer, KeptRequest, Micros, RequestKey, Uid
from rund_daemon.names import ReducerName
from rund_daemon.segments.layout import Layout


def find_reducer(snapshot: Snapshot, name: ReducerName) -> KeptReducer:
    """Gives the reducer of a name. Raises NotFoundError."""
    uid = snapshot.get(shelves.REDUCER_NAMES, keys.names(*name))
    reducer = snapshot.get(shelves.REDUCERS, uid) if uid else None
    if reducer is None:
        raise NotFoundError(
            Reason.REDUCER_NOT_FOUND,
            f"there is no reducer {name.reducer!r} in project {name.project!r}; list those that there are",
            resource=f"projects/{name.project}/reducers/{name.reducer}",
        )
    return reducer


def reducers_of(snapshot: Snapshot, project: str) -> list[KeptReducer]:
    """Gives the reducers of a project, or of all if it is empty, newest first."""
    kept = [reducer for _, reducer in snapshot.scan(shelves.REDUCERS, reverse=True)]
    return [reducer for reducer in kept if not project or reducer.project == project]


def remove_reducer(change: Change, name: ReducerName, request: RequestKey, now: Micros, layout: Layout) -> Uid | None:
    """Removes a reducer and has its folder moved to what is unfinished, which the next start removes at the latest.

    Returns:
        Its uid; None if the request was carried out before.

    Raises:
        NotFoundError: there is none of this name.
        InvalidError: the id was used for another request.
    """
    if find_request(change, request) is not None:
        return None
    reducer = find_reducer(change, name)
    change.delete(shelves.REDUCERS, reducer.uid)
    change.delete(shelves.REDUCER_NAMES, keys.names(*name))
    home = layout.reducer(name.project, name.reducer)
    add_move(change, layout.relative(home), layout.relative(layout.unfinished(reducer.uid)))
    keep_request(change, request, KeptRequest(request.method, request.fingerprint, reducer.uid, now))
    return reducer.uid
