"""Finds and keeps the rows of a table that an expression holds for, on the thread that asks.

`Table.filter` hands each call to Arrow's pool of threads. For the few megabytes that are filtered at a time, and on a
machine whose cores are training, the way there and back costs more than the filter.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def rows_kept(table: pa.Table, predicate: pc.Expression) -> Any:
    """Says of each row whether the predicate is true for it: a boolean array."""
    from pyarrow import acero  # noqa: PLC0415  # as below

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    options = acero.ProjectNodeOptions([predicate], ["kept"])
    kept = acero.Declaration("project", options, [source]).to_table(use_threads=False).column("kept")
    return kept.combine_chunks() if kept.num_chunks != 1 else kept.chunk(0)


def keep_rows(table: pa.Table, predicate: pc.Expression) -> pa.Table:
    """Gives the rows that the predicate is true for, in their order."""
    # With it comes pandas, where that is installed: 0.3 s and 40 MB, which a daemon needs at its first filter only.
    from pyarrow import acero  # noqa: PLC0415  # for the reason above

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    kept = acero.Declaration("filter", acero.FilterNodeOptions(predicate), [source])
    return kept.to_table(use_threads=False)
