"""Changes of runs as they happen, without a gap."""

from __future__ import annotations

import time
from collections.abc import Iterator

from ._errors import DaemonUnavailableError
from ._transport import Transport, pauses, run_calls
from ._types import RunEvent, RunEventType


def watch(transport: Transport, parent: str, after_revision: int | None = None) -> Iterator[RunEvent]:
    """Gives changes until the caller stops; when the daemon goes away it waits for the next one and goes on.

    Args:
        transport: Where.
        parent: ``projects/{project}``, ``projects/-``, or a run's resource name.
        after_revision: Where to go on; None: the runs as they are now come first, then ``SYNCED``.

    Raises:
        RevisionGoneError: Events after the revision are no longer kept; list again, then watch.
    """
    waits = pauses()
    while True:
        try:
            for event in run_calls.watch_runs(transport, parent, after_revision):
                yield event
                waits = pauses()
                # Until SYNCED the runs are sent as they are, in no order of changes: a break means to begin
                # anew.
                if event.type is not RunEventType.CURRENT:
                    after_revision = max(event.revision, after_revision or 0)
            return
        except DaemonUnavailableError:
            time.sleep(next(waits))
            transport.reconnect()
