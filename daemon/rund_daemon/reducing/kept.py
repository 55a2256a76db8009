"""The reducers that are kept, and what becomes of them."""

from __future__ import annotations

from rund_daemon.catalog import Snapshot, keys, shelves
from rund_daemon.errors import NotFoundError, Reason
from rund_daemon.model import KeptReducer
from rund_daemon.names import ReducerName


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
