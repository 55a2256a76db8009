"""How a person names a run or a table on the command line.

    project/run                             projects/project/runs/run
    project/run/table                       projects/project/runs/run/metrics/table
    <root>/project/runs/run                 <root>/project/runs/run/metrics/table       also as a file: URL
    uid                                     uid/table

Names hold no slash, so the number of parts decides. Text only: nothing is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rund._errors import InvalidUrlError
from rund._root import is_alias, local_path

from .options import Target

_UID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True)
class RunName:
    """A run as it was named: by exactly one of resource name, URL and uid.

    Attributes:
        text: what was given.
        name: resource name.
        url: URL of the run.
        uid: UUID of the run.
        table: name of one of its tables; empty when the run itself is meant.
        root: root that the URL leads into.
    """

    text: str
    name: str = ""
    url: str = ""
    uid: str = ""
    table: str = ""
    root: Path | None = None

    def daemon(self, target: Target) -> Target:
        """The daemon to ask: the one that was named, else the one whose root a URL leads into."""
        if target.named or self.root is None:
            return target
        return replace(target, root=self.root)


def parse_run(text: str) -> RunName:
    """Reads the name of a run.

    Raises:
        click.UsageError: it is none.
    """
    name = parse_table(text)
    if name.table:
        raise click.UsageError(f"{text!r} names a table; a run is PROJECT/RUN, a resource name, a URL or a uid")
    return name


def parse_table(text: str) -> RunName:
    """Reads the name of a run, or of one of its tables.

    Raises:
        click.UsageError: it is neither.
    """
    if text.startswith(("/", "file:", "<")):
        return _parse_url(text)
    parts = text.removesuffix("/").split("/")
    if all(parts):
        match parts:
            case ["projects", project, "runs", run]:
                return RunName(text, name=_resource(project, run))
            case ["projects", project, "runs", run, "metrics", table]:
                return RunName(text, name=_resource(project, run), table=table)
            case [uid] if _UID.fullmatch(uid):
                return RunName(text, uid=uid.lower())
            case [uid, table] if _UID.fullmatch(uid):
                return RunName(text, uid=uid.lower(), table=table)
            case [project, run]:
                return RunName(text, name=_resource(project, run))
            case [project, run, table]:
                return RunName(text, name=_resource(project, run), table=table)
    raise click.UsageError(
        f"{text!r} names no run; give PROJECT/RUN (followed by /TABLE where a table is meant), a resource name, "
        "a URL or a uid"
    )


def _parse_url(text: str) -> RunName:
    try:
        path = text if is_alias(text) else str(local_path(text))
    except InvalidUrlError as error:
        raise click.UsageError(str(error)) from None
    parts = path.rstrip("/").split("/")
    if len(parts) >= 6 and parts[-2] == "metrics" and parts[-4] == "runs":
        run, table = parts[:-2], parts[-1]
    elif len(parts) >= 4 and parts[-2] == "runs":
        run, table = parts, ""
    else:
        raise click.UsageError(f"{text!r} is no URL of a run; one is <root>/<project>/runs/<run>")
    # An alias, `<NAME>/…`, is expanded by the daemon: which root it leads into is not known here.
    root = None if is_alias(path) else Path("/".join(run[:-3]) or "/")
    return RunName(text, url="/".join(run), table=table, root=root)


def _resource(project: str, run: str) -> str:
    return f"projects/{project}/runs/{run}"
