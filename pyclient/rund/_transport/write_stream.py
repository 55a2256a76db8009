"""Writes ordered batches into one metrics table, each stored once, through breaks of the connection.

A batch is kept until the daemon has acknowledged it. When a call breaks, another one is opened with the same
``stream_id``; the daemon says how far it has the stream, and the rest is sent again as it was.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

import pyarrow as pa
from rund_pb.v1 import metrics_pb2
from rund_pb.v1 import metrics_service_pb2 as pb

from rund._apart import apart
from rund._errors import ForkedProcessError, InternalError, OverLimitError, RundError, RunNotFoundError
from rund._identity import new_writer_id

from .fork_guard import ForkGuard
from .outbox import Outbox
from .parcels import Closing, StreamLimits
from .retry import LONGEST_PAUSE_S, pauses
from .write_call import StreamTransport, WriteCall

ANSWER_TIMEOUT_S = 7.0
"""How long the daemon may owe an answer before the stream is opened anew; doubled while that does not help."""
LONGEST_ANSWER_TIMEOUT_S = 60.0
PATIENCE_S = 60.0
"""How long a stream goes on trying while nothing becomes durable, unless it is told otherwise."""
MAX_PIECE_ROWS = 1 << 20
"""Rows of one message: columns of nulls have rows, but no bytes that would bound them."""

_OPEN_AGAIN = frozenset({"UNAVAILABLE", "OUT_OF_RANGE", "NO_SPACE"})
# The field that the daemon blames for a file that it can't take.
_STAGED = "batch.staged"
_INPUT_TABLE_ID = "input_table_id"
# gRPC's own words for a connection that broke. With a reason they are the daemon's, and final.
_BROKEN = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED", "DEADLINE_EXCEEDED"})


class WriteStream:
    """One writer's stream into one metrics table. Safe for use by many threads; of no use in a forked child.

    Args:
        transport: The connection to the daemon.
        table_name: Resource name of the metrics table.
        stream_id: Names the stream for ever; by default it is made anew. One that was used before goes on
            after its last batch.
        create_missing: Whether the table is created when the run has none of this name.
        schema: Schema of the batches, when the table is to have one although no batch is written.
        writer_id: Id of this process as a writer of the run, if it is one.
        find_table: Gives the table's name anew when there is no run of the old one: it may have been renamed.
        patience_s: How long to go on while nothing becomes durable, in seconds; None means for ever.
        staging: Whether large batches are handed over as files where that can be done. Files come between the
            segments that small batches go into, so it is for streams of much data.
    """

    def __init__(
        self,
        transport: StreamTransport,
        table_name: str,
        *,
        stream_id: str | None = None,
        create_missing: bool = False,
        schema: pa.Schema | None = None,
        writer_id: str = "",
        find_table: Callable[[], str] | None = None,
        patience_s: float | None = PATIENCE_S,
        staging: bool = False,
    ) -> None:
        self.table_name = table_name
        self.stream_id = stream_id or new_writer_id()
        self._transport = transport
        self._patience_s = patience_s
        self._outbox = Outbox()
        message = b"" if schema is None else schema.serialize().to_pybytes()
        self._known_schema = (schema, message)
        self._opening = pb.WriteMetricsRequest.Open(
            metrics_table=table_name,
            stream_id=self.stream_id,
            arrow_schema=message,
            create_missing=create_missing,
            writer_id=writer_id,
            staging=staging and os.environ.get("RUND_STAGING") != "0",
        )
        self._find_table = find_table
        self._call: WriteCall | None = None
        self._forked = False
        self._guard = ForkGuard(self._release_after_fork)
        threading.Thread(target=self._run, name="rund-write-stream", daemon=True).start()

    @property
    def committed(self) -> int:
        """The last sequence that is durable."""
        return self._outbox.committed

    @property
    def error(self) -> RundError | None:
        """Why the stream has failed for good, or None."""
        return self._outbox.error

    def open(self) -> StreamLimits | None:
        """Asks for a connection without waiting for it; gives what the daemon takes, once it has said so.

        Raises:
            RundError: The stream has failed or was closed.
        """
        return self._own_outbox().ask_open(wait=False)

    def resume(self) -> int:
        """Waits until the stream is open, and gives the last position that was committed; 0 when there is none.

        Call it before the first batch: whoever reads from a source goes on from there.

        Raises:
            RundError: The stream has failed for good; the subclass says how.
        """
        limits = self._own_outbox().ask_open(wait=True)
        assert limits is not None
        return limits.position

    def has_room(self, size: int) -> bool:
        """Whether a batch of so many bytes would be queued without waiting."""
        return self._own_outbox().has_room(size)

    def write(self, batch: pa.RecordBatch, position: int = 0) -> int:
        """Queues a batch, in pieces if it is larger than the daemon takes; waits while too much is on its way.

        Args:
            batch: The rows.
            position: Where the caller stands in its own source behind these rows, 1 or more. It is kept in the commit
                of the rows, and ``resume`` gives it back. 0: as before. A batch with a position is not cut.

        Returns:
            The sequence of the batch, or of its last piece; ``wait`` takes it.

        Raises:
            OverLimitError: One row alone, or a batch with a position, is larger than the daemon takes.
            RundError: The stream has failed for good; the subclass says how.
        """
        outbox = self._own_outbox()
        limits = outbox.ask_open(wait=True)
        assert limits is not None
        if limits.input_table_id is not None:
            batch = _with_input_table(batch, limits.input_table_id)
        schema = self._message_of(batch.schema)
        sequence = 0
        # Half of what may be on its way, so that the next piece is made while this one travels.
        if position:
            # In one piece, because a position between two of them would be wrong.
            return outbox.put(schema, _whole(batch, limits.batch_bytes), position)
        for piece in _pieces(batch, min(limits.batch_bytes, max(1, limits.inflight_bytes // 2))):
            sequence = outbox.put(schema, piece)
        return sequence

    def wait(self, sequence: int | None = None, timeout: float | None = None) -> None:
        """Waits until a batch is durable, by default until all are.

        Raises:
            WaitTimeoutError: It was not in that time.
            RundError: The stream has failed for good; the subclass says how.
        """
        outbox = self._own_outbox()
        apart(lambda: outbox.wait(sequence, timeout))

    def close(self, seal: bool = False, timeout: float | None = None) -> metrics_pb2.MetricsTable:
        """Ends the stream when all its batches are durable.

        Args:
            seal: Whether the table takes no more rows, from any writer.
            timeout: In seconds; None waits as long as the stream has patience.

        Returns:
            The table, with all rows of this stream.

        Raises:
            WaitTimeoutError: It did not end in that time. It still tries to; ``abort`` gives up.
            RundError: The stream has failed for good; the subclass says how.
        """
        outbox = self._own_outbox()
        table = apart(lambda: outbox.close(Closing(seal), timeout))
        assert isinstance(table, metrics_pb2.MetricsTable)
        return table

    def abort(self) -> None:
        """Gives up: what is not durable yet may be lost."""
        if not self._forked:
            apart(self._abort)

    def _abort(self) -> None:
        self._outbox.abort()
        if self._call is not None:
            self._call.cancel()

    def _message_of(self, schema: pa.Schema) -> bytes:
        known, message = self._known_schema
        if known is None or not known.equals(schema, check_metadata=True):
            message = schema.serialize().to_pybytes()
            self._known_schema = (schema, message)
        return message

    def _run(self) -> None:
        try:
            self._keep_open()
        except Exception as error:
            # Whatever it is, who waits must hear of it.
            self._outbox.fail(InternalError(f"the stream's thread failed: {error!r}"))

    def _keep_open(self) -> None:
        waits, timeout, committed = pauses(), ANSWER_TIMEOUT_S, 0
        error: RundError | None = None
        while self._outbox.wait_until_wanted():
            if error is not None:
                self._recover(error, next(waits))
            error = self._one_call(timeout)
            if error is None or not (self._has_moved(error) or self._may_go_on(error)):
                return
            if self._outbox.committed > committed:
                waits, timeout, committed = pauses(), ANSWER_TIMEOUT_S, self._outbox.committed
            elif error.code == "DEADLINE_EXCEEDED":
                timeout = min(2 * timeout, LONGEST_ANSWER_TIMEOUT_S)

    def _one_call(self, timeout: float) -> RundError | None:
        """Runs a call to its end; gives its error, or None if the stream is over."""
        call = self._call = WriteCall(self._transport, self._outbox, self._opening)
        schema = self._outbox.begin_call(call)
        try:
            call.start(schema)
        except RundError as refusal:
            self._outbox.ended(call, refusal)
        error = self._outbox.supervise(timeout)
        if error is not None or self._outbox.error is not None:
            call.cancel()
        return error

    def _recover(self, error: RundError, pause: float) -> None:
        asked = float(error.details.get("retry_delay_s", 0))
        self._outbox.pause(max(pause, min(asked, LONGEST_PAUSE_S)))
        # No daemon to be found is the same as one that does not answer: the next call will say so.
        with contextlib.suppress(RundError):
            self._transport.reconnect()

    def _has_moved(self, error: RundError) -> bool:
        """Whether the run has another name now, under which the stream goes on."""
        if self._find_table is None or not isinstance(error, RunNotFoundError):
            return False
        try:
            name = self._find_table()
        except RundError:
            return False
        moved = name != self.table_name
        self.table_name = self._opening.metrics_table = name
        return moved

    def _may_go_on(self, error: RundError) -> bool:
        if self._opening.staging and any(fault.field.startswith(_STAGED) for fault in error.field_violations):
            # Over the socket the batches go, or the daemon says which of them is to blame.
            self._opening.staging = False
            return True
        if _may_open_again(error) and not self._out_of_patience():
            return True
        self._outbox.fail(error)
        return False

    def _out_of_patience(self) -> bool:
        return self._patience_s is not None and self._outbox.stalled_for() > self._patience_s

    def _release_after_fork(self) -> object:
        abandoned = (self._call, self._outbox, self._transport)
        self._call, self._forked = None, True
        return abandoned

    def _own_outbox(self) -> Outbox:
        # In a forked child its lock may be held by a thread that is not there, so it is not even looked at.
        if self._forked:
            raise ForkedProcessError("the stream belongs to the process that forked this one")
        return self._outbox


def _may_open_again(error: RundError) -> bool:
    if error.code in _OPEN_AGAIN or error.reason in _OPEN_AGAIN:
        return True
    return not error.reason and error.code in _BROKEN


def _with_input_table(batch: pa.RecordBatch, input_table_id: int) -> pa.RecordBatch:
    """Adds the column that the daemon would add: with it the batch can be stored as it is."""
    if _INPUT_TABLE_ID in batch.schema.names:
        return batch
    ids = pa.repeat(pa.scalar(input_table_id, pa.int32()), batch.num_rows)
    return batch.append_column(pa.field(_INPUT_TABLE_ID, pa.int32()), ids)


def _whole(batch: pa.RecordBatch, max_bytes: int) -> pa.Buffer:
    message = batch.serialize()
    if message.size > max_bytes:
        raise OverLimitError(
            f"a batch with a position has {message.size} bytes and the daemon takes {max_bytes}; give fewer rows",
            details={"limit": str(max_bytes), "value": str(message.size)},
        )
    return message


def _pieces(batch: pa.RecordBatch, max_bytes: int) -> Iterator[pa.Buffer]:
    """The batch as Arrow messages of at most so many bytes.

    Raises:
        OverLimitError: One row is larger than that.
    """
    rows, size = batch.num_rows, batch.nbytes
    if size <= max_bytes and rows <= MAX_PIECE_ROWS:
        message = batch.serialize()
        size = message.size
        if size <= max_bytes:
            yield message
            return
    if rows <= 1:
        raise OverLimitError(
            f"one row has {size} bytes and the daemon takes {max_bytes}; put large values into bulk_data_url",
            details={"limit": str(max_bytes), "value": str(size)},
        )
    # A little less than fits on average, so that most batches are cut only once.
    share = max(1, min(rows - 1, MAX_PIECE_ROWS, int(rows * max_bytes * 0.9 / max(1, size))))
    for begin in range(0, rows, share):
        yield from _pieces(batch.slice(begin, share), max_bytes)
