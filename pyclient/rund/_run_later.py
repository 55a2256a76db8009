"""The methods of ``Run`` that later versions bring. They are there, and say what can be done instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ._errors import UnsupportedError
from ._root import PathLike
from ._table import Table

if TYPE_CHECKING:  # Run binds these functions, so it imports this module
    from ._run import Run

_NO_REDUCTION = (
    "reductions of embeddings are not in this version; read the column with to_arrow() and reduce it yourself"
)


def reduce_embeddings_by_foreign_table_url(
    run: Run, foreign_table_url: Table | PathLike, delete_source_tables: bool = True, **kwargs: Any
) -> NoReturn:
    """A map of the embeddings of one input table. Not in this release."""
    raise UnsupportedError(_NO_REDUCTION)


def reduce_embeddings_per_dataset(run: Run, delete_source_tables: bool = True, **kwargs: Any) -> NoReturn:
    """A map of the embeddings of every input table. Not in this release."""
    raise UnsupportedError(_NO_REDUCTION)
