"""Creates runs, or finds the one that a name or a launch stands for."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from rund_daemon.catalog import Change, keys, shelves
from rund_daemon.catalog.moves import add_move
from rund_daemon.errors import ExhaustedError, ExistsError, InvalidError, Reason
from rund_daemon.limits import Limits
from rund_daemon.model import EventType, IfExists, Micros, Run, RunEnd, RunStatus, Uid, Values, Writer
from rund_daemon.names import RunName, with_number
from rund_daemon.quotas import UNLIMITED, Allowance
from rund_daemon.segments.layout import Layout

from .revisions import record_change
from .trash import Retention, move_to_trash


@dataclass(frozen=True, slots=True)
class NewRun:
    """What is asked for. An empty `name` asks for a generated one, an empty `launch_id` for no joining."""

    project: str
    name: str = ""
    description: str = ""
    status: RunStatus = RunStatus.RUNNING
    labels: dict[str, str] = field(default_factory=dict)
    parameters: Values = field(default_factory=dict)
    if_exists: IfExists = IfExists.RENAME
    launch_id: str = ""
    writer: Writer | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """The run, and whether it is new."""

    run: Run
    created: bool


def create_run(  # noqa: PLR0917  # what the rooms of a daemon give it
    change: Change,
    new: NewRun,
    uid: Uid,
    now: Micros,
    layout: Layout,
    limits: Limits,
    retention: Retention,
    allowance: Allowance = UNLIMITED,
) -> Creation:
    """Creates a run, joins the launch's, or does what `if_exists` says.

    Raises:
        ExistsError: the name is taken and `if_exists` is RAISE.
        ExhaustedError: OVER_QUOTA: it would be a new one, and its project is full.
    """
    launch = keys.digest(new.launch_id, new.project, new.name) if new.launch_id else b""
    joined = _live_run(change, change.get(shelves.LAUNCHES, launch)) if launch else None
    if joined is not None:
        return Creation(_enter(change, joined, new, now, limits), created=False)
    creation = _create(change, new, uid, now, layout, limits, retention, allowance)
    if launch:
        change.put(shelves.LAUNCHES, launch, creation.run.uid)
    return creation


def insert_run(change: Change, run: Run, now: Micros) -> Run:
    """Puts a run under a name that is free."""
    change.put(shelves.RUN_NAMES, keys.names(run.project, run.name), run.uid)
    change.put(shelves.PROJECT_RUNS, keys.project_run(run.project, run.uid), run.uid)
    return record_change(change, run, EventType.CREATED, now)


def free_name(change: Change, project: str, name: str) -> str:
    """Gives the first free name of `name`, `name_0001`, `name_0002` and so on."""
    candidate, number = name, 0
    while change.has(shelves.RUN_NAMES, keys.names(project, candidate)):
        number += 1
        candidate = with_number(name, number)
    return candidate


def take_name(  # what an overwrite needs besides
    change: Change, name: RunName, if_exists: IfExists, now: Micros, layout: Layout, retention: Retention
) -> tuple[str, Run | None]:
    """Gives the name to use, and the run to reuse if that is asked for. Makes room for an overwrite."""
    uid = change.get(shelves.RUN_NAMES, keys.names(*name))
    existing = _live_run(change, uid)
    if existing is None:
        return name.run, None
    match if_exists:
        case IfExists.RENAME:
            return free_name(change, *name), None
        case IfExists.REUSE:
            return name.run, existing
        case IfExists.OVERWRITE:
            move_to_trash(change, existing, now, layout, retention)
            return name.run, None
        case IfExists.RAISE:
            raise name_taken(name, "run.run_name")


def name_taken(name: RunName, field: str) -> ExistsError:
    """The answer to who wants a name that another run bears."""
    return ExistsError(
        Reason.RUN_EXISTS,
        f"{field}: project {name.project!r} has a run {name.run!r}; choose another name, or another if_exists",
        field=field,
    )


def merge_labels(old: dict[str, str], new: dict[str, str], limits: Limits) -> dict[str, str]:
    """Merges labels and checks their bounds."""
    labels = {**old, **new}
    if len(labels) > limits.max_labels:
        raise ExhaustedError(
            Reason.OVER_LIMIT,
            f"run.labels: {len(labels)} labels and the limit is {limits.max_labels}; use parameters for more",
            field="run.labels",
            limit=f"max_labels={limits.max_labels}",
            value=len(labels),
        )
    for key, value in labels.items():
        if not key or max(len(key.encode()), len(value.encode())) > 255:
            raise InvalidError("run.labels", f"the label {key[:60]!r} is empty or longer than 255 bytes, key or value")
    return labels


def merge_parameters(old: Values, new: Values, limits: Limits) -> Values:
    """Merges parameters by top-level key and checks their size together."""
    merged = {**old, **new}
    size = len(shelves.VALUES.encode(merged))
    if size > limits.max_value_bytes:
        raise _over_value_limit("parameters", size, limits)
    return merged


def check_description(text: str, limits: Limits) -> str:
    """Checks the size of a description: it is sent with every list of runs."""
    size = len(text.encode())
    if size > limits.max_value_bytes:
        raise _over_value_limit("run.description", size, limits)
    return text


def _over_value_limit(field: str, size: int, limits: Limits) -> ExhaustedError:
    return ExhaustedError(
        Reason.OVER_LIMIT,
        f"{field}: {size} bytes together and the limit is {limits.max_value_bytes}; "
        "put large things into bulk_data_url",
        field=field,
        limit=f"max_value_bytes={limits.max_value_bytes}",
        value=size,
    )


def _create(  # noqa: PLR0917  # what the rooms of a daemon give it
    change: Change,
    new: NewRun,
    uid: Uid,
    now: Micros,
    layout: Layout,
    limits: Limits,
    retention: Retention,
    allowance: Allowance,
) -> Creation:
    wanted = new.name or free_name(change, new.project, _generated_name(uid))
    name, reused = take_name(change, RunName(new.project, wanted), new.if_exists, now, layout, retention)
    if reused is not None:
        return Creation(_enter(change, reused, new, now, limits), created=False)
    allowance.check()
    run = Run(
        uid=uid,
        project=new.project,
        name=name,
        create_time=now,
        update_time=now,
        description=check_description(new.description, limits),
        status=new.status,
        labels=merge_labels({}, new.labels, limits),
        parameters=new.parameters,
        init_parameters=new.parameters,
        writers=(new.writer,) if new.writer else (),
    )
    _set_stray_folder_aside(change, run, layout)
    return Creation(insert_run(change, run, now), created=True)


def _enter(change: Change, run: Run, new: NewRun, now: Micros, limits: Limits) -> Run:
    """A writer joins or resumes a run."""
    ends = run.ends
    if run.status.ended:
        ends = (*ends, RunEnd(run.status, run.cause, run.update_time))
    writers = run.writers
    if new.writer is not None:
        others = tuple(writer for writer in writers if writer.writer_id != new.writer.writer_id)
        writers = (*others, new.writer)[-limits.max_writers :]
    entered = replace(
        run,
        description=check_description(new.description, limits) or run.description,
        status=RunStatus.RUNNING if run.status.ended or run.status is RunStatus.EMPTY else run.status,
        cause=None if run.status.ended else run.cause,
        labels=merge_labels(dict(run.labels), new.labels, limits),
        parameters=merge_parameters(run.parameters, new.parameters, limits),
        ends=ends,
        writers=writers,
    )
    return record_change(change, entered, EventType.UPDATED, now)


def _live_run(change: Change, uid: Uid | None) -> Run | None:
    run = change.get(shelves.RUNS, uid) if uid else None
    return None if run is None or run.delete_time else run


def _set_stray_folder_aside(change: Change, run: Run, layout: Layout) -> None:
    """A folder that no run of the catalog owns would lend its files to the new run: it goes to trash."""
    folder = layout.run(run.project, run.name)
    pending = {move.source for _, move in change.scan(shelves.MOVES)}
    if folder.exists() and layout.relative(folder) not in pending:
        stray = layout.trash / f"stray-{run.uid.hex()}"
        add_move(change, layout.relative(folder), layout.relative(stray))


def _generated_name(uid: Uid) -> str:
    """Two words and a number, easy to say and to tell apart."""
    chance = random.Random(uid)  # noqa: S311  # a name, not a secret; the uid is the source of its randomness
    return f"{chance.choice(_ADJECTIVES)}-{chance.choice(_NOUNS)}-{chance.randrange(100, 1000)}"


_ADJECTIVES = [
    "amber",
    "bold",
    "brisk",
    "calm",
    "clear",
    "deft",
    "eager",
    "fair",
    "fleet",
    "gentle",
    "grand",
    "keen",
    "kind",
    "lucid",
    "mellow",
    "merry",
    "neat",
    "noble",
    "patient",
    "plain",
    "quick",
    "quiet",
    "rapid",
    "ready",
    "serene",
    "sharp",
    "silent",
    "smooth",
    "solid",
    "steady",
    "still",
    "sunny",
    "swift",
    "tidy",
    "vivid",
    "warm",
    "wise",
]
_NOUNS = [
    "alder",
    "aspen",
    "badger",
    "beech",
    "birch",
    "brook",
    "canyon",
    "cedar",
    "comet",
    "coral",
    "crane",
    "delta",
    "dune",
    "ember",
    "falcon",
    "fern",
    "finch",
    "fjord",
    "glacier",
    "harbor",
    "heron",
    "island",
    "juniper",
    "lagoon",
    "larch",
    "lark",
    "maple",
    "meadow",
    "mesa",
    "otter",
    "pine",
    "plover",
    "raven",
    "reef",
    "ridge",
    "robin",
    "spruce",
    "summit",
    "thistle",
    "tundra",
    "valley",
    "willow",
    "wren",
]
