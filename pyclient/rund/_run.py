"""The run: what one training is, and everything that may be done to it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from . import _compare, _plots, _query, _reductions, _run_copy, _run_metrics, _run_status, _watch
from ._bundle import Bundle, bundle_at
from ._endings import Ending, ending_of
from ._errors import RundError, WaitTimeoutError
from ._keeper import Keeper
from ._locate import Daemon
from ._lookup import run_at
from ._new_metrics import url_text
from ._root import DEFAULT_PROJECT, PathLike, run_resource
from ._rows import table_url
from ._run_writer import RunWriter
from ._session import EXIT_TIMEOUT_S, daemon_for, end_quietly, session
from ._table import Table
from ._transport import CALL_TIMEOUT_S, in_forked_child, run_calls
from ._types import Cause, MetricTableInfo, RunEvent, RunInfo, RunStatus, Value


class Run:
    """One run. Not made directly: use ``rund.init``, ``Run.from_url`` or ``Run.from_names``.

    Attributes that may change (``status``, ``parameters``, ``metrics`` and the like) are asked of the daemon
    each time; ``info`` gives all of them in one call. Whoever reads a run through the object that writes it
    sees what was written.
    """

    def __init__(self, daemon: Daemon | Bundle, info: RunInfo, writer_id: str = "") -> None:
        self._info = info
        self._keeper = daemon if isinstance(daemon, Bundle) else Keeper(daemon, RunWriter(daemon, info.uid, writer_id))

    @classmethod
    def from_url(cls, url: PathLike, *, address: str | None = None, deleted: bool = False) -> Run:
        """Loads an existing run.

        Args:
            url: ``<root>/<project>/runs/<run>``, also as a ``file:`` URL; or that of a bundle, a folder or an object
                store's such as ``s3://bucket/path``, which is read without a daemon and can't be changed.
            address: Where the daemon listens; else it is found by the root.
            deleted: Whether the run may be in trash.

        Raises:
            RunNotFoundError: There is no such run (a FileNotFoundError).
            InvalidUrlError: The URL is no run's (a ValueError).
            CorruptDataError: It is a damaged bundle's (an OSError).
        """
        if (bundle := bundle_at(url)) is not None:
            return cls(bundle, bundle.load())
        return cls(*run_at(os.fspath(url), address, deleted=deleted))

    @classmethod
    def from_names(
        cls,
        run_name: str,
        project_name: str | None = None,
        root_url: PathLike | None = None,
        *,
        address: str | None = None,
        deleted: bool = False,
    ) -> Run:
        """Loads an existing run by its names, of the project ``default`` and the default root if not given.

        Raises:
            RunNotFoundError: There is no such run (a FileNotFoundError).
            InvalidNameError: A name can't be one (a ValueError).
        """
        name = run_resource(project_name or DEFAULT_PROJECT, run_name)
        daemon = daemon_for(root_url, address)
        return cls(daemon, run_calls.get_run(daemon.transport, name=name, deleted=deleted, full=False))

    @property
    def daemon(self) -> Daemon:
        """The daemon that keeps the run. Raises WrongStateError for a bundle, which is read-only."""
        return self._keeper.daemon

    @property
    def writer(self) -> RunWriter:
        """What this process writes to the run. Raises WrongStateError for a bundle, which is read-only."""
        return self._keeper.writer

    @property
    def read_only(self) -> bool:
        """Whether it is a bundle, which can be read alone."""
        return self._keeper.read_only

    @property
    def info(self) -> RunInfo:
        """Everything that is known of the run now."""
        self._info = self._keeper.info(self._info)
        return self._info

    @property
    def _basic(self) -> RunInfo:
        self._info = self._keeper.basic(self._info)
        return self._info

    @property
    def resource_name(self) -> str:
        """``projects/{project}/runs/{run}``."""
        return self._info.resource_name

    @property
    def uid(self) -> str:
        """UUIDv7; stays the same when the run is renamed."""
        return self._info.uid

    @property
    def url(self) -> str:
        """The run's folder, ``<root>/<project>/runs/<run>``."""
        return self._info.url

    @property
    def name(self) -> str:
        """The run's own name."""
        return self._info.name

    @property
    def project_name(self) -> str:
        """The project's name."""
        return self._info.project_name

    @property
    def created(self) -> datetime | None:
        """When it was created."""
        return self._info.created

    @property
    def init_parameters(self) -> dict[str, Value]:
        """The parameters as they were when the run was created."""
        return self._info.init_parameters

    @property
    def last_modified(self) -> datetime | None:
        """When it was last changed, rows included."""
        return self.info.last_modified

    @property
    def status(self) -> RunStatus:
        """Where the run is in its life."""
        return self._basic.status

    @property
    def cause(self) -> Cause | None:
        """Why it ended, when it failed."""
        return self._basic.cause

    @property
    def etag(self) -> str:
        """Changes with each change of the metadata; see ``update``."""
        return self._basic.etag

    @property
    def description(self) -> str:
        """For people."""
        return self._basic.description

    @description.setter
    def description(self, description: str) -> None:
        self.update(description=description)

    @property
    def labels(self) -> Mapping[str, str]:
        """Short words for finding runs; replaced as a whole."""
        return self._basic.labels

    @labels.setter
    def labels(self, labels: Mapping[str, str]) -> None:
        self.update(labels=labels)

    @property
    def parameters(self) -> dict[str, Value]:
        """Hyperparameters and other settings; see ``set_parameters``."""
        return self._basic.parameters

    @property
    def constants(self) -> dict[str, Any]:
        """The run's values in one dict: ``parameters``, ``inputs`` and ``outputs``."""
        info = self.info
        return {"parameters": info.parameters, "inputs": list(info.inputs), "outputs": list(info.outputs)}

    @property
    def input_tables(self) -> list[str]:
        """URLs of the input tables that the run used, in order, each once."""
        return list(self._basic.input_table_urls)

    @property
    def metrics(self) -> list[MetricTableInfo]:
        """The metrics tables in order of writing, without their rows."""
        return self._keeper.metrics(self._info)

    @property
    def metrics_tables(self) -> list[Table]:
        """The metrics tables in order of writing; their rows are read when they are asked for."""
        return self._keeper.metrics_tables(self._info)

    @property
    def bulk_data_url(self) -> str:
        """A folder for large side files. It exists when this returns."""
        return self._keeper.bulk_data_url(self._info)

    def update(
        self,
        *,
        description: str | None = None,
        labels: Mapping[str, str] | None = None,
        parameters: Mapping[str, object] | None = None,
        status: RunStatus | None = None,
        cause: Cause | None = None,
        etag: str = "",
    ) -> None:
        """Replaces what is given and leaves the rest alone, at once.

        Args:
            description: For people.
            labels: All labels.
            parameters: All parameters; ``set_parameters`` merges instead.
            status: Where the run is in its life.
            cause: Why it failed.
            etag: Of the run as the caller knows it; the change is made only if it is still that.

        Raises:
            EtagMismatchError: The run was changed meanwhile (a RuntimeError).
        """
        change = run_calls.RunChange(
            description=description, labels=labels, parameters=parameters, status=status, cause=cause
        )
        self._info = run_calls.update_run(self.daemon.transport, self.resource_name, change, etag)

    def rename(self, run_name: str) -> None:
        """Gives the run another name: its name and URL change, its uid does not.

        Raises:
            RunExistsError: The name is taken (a FileExistsError).
            InvalidNameError: The name can't be one (a ValueError).
        """
        self.flush()
        change = run_calls.RunChange(run_name=run_name)
        self._info = run_calls.update_run(self.daemon.transport, self.resource_name, change)
        self.writer.renamed(self.resource_name)

    def set_description(self, description: str) -> None:
        """Replaces the description."""
        self.update(description=description)

    def set_parameters(self, parameters: Mapping[str, object]) -> None:
        """Sets parameters: a top-level key that is there is replaced, others are left alone.

        Raises:
            InvalidValueError: A value can't be kept; the message names its key (a ValueError).
        """
        run_calls.set_parameters(self.daemon.transport, self.resource_name, parameters)

    def add_input_table(self, input_table: Table | PathLike) -> None:
        """Adds an input table to the run's inputs. The same table twice is one entry.

        Raises:
            TableNotFoundError: There is no such table (a FileNotFoundError).
        """
        url = table_url(url_text(input_table))
        self._info = run_calls.add_input_table(self.daemon.transport, self.resource_name, url)

    def add_input_value(self, input_value: Mapping[str, object]) -> None:
        """Appends a value to the inputs; their order is kept."""
        run_calls.add_input_value(self.daemon.transport, self.resource_name, input_value)

    def add_output_value(self, output_value: Mapping[str, object]) -> None:
        """Appends a value to the outputs; ``epoch`` or ``iteration`` in it is the x of its chart."""
        run_calls.add_output_value(self.daemon.transport, self.resource_name, output_value)

    # Functions of modules of their own, so that this one stays one room.
    set_status_empty = _run_status.set_status_empty
    set_status_running = _run_status.set_status_running
    set_status_collecting = _run_status.set_status_collecting
    set_status_post_processing = _run_status.set_status_post_processing
    set_status_paused = _run_status.set_status_paused
    set_status_completed = _run_status.set_status_completed
    set_status_cancelled = _run_status.set_status_cancelled
    set_status_failed = _run_status.set_status_failed
    add_metrics = _run_metrics.add_metrics
    add_metrics_data = _run_metrics.add_metrics_data
    metrics_writer = _run_metrics.metrics_writer
    update_metrics = _run_metrics.update_metrics
    add_metrics_table = _run_metrics.add_metrics_table
    undelete_metrics_table = _run_metrics.undelete_metrics_table

    def log(self, values: Mapping[str, object], step: int | None = None) -> None:
        """Keeps one row of the table ``history``: step, time, rank and the values.

        When it returns, the row survives the death of this process; whether a daemon can be reached does not
        matter.

        Args:
            values: Values by key; a key may appear for the first time at any step.
            step: The step, in any order and any number of times; None: the one after this process's last.
        """
        history = self.writer.history or self.writer.open_history(self.resource_name)
        history.log(values, step)

    def flush(self, timeout: float | None = None) -> None:
        """Returns when all that was logged is acked, and so on disk and visible to every reader.

        Raises:
            WaitTimeoutError: It took longer than ``timeout`` seconds; nothing is lost (a TimeoutError).
        """
        self.writer.flush(timeout)

    def finish(self, timeout: float | None = None) -> None:
        """Flushes and says that this process has finished; the run ends when its last writer has.

        It ends a run that was not begun in this process.

        Raises:
            WaitTimeoutError: Not everything was acked in ``timeout`` seconds. The rest is in the journal, and
                the daemon takes it from there (a TimeoutError).
        """
        self.end(Ending(), timeout)

    def end(self, ending: Ending, timeout: float | None) -> None:
        """As ``finish``, with another status than COMPLETED."""
        deadline = None if timeout is None else time.monotonic() + timeout
        fault: RundError | None = None
        try:
            acked = self.writer.close(timeout)
        except RundError as error:
            # A table that could not be written must not keep the run from ending.
            fault, acked = error, True
        self.writer.warn_of_drops(self.url)
        if in_forked_child():
            return
        left = CALL_TIMEOUT_S if deadline is None else max(0.1, deadline - time.monotonic())
        self._info = run_calls.finish_run(
            self.daemon.transport,
            self.resource_name,
            ending.status,
            ending.cause,
            self.writer.writer_id,
            timeout_s=left,
            dropped_rows=self.writer.dropped_rows,
        )
        session.ended(self)
        if fault is not None:
            raise fault
        if not acked:
            raise WaitTimeoutError(f"not all rows of {self.url} were acked in {timeout} s; the rest is in the journal")

    copy = _run_copy.copy

    def delete(self, etag: str = "") -> None:
        """Moves the run to trash. Its name is free at once; until it is collected it can be restored.

        Raises:
            EtagMismatchError: An etag is given and the run was changed meanwhile (a RuntimeError).
        """
        self._info = run_calls.delete_run(self.daemon.transport, self.resource_name, etag)

    def undelete(self) -> None:
        """Takes the run out of trash.

        Raises:
            RunExistsError: Its name was taken meanwhile (a FileExistsError).
        """
        self._info = run_calls.undelete_run(self.daemon.transport, self.resource_name, self.uid)

    def watch(self, after_revision: int | None = None) -> Iterator[RunEvent]:
        """Gives the run as it is and then every change of it, until the caller stops."""
        return _watch.watch(self.daemon.transport, self.resource_name, after_revision)

    query = _query.query_run
    compare = _compare.compare
    plot_embedding = _plots.plot_embedding
    to_bundle = _run_copy.to_bundle
    reduce_embeddings_by_foreign_table_url = _reductions.reduce_embeddings_by_foreign_table_url
    reduce_embeddings_per_dataset = _reductions.reduce_embeddings_per_dataset

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            end_quietly(self, ending_of(error), EXIT_TIMEOUT_S)

    def __repr__(self) -> str:
        return f"Run({self.url!r})"
