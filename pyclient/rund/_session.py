"""What this process has open: the active run, and the runs to be ended when the interpreter ends.

It is state of the process because ``rund.log()`` and ``rund.active_run()`` are: they take no handle. Nothing
is registered before the first run is made.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ._endings import Ending, ending_of_interpreter
from ._locate import Daemon, daemon_at
from ._root import PathLike, is_alias, local_path
from ._start import connect

if TYPE_CHECKING:  # Run is built on this module
    from ._run import Run

EXIT_TIMEOUT_S = 2.0
"""How long all runs together may hold up the interpreter's end. Rows that are not sent by then stay in the journal."""

_logger = logging.getLogger("rund")


@dataclass(frozen=True, slots=True)
class Launch:
    """One of the runs that the processes of a launch join.

    Attributes:
        place: Root, project and name that the processes asked for.
        launch_id: What they share; empty when there is no launcher.
    """

    place: tuple[Path, str, str]
    launch_id: str


class Session:
    """The runs of one process."""

    def __init__(self) -> None:
        self.active: Run | None = None
        self._unfinished: dict[Run, Launch] = {}
        self._ended: Counter[tuple[Path, str, str]] = Counter()
        self._registered = False

    def launch(self, launch_id: str, place: tuple[Path, str, str]) -> Launch:
        """The launch that a run at a place belongs to.

        All processes of a launch that begin a run at one place join it. What they begin there when that one
        has ended is another run, and again the same for all of them: they end and begin in the same order.
        """
        ended = self._ended[place]
        return Launch(place, f"{launch_id}/{ended}" if launch_id and ended else launch_id)

    def opened(self, run: Run, launch: Launch) -> None:
        """Remembers a run that this process has to end."""
        self._unfinished[run] = launch
        if not self._registered:
            atexit.register(self._finish_at_exit, os.getpid())
            self._registered = True

    def ended(self, run: Run) -> None:
        """Forgets a run that has ended."""
        launch = self._unfinished.pop(run, None)
        if launch is not None:
            self._ended[launch.place] += 1
        if self.active is run:
            self.active = None

    def _finish_at_exit(self, pid: int) -> None:
        # A forked child runs the handlers that it inherited, but the runs are its parent's to end.
        if os.getpid() != pid:
            return
        ending, deadline = ending_of_interpreter(), time.monotonic() + EXIT_TIMEOUT_S
        for run in tuple(self._unfinished):
            end_quietly(run, ending, max(0.0, deadline - time.monotonic()))


session = Session()


def end_quietly(run: Run, ending: Ending, timeout_s: float) -> None:
    """Ends a run where nothing may be raised; what goes wrong is logged."""
    try:
        run.end(ending, timeout_s)
    except Exception as error:
        _logger.warning("run %s was not ended cleanly: %s", run.url, error)


def daemon_for(root_url: PathLike | None = None, address: str | None = None) -> Daemon:
    """The daemon that arguments name; without any, the active run's, else the default one."""
    if root_url is None and address is None and session.active is not None:
        return session.active.daemon
    return connect(root_url, address)


def daemon_of_url(url: str, address: str | None) -> Daemon:
    """The daemon that knows a URL: that of its root, if it lies in one on this host, else the usual one.

    Raises:
        DaemonUnavailableError: None is there. One is started only for a root that exists.
    """
    if address is not None:
        return daemon_at(address)
    root = None if is_alias(url) or _is_remote(url) else root_of(local_path(url))
    if session.active is not None and root in (None, session.active.daemon.root):
        return session.active.daemon
    return connect(root, start=root is not None)


def root_of(path: Path) -> Path | None:
    """The root that a run, metrics table or input table at a path would lie in, if there is that root."""
    depth = {"runs": 2, "metrics": 4, "tables": 4}.get(path.parent.name)
    if depth is None or len(path.parents) <= depth:
        return None
    root = path.parents[depth]
    return root if (root / "catalog").is_dir() or (root / "daemon.json").exists() else None


def _is_remote(url: str) -> bool:
    return "://" in url and not url.startswith("file:")
