"""Reducers: models that reductions have fitted, kept by a daemon to map further tables into the same space."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, overload

from ._errors import InvalidUrlError
from ._job_types import OperationInfo, ReducerInfo
from ._locate import Daemon
from ._reductions import ended
from ._root import DEFAULT_PROJECT, PathLike, checked_name
from ._run import Run
from ._session import daemon_for
from ._table import Table
from ._transport import reduction_calls
from ._types import MetricTableInfo


class Reducer:
    """A fitted model under a name. Not made directly: reductions make it, ``Reducer.from_names`` finds it.

    Attributes:
        info: What is known of it.
    """

    def __init__(self, daemon: Daemon, info: ReducerInfo) -> None:
        self._daemon = daemon
        self.info = info

    @classmethod
    def from_names(
        cls,
        reducer_name: str,
        project_name: str | None = None,
        *,
        root_url: PathLike | None = None,
        address: str | None = None,
    ) -> Reducer:
        """Finds a reducer by its names, of the project ``default`` and the default root if not given.

        Args:
            reducer_name: Its own name, or its resource name, ``projects/{project}/reducers/{reducer}``.
            project_name: Its project.
            root_url: The root that it is kept in.
            address: Where the daemon listens.

        Raises:
            ReducerNotFoundError: There is none (a FileNotFoundError).
            InvalidNameError: A name can't be one (a ValueError).
        """
        name = reducer_name
        if not name.startswith("projects/"):
            project = checked_name(project_name or DEFAULT_PROJECT, "project_name")
            name = f"projects/{project}/reducers/{checked_name(reducer_name, 'reducer_name')}"
        daemon = daemon_for(root_url, address)
        return cls(daemon, reduction_calls.get_reducer(daemon.transport, name))

    @property
    def name(self) -> str:
        """Its own name."""
        return self.info.name

    @overload
    def transform(
        self,
        tables: Run | Iterable[Table | MetricTableInfo],
        delete_source_tables: bool = ...,
        *,
        wait: Literal[False],
    ) -> OperationInfo: ...
    @overload
    def transform(
        self,
        tables: Run | Iterable[Table | MetricTableInfo],
        delete_source_tables: bool = ...,
        *,
        wait: Literal[True] = ...,
        progress: bool | None = ...,
    ) -> dict[str, str]: ...
    def transform(
        self,
        tables: Run | Iterable[Table | MetricTableInfo],
        delete_source_tables: bool = False,
        *,
        wait: bool = True,
        progress: bool | None = None,
    ) -> Any:
        """Maps metrics tables, of any runs of the root, into the space of this reducer.

        The tables are replaced as those of ``Run.reduce_embeddings_per_dataset`` are, in one step for all.

        Args:
            tables: The tables; a run stands for all of its tables with the column that the reducer was fitted on.
            delete_source_tables: Whether the old tables go to trash. Else they can still be read by their URL.
            wait: Whether to wait for the end; else the operation is given at once.
            progress: Whether a bar is drawn meanwhile; None: if stderr is a terminal.

        Returns:
            Of each table its absolute URL, and that of the table in its place.

        Raises:
            InvalidColumnError: A table lacks the column, or its vectors have another width (a ValueError).
            WrongStateError: A table is still written to (a RuntimeError).
        """
        transport = self._daemon.transport
        operation = reduction_calls.transform_metrics(
            transport, self.info.resource_name, self._names(tables), delete_source_tables=delete_source_tables
        )
        return ended(transport, operation, wait=wait, progress=progress)

    def delete(self) -> None:
        """Removes it and its files for good. Maps that were made with it stay as they are.

        Raises:
            ReducerNotFoundError: It is gone already (a FileNotFoundError).
        """
        reduction_calls.delete_reducer(self._daemon.transport, self.info.resource_name)

    def _names(self, tables: Run | Iterable[Table | MetricTableInfo]) -> list[str]:
        if isinstance(tables, Run):
            tables.flush()
            column = self.info.source_embedding_column
            return [
                info.resource_name
                for info in tables.metrics
                if info.resource_name and any(described.name == column for described in info.columns)
            ]
        return [_resource_name(table) for table in tables]

    def __repr__(self) -> str:
        return f"Reducer({self.info.resource_name!r})"


def _resource_name(table: Table | MetricTableInfo) -> str:
    name = (table.info if isinstance(table, Table) else table).resource_name
    if "/metrics/" not in name:
        raise InvalidUrlError(f"tables: {table!r:.200} is no metrics table of a run; give tables of Run.metrics_tables")
    return name
