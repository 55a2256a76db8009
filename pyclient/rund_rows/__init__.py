"""What stored rows are to a reader: one meaning for the daemon, which sends them, and the client, which reads files.

A filter is parsed by ``filter_grammar``, made an expression of Arrow's by ``column_filters``, and applied by
``row_filter``. A column that has another type in a file than in the table is cast by ``recast`` and ``casts``. Nothing
here knows either side.
"""

from .casts import promote
from .column_filters import filter_columns, to_expression
from .errors import FilterError
from .filter_grammar import parse_filter
from .recast import recast
from .row_filter import keep_rows, rows_kept

__all__ = [
    "FilterError",
    "filter_columns",
    "keep_rows",
    "parse_filter",
    "promote",
    "recast",
    "rows_kept",
    "to_expression",
]
