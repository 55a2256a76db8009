"""What long-running jobs are, and what they leave: plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ._types import RunInfo, Value


@dataclass(frozen=True, slots=True)
class OperationInfo:
    """A long-running job of the daemon.

    Attributes:
        name: ``operations/{uuid}``.
        method: The RPC that began it, such as ``CopyRun``.
        target: Resource name of what it works on.
        done: Whether it has ended.
        progress: Share that is done, 0 to 1.
        message: The present phase, or how it failed.
        created: When it was accepted.
        ended: When it ended.
        cancel_requested: Whether its cancellation was asked for.
        error: Why it failed; None while it has not.
        run: The result of a copy in the root.
        bundle_url: The result of a copy that left it.
        tables: The result of a reduction: URLs of tables by those of the tables that they have replaced.
        reducers: Resource names of the reducers that it used.
    """

    name: str
    method: str = ""
    target: str = ""
    done: bool = False
    progress: float = 0.0
    message: str = ""
    created: datetime | None = None
    ended: datetime | None = None
    cancel_requested: bool = False
    error: Exception | None = None
    run: RunInfo | None = None
    bundle_url: str = ""
    tables: Mapping[str, str] = field(default_factory=dict)
    reducers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReducerInfo:
    """A fitted model that a daemon keeps under a name.

    Attributes:
        resource_name: ``projects/{project}/reducers/{reducer}``.
        uid: UUIDv7.
        name: Its own name.
        project_name: Its project.
        method: ``umap`` or ``pacmap``; so are the following what it was fitted with.
        n_components: Dimensions of the map.
        n_neighbors: Neighbours that each row was compared with, if there were so many rows.
        metric: The distance.
        min_dist: How close points of the map may be.
        source_embedding_column: The column of vectors.
        target_embedding_column: The column of the map.
        standard_scaler_normalize: Whether columns of the vectors were scaled first.
        random_state: The seed, chosen by the daemon if none was given.
        method_options: Further keywords of the method.
        fit_table_url: The metrics table it was fitted on; it may be gone since.
        fit_row_count: Distinct rows it was fitted on.
        input_width: Numbers of the vectors that it takes.
        library_versions: Versions of what made it.
        quality: ``trustworthiness`` and ``neighbour_overlap`` of ``k`` neighbours on a sample of ``sample_rows`` rows.
        created: When it was fitted.
        warnings: What there is to know of the fit.
    """

    resource_name: str
    uid: str = ""
    name: str = ""
    project_name: str = ""
    method: str = ""
    n_components: int = 0
    n_neighbors: int = 0
    metric: str = ""
    min_dist: float = 0.0
    source_embedding_column: str = ""
    target_embedding_column: str = ""
    standard_scaler_normalize: bool = False
    random_state: int = 0
    method_options: Mapping[str, Value] = field(default_factory=dict)
    fit_table_url: str = ""
    fit_row_count: int = 0
    input_width: int = 0
    library_versions: Mapping[str, str] = field(default_factory=dict)
    quality: Mapping[str, float] = field(default_factory=dict)
    created: datetime | None = None
    warnings: tuple[str, ...] = ()
