"""``Run.reduce_embeddings_*``; bound in the body of the class."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, overload

from ._errors import InvalidValueError
from ._job_types import OperationInfo
from ._new_metrics import url_text
from ._root import PathLike
from ._rows import table_url
from ._table import Table
from ._transport import Transport, daemon_calls, reduction_calls
from ._transport.reduction_calls import Reduction

if TYPE_CHECKING:  # Run binds these functions, so it imports this module
    from ._run import Run

_LOOK_S = 0.5
_BAR_CHARACTERS = 30
_WIDTH = 100
_NAMES = frozenset(item.name for item in fields(Reduction)) - {"options", "delete_source_tables"}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "n_components": (int,),
    "n_neighbors": (int,),
    "metric": (str,),
    "min_dist": (int, float),
    "retain_source_embedding_column": (bool,),
    "standard_scaler_normalize": (bool,),
}


@overload
def reduce_embeddings_by_foreign_table_url(
    run: Run,
    foreign_table_url: Table | PathLike,
    delete_source_tables: bool = True,
    *,
    wait: Literal[False],
    **kwargs: Any,
) -> OperationInfo: ...
@overload
def reduce_embeddings_by_foreign_table_url(
    run: Run, foreign_table_url: Table | PathLike, delete_source_tables: bool = True, **kwargs: Any
) -> dict[str, str]: ...
def reduce_embeddings_by_foreign_table_url(
    run: Run, foreign_table_url: Table | PathLike, delete_source_tables: bool = True, **kwargs: Any
) -> dict[str, str] | OperationInfo:
    """Maps all embeddings of the run into one space, fitted on the newest metrics table of an input table.

    Each metrics table with a column of role EMBEDDING is replaced by one with a map in the column's place; number and
    order of ``metrics`` stay. The replacement is one step, when all are written: a reduction that fails or is cancelled
    changes nothing. It is carried out by the daemon, in a process of its own with a cap on its memory, and runs on
    when this process ends.

    Args:
        run: The run.
        foreign_table_url: The input table, or its URL.
        delete_source_tables: Whether the old tables go to trash. Else they can still be read by their URL.
        **kwargs: How to reduce:

            - ``method``: ``"umap"`` (the default) or ``"pacmap"``;
            - ``n_components`` (3), ``n_neighbors`` (15), ``metric`` (``"euclidean"``), ``min_dist`` (0.1);
            - ``source_embedding_column``: the one to reduce, float vectors of one width; None: all with role EMBEDDING;
            - ``target_embedding_column``: name of the map, ``<column>_<method>`` when not given. It is a fixed-size
              list of ``n_components`` float32, with role XY or XYZ when that is 2 or 3, and null where the vector is
              null or not finite;
            - ``retain_source_embedding_column`` (False), ``standard_scaler_normalize`` (False);
            - ``random_state``: seed; the same one gives the same bytes on the same machine and library versions;
            - ``fit_table_url``: the metrics table to fit on, in place of the newest;
            - ``wait``: False gives the operation at once; see ``Client.wait_operation`` and ``cancel_operation``;
            - ``progress``: whether a bar is drawn; None: if stderr is a terminal;
            - all others go to the method, and an unknown one is refused.

    Returns:
        Of each table that was replaced its URL, and that of the table in its place; both as in ``metrics``.

    Raises:
        InvalidFieldError: A keyword can't be used (a ValueError).
        InvalidColumnError: Vectors have different widths, or nothing in them is finite (a ValueError).
        MetricsTableNotFoundError: No table takes part (a FileNotFoundError).
        WrongStateError: The tables are still written to (a RuntimeError).
        OverLimitError: It needs more memory than the daemon's configuration grants (an OSError).
        UnsupportedError: The daemon lacks the libraries: pip install 'rund[reduce]'.
    """
    wait, progress, reduction = _asked(kwargs, delete_source_tables)
    run.flush()
    url = table_url(url_text(foreign_table_url))
    transport = run.daemon.transport
    return ended(
        transport,
        reduction_calls.reduce_by_foreign_table(transport, run.resource_name, url, reduction),
        wait=wait,
        progress=progress,
    )


@overload
def reduce_embeddings_per_dataset(
    run: Run, delete_source_tables: bool = True, *, wait: Literal[False], **kwargs: Any
) -> OperationInfo: ...
@overload
def reduce_embeddings_per_dataset(run: Run, delete_source_tables: bool = True, **kwargs: Any) -> dict[str, str]: ...
def reduce_embeddings_per_dataset(
    run: Run, delete_source_tables: bool = True, **kwargs: Any
) -> dict[str, str] | OperationInfo:
    """As ``reduce_embeddings_by_foreign_table_url``, with one fit and one space for each input table.

    Metrics tables that refer to no input table are left alone. Keywords, result and errors are those of the other.
    """
    wait, progress, reduction = _asked(kwargs, delete_source_tables)
    run.flush()
    transport = run.daemon.transport
    operation = reduction_calls.reduce_per_dataset(transport, run.resource_name, reduction)
    return ended(transport, operation, wait=wait, progress=progress)


def ended(
    transport: Transport, operation: OperationInfo, *, wait: bool, progress: bool | None
) -> dict[str, str] | OperationInfo:
    """Waits for the end of a reduction if that is wanted, and cancels it when it is interrupted.

    Raises:
        RundError: It failed.
    """
    if not wait:
        return operation
    bar = _Bar(sys.stderr.isatty() if progress is None else progress)
    try:
        while not operation.done:
            operation = daemon_calls.wait_operation(transport, operation.name, _LOOK_S)
            bar.show(operation.progress, operation.message)
    except KeyboardInterrupt:
        daemon_calls.cancel_operation(transport, operation.name)
        raise
    finally:
        bar.close()
    if operation.error is not None:
        raise operation.error
    return dict(operation.tables)


class _Bar:
    """A line on stderr."""

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted

    def show(self, share: float, message: str) -> None:
        if self._wanted:
            filled = round(share * _BAR_CHARACTERS)
            line = f"{'█' * filled}{'░' * (_BAR_CHARACTERS - filled)} {share:4.0%} {message}"
            sys.stderr.write(f"\r{line[:_WIDTH]:<{_WIDTH}}")
            sys.stderr.flush()

    def close(self) -> None:
        if self._wanted:
            sys.stderr.write(f"\r{'':<{_WIDTH}}\r")
            sys.stderr.flush()


def _asked(given: Mapping[str, Any], delete_source_tables: bool) -> tuple[bool, bool | None, Reduction]:
    """Whether to wait, whether to draw, and how to reduce. Raises InvalidValueError for a value of another type."""
    keywords = dict(given)
    wait, progress = bool(keywords.pop("wait", True)), keywords.pop("progress", None)
    known = {name: keywords.pop(name) for name in _NAMES & keywords.keys()}
    for name in [name for name, value in known.items() if value is None]:
        del known[name]
    for name, value in known.items():
        kinds = _TYPES.get(name, ())
        if kinds and not (isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))):
            raise InvalidValueError(f"{name}: {value!r:.60} is no {' or '.join(kind.__name__ for kind in kinds)}")
    if "random_state" in known:
        known["random_state"] = _seed(known["random_state"])
    if "fit_table_url" in known:
        known["fit_table_url"] = os.fspath(url_text(known["fit_table_url"]))
    return wait, progress, Reduction(delete_source_tables=delete_source_tables, options=keywords, **known)


def _seed(value: Any) -> int:
    try:
        seed = value.__index__()
    except AttributeError:
        raise InvalidValueError(f"random_state: {value!r:.60} is no integer; give a seed from 0 to 2**32 - 1") from None
    if not 0 <= seed < 2**32:
        raise InvalidValueError(f"random_state: {seed} is not from 0 to 2**32 - 1")
    return int(seed)
