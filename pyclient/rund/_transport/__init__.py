"""The only room of the client that knows gRPC and ``rund_pb``.

Above it there is plain data: the dataclasses of ``_types``, Arrow, and the errors of ``_errors``.
"""

from . import quiet_forks  # noqa: F401, I001 - comes first: what follows imports gRPC
from . import daemon_calls, metrics_calls, reduction_calls, run_calls, table_calls
from .channel import CALL_TIMEOUT_S, Transport
from .convert import metrics_table_from_pb
from .fork_guard import in_forked_child
from .heartbeat import Heartbeat
from .metrics_calls import ListedTable
from .read_stream import RowRequest
from .retry import pauses
from .write_stream import WriteStream

__all__ = [
    "CALL_TIMEOUT_S",
    "Heartbeat",
    "ListedTable",
    "RowRequest",
    "Transport",
    "WriteStream",
    "daemon_calls",
    "in_forked_child",
    "metrics_calls",
    "metrics_table_from_pb",
    "pauses",
    "reduction_calls",
    "run_calls",
    "table_calls",
]
