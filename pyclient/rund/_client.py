"""A daemon as a whole: what it keeps, and what goes on in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from . import _watch
from ._job_types import OperationInfo, ReducerInfo
from ._locate import Daemon
from ._root import PathLike, checked_name
from ._rows import InputRows, table_url
from ._start import connect as connect_daemon
from ._table import Table
from ._transport import daemon_calls, reduction_calls, run_calls, table_calls
from ._types import IfExists, ProjectUsage, RunEvent, RunInfo, ServerInfo, TrashEntry


class Client:
    """Lists and watches what one daemon keeps. Made by ``rund.connect``."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon

    @property
    def address(self) -> str:
        """Where the daemon listens."""
        return self.daemon.transport.address

    def server_info(self) -> ServerInfo:
        """Which daemon it is and what it takes."""
        return daemon_calls.get_server_info(self.daemon.transport)

    def list_runs(
        self,
        project_name: str | None = None,
        *,
        filter: str = "",  # noqa: A002 - the name that the API gives it
        order_by: str = "",
        show_deleted: bool = False,
        page_size: int = 0,
    ) -> Iterator[RunInfo]:
        """Gives runs, newest first, without their inputs, outputs and metrics.

        Args:
            project_name: Of which project; None: of all.
            filter: Such as ``status = COMPLETED AND parameters.lr < 0.1``; empty: all.
            order_by: Such as ``update_time desc, run_name``; empty: ``create_time desc``.
            show_deleted: Whether runs in trash are listed too.
            page_size: Runs that are fetched at once; 0: the daemon's choice.

        Raises:
            InvalidFilterError: The filter can't be parsed (a ValueError).
            InvalidOrderByError: The order can't be parsed (a ValueError).
        """
        query = run_calls.RunQuery(project_name or "", filter, order_by, show_deleted, page_size)
        return run_calls.list_runs(self.daemon.transport, query)

    def list_tables(self, project_name: str | None = None, dataset_name: str | None = None) -> Iterator[Table]:
        """Gives input tables, newest first; None means those of all projects or data sets."""
        transport = self.daemon.transport
        infos = table_calls.list_tables(transport, project_name or "", dataset_name or "")
        return (Table(InputRows(self.daemon, info)) for info in infos)

    def watch(self, project_name: str | None = None, after_revision: int | None = None) -> Iterator[RunEvent]:
        """Gives the runs as they are, then every change in order and without a gap, until the caller stops.

        Args:
            project_name: Of which project; None: of all.
            after_revision: Where to go on after a break; None: from now.

        Raises:
            RevisionGoneError: Events after the revision are no longer kept (a RuntimeError).
        """
        project = "-" if project_name is None else checked_name(project_name, "project_name")
        return _watch.watch(self.daemon.transport, f"projects/{project}", after_revision)

    def collect_trash(
        self, project_name: str | None = None, *, min_age_seconds: float | None = None, dry_run: bool = False
    ) -> list[TrashEntry]:
        """Removes for good what is in trash, and gives what that was.

        The daemon does it by itself, of what has expired.

        Args:
            project_name: Of which project; None: of all, and what belongs to no run besides.
            min_age_seconds: How long it must have been in trash; 0: all of it; None: until it has expired.
            dry_run: Whether to say only what would be removed.

        Raises:
            PermissionDeniedError: The token does not allow it (a PermissionError).
        """
        project = "-" if project_name is None else checked_name(project_name, "project_name")
        return run_calls.collect_trash(
            self.daemon.transport, f"projects/{project}", min_age_seconds, validate_only=dry_run
        )

    def list_usage(self, project_name: str | None = None) -> list[ProjectUsage]:
        """Gives what each project holds and how much it may, by name; it may be a minute old.

        Args:
            project_name: Of which project; None: of all that have runs or input tables.
        """
        project = "-" if project_name is None else checked_name(project_name, "project_name")
        return run_calls.get_usage(self.daemon.transport, f"projects/{project}")

    def import_bundle(
        self,
        bundle_url: PathLike,
        run_name: str | None = None,
        project_name: str | None = None,
        if_exists: IfExists = "raise",
    ) -> RunInfo:
        """Makes a run of a bundle, and gives it when it is complete. Every checksum is verified by the daemon.

        Args:
            bundle_url: A folder that the daemon sees, or a place in an object store, such as ``s3://bucket/path``.
            run_name: The run's name; None: as in the bundle.
            project_name: Its project; None: as in the bundle.
            if_exists: ``raise``, ``rename`` or ``overwrite``.

        Raises:
            RunNotFoundError: There is no bundle (a FileNotFoundError).
            CorruptDataError: It is damaged; the message names the file (an OSError).
            RunExistsError: The name is taken (a FileExistsError).
            PermissionDeniedError: The daemon's configuration does not allow the URL (a PermissionError).
        """
        target = run_calls.CopyTarget(run_name or "", project_name or "", if_exists=if_exists)
        operation = run_calls.import_run(self.daemon.transport, table_url(os.fspath(bundle_url)), target)
        operation = daemon_calls.wait_operation(self.daemon.transport, operation.name)
        if operation.error is not None:
            raise operation.error
        assert operation.run is not None
        return operation.run

    def list_reducers(self, project_name: str | None = None) -> Iterator[ReducerInfo]:
        """Gives reducers, newest first; None means those of all projects. ``Reducer.from_names`` makes use of one."""
        project = "" if project_name is None else checked_name(project_name, "project_name")
        return reduction_calls.list_reducers(self.daemon.transport, project)

    def list_operations(self) -> Iterator[OperationInfo]:
        """Gives long-running jobs, newest first."""
        return daemon_calls.list_operations(self.daemon.transport)

    def get_operation(self, name: str) -> OperationInfo:
        """Gives a long-running job.

        Raises:
            OperationNotFoundError: There is none of this name (a FileNotFoundError).
        """
        return daemon_calls.get_operation(self.daemon.transport, name)

    def cancel_operation(self, name: str) -> OperationInfo:
        """Asks a long-running job to end; unless it is done first, it changes nothing."""
        return daemon_calls.cancel_operation(self.daemon.transport, name)

    def wait_operation(self, name: str, timeout: float | None = None) -> OperationInfo:
        """Gives a long-running job when it is done, or as it is after ``timeout`` seconds."""
        return daemon_calls.wait_operation(self.daemon.transport, name, timeout)

    def __repr__(self) -> str:
        return f"Client({self.address!r})"


def connect(root_url: PathLike | None = None, *, address: str | None = None, start: bool = True) -> Client:
    """Connects to a daemon.

    Args:
        root_url: Its root; ``RUND_ROOT``, else ``rund`` in the user's data folder when not given.
        address: Where it listens; without it ``RUND_ADDRESS``, else the root's ``daemon.json``.
        start: Whether one is started when there is none.

    Raises:
        DaemonUnavailableError: None answers, or none can be started (a ConnectionError).
    """
    return Client(connect_daemon(root_url, address, start=start))
