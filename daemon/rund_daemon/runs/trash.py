"""Into trash and out of it. The folder moves after the commit; the name is free at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.lookup import find_trashed
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import ExistsError, NotFoundError, Reason
from rund_daemon.model import EventType, Micros, Run, Uid
from rund_daemon.names import RunName
from rund_daemon.segments.layout import Layout

from .revisions import record_change

_DAY_MICROS = 24 * 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class Retention:
    """How many days a run in trash can be restored for certain, and where that is another time by project."""

    days: float = 30.0
    by_project: Mapping[str, float] = field(default_factory=dict)

    def kept(self, project: str) -> Micros:
        """How long what is deleted of a project is kept; of what has no project if it is empty."""
        return Micros(int(self.by_project.get(project, self.days) * _DAY_MICROS))


A_MONTH = Retention()


def move_to_trash(change: Change, run: Run, now: Micros, layout: Layout, retention: Retention) -> Run:
    """Takes a run's name away and has its folder moved."""
    change.delete(shelves.RUN_NAMES, keys.names(run.project, run.name))
    change.put(shelves.TRASH_NAMES, keys.trash_name(run.project, run.name, run.uid), run.uid)
    folder = layout.relative(layout.run(run.project, run.name))
    add_move(change, folder, layout.relative(layout.trashed(run.uid)))
    trashed = replace(run, delete_time=now, expire_time=Micros(now + retention.kept(run.project)))
    return record_change(change, trashed, EventType.DELETED, now)


def restore(change: Change, name: RunName, uid: Uid | None, now: Micros, layout: Layout) -> Run:
    """Gives a run in trash its name and folder back.

    Raises:
        NotFoundError: there is no such run in trash.
        ExistsError: another run bears the name now.
    """
    run = change.get(shelves.RUNS, uid) if uid else find_trashed(change, name)
    if run is None or not run.delete_time or RunName(run.project, run.name) != name:
        raise NotFoundError(Reason.RUN_NOT_FOUND, f"there is no run {name.run!r} of project {name.project!r} in trash")
    if change.has(shelves.RUN_NAMES, keys.names(*name)):
        raise ExistsError(
            Reason.RUN_EXISTS,
            f"name: another run is called {name.run!r} now; rename or delete it first",
            field="name",
        )
    change.delete(shelves.TRASH_NAMES, keys.trash_name(run.project, run.name, run.uid))
    change.put(shelves.RUN_NAMES, keys.names(*name), run.uid)
    folder = layout.relative(layout.run(run.project, run.name))
    add_move(change, layout.relative(layout.trashed(run.uid)), folder)
    return record_change(change, replace(run, delete_time=Micros(0), expire_time=Micros(0)), EventType.CREATED, now)
