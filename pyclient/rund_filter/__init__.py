"""The filter language, and what it keeps of Arrow rows: one meaning for the daemon and for the client.

Both filter rows: the daemon those that it sends, the client those that it reads from files. A text is parsed by
``grammar``, made an expression of Arrow's by ``columns``, and applied by ``rows``. Nothing here knows either side.
"""

from .columns import filter_columns, to_expression
from .errors import FilterError
from .grammar import parse_filter
from .rows import keep_rows, rows_kept

__all__ = ["FilterError", "filter_columns", "keep_rows", "parse_filter", "rows_kept", "to_expression"]
