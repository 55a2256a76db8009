"""Changes of runs as messages."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

from rund_pb.v1 import run_service_pb2 as pb

from rund_daemon.model import EventType
from rund_daemon.reading.watch import RunChange, RunChanges
from rund_daemon.segments.layout import Layout

from .convert import run_to_pb

_TYPES = {
    None: pb.RunEvent.TYPE_CURRENT,
    EventType.CREATED: pb.RunEvent.TYPE_CREATED,
    EventType.UPDATED: pb.RunEvent.TYPE_UPDATED,
    EventType.DELETED: pb.RunEvent.TYPE_DELETED,
}
# Callers in other languages take messages of 4 MiB as a rule.
_MESSAGE_BYTES = 1 << 20


class RunEvents:
    """Makes the messages of changes once for all who are sent them."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._made: WeakKeyDictionary[RunChanges, list[pb.WatchRunsResponse]] = WeakKeyDictionary()

    def messages(self, changes: RunChanges, *, full: bool) -> Sequence[pb.WatchRunsResponse]:
        """The messages of changes, none of which is large unless a single run is."""
        made = self._made.get(changes)
        if made is None:
            made = self._made[changes] = [pb.WatchRunsResponse()]
            size = 0
            for change in changes.changes:
                event = self._event(change, full=full)
                size += event.ByteSize()
                if size > _MESSAGE_BYTES and made[-1].events:
                    made.append(pb.WatchRunsResponse())
                    size = event.ByteSize()
                made[-1].events.append(event)
        return made

    def _event(self, change: RunChange, *, full: bool) -> pb.RunEvent:
        if change.details is None:
            return pb.RunEvent(type=pb.RunEvent.TYPE_SYNCED, revision=change.revision)
        run = run_to_pb(change.details, self._layout, full=full)
        return pb.RunEvent(type=_TYPES[change.type], run=run, revision=change.revision)
