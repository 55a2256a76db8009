"""Notices writers that vanish, so that no run stays RUNNING for ever.

A writer on this host is watched through its pidfd: the kernel says at once when it ends and, if it is new enough,
how. A writer that was there before this boot of the host died with it. A writer elsewhere, be it on another host or in
another PID namespace, must be heard of now and then. The daemon may be wrong about it: when it comes back it takes part
again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rund_daemon.background import keep_running
from rund_daemon.catalog import Catalog, keys, shelves
from rund_daemon.feed import RUNS_TOPIC, Feed
from rund_daemon.identity import Clock
from rund_daemon.model import Cause, CauseKind, Micros, Revision, Run, RunStatus, Uid, Writer
from rund_daemon.processes import Exit, ProcessId, exit_of, memory_events, open_pidfd, out_of_memory_kills
from rund_daemon.runs.presence import Presence
from rund_daemon.runs.writers import Ending, bury_writer

logger = logging.getLogger(__name__)

# The exit status can be read once the parent has reaped the process; a parent that is slower leaves it unknown.
_REAP_SECONDS = 2.0
_POLL_SECONDS = 0.05
_CHUNK = 64
_LONGEST_LISTENING_SECONDS = 5.0
_HELD_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Host:
    """This host in this boot, as the processes of one PID namespace see it."""

    name: str
    boot_id: str
    pid_namespace: int = 0

    def can_watch(self, writer: Writer) -> bool:
        """Whether the writer's process id means a process of ours."""
        here = writer.host == self.name and bool(writer.start_ticks)
        return here and writer.pid_namespace in (0, self.pid_namespace)


@dataclass(slots=True)
class _Watched:
    run: Uid
    writer: Writer
    descriptor: int
    memory_events: Path | None
    memory_kills: int


@dataclass(slots=True)
class _Awaited:
    run: Uid
    writer: Writer
    since: float


class Liveness:
    """Watches the writers of runs that have not ended.

    Args:
        catalog: has the runs.
        feed: says when they change.
        clock: the time of day.
        host: where this daemon runs.
        presence: says who was heard of.
        silence_seconds: how long a writer that is no process of this host may be silent.
        ended: called with each run that ends with its last writer.
    """

    def __init__(
        self,
        catalog: Catalog,
        feed: Feed,
        clock: Clock,
        host: Host,
        presence: Presence,
        silence_seconds: float,
        *,
        ended: Callable[[Uid], None],
    ) -> None:
        self._catalog = catalog
        self._feed = feed
        self._clock = clock
        self._host = host
        self._presence = presence
        self._silence_s = silence_seconds
        self._ended = ended
        self._watched: dict[tuple[Uid, str], _Watched] = {}
        self._awaited: dict[tuple[Uid, str], _Awaited] = {}
        self._burials: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Watches until it is cancelled."""
        listening = asyncio.create_task(keep_running(self._listen))
        try:
            seen = await self._look_at_all()
            while True:
                news = self._feed.waiter(RUNS_TOPIC)
                seen = await self._look_at_changes(seen)
                await news
        finally:
            listening.cancel()
            for key in list(self._watched):
                self._leave(key)
            self._awaited.clear()

    async def _listen(self) -> None:
        """Looks now and then who has been silent for too long."""
        pause = min(_LONGEST_LISTENING_SECONDS, self._silence_s / 8)
        while True:
            looked = self._presence.clock()
            await asyncio.sleep(pause)
            now = self._presence.clock()
            # A daemon that was itself held up could hear nobody: everybody has the whole time again.
            held_up = now - looked > 2 * pause + _HELD_UP_SECONDS
            for awaited in list(self._awaited.values()):
                if held_up:
                    awaited.since = now
                elif self._silent_for(awaited) > self._silence_s:
                    await self._bury_silent(awaited)

    def _silent_for(self, awaited: _Awaited) -> float:
        heard = self._presence.last_heard(awaited.writer.writer_id)
        return self._presence.clock() - max(awaited.since, heard or 0.0)

    async def _bury_silent(self, awaited: _Awaited) -> None:
        silent_s = self._silent_for(awaited)
        message = f"nothing was heard of the writer on {awaited.writer.host!r} for {silent_s:.0f} s"
        heard = Micros(self._clock() - int(silent_s * 1e6))
        cause = Cause(CauseKind.SILENCE, message, last_heartbeat=heard)
        await self._bury(
            awaited.run,
            awaited.writer,
            RunStatus.FAILED,
            cause,
            is_dead=lambda: self._silent_for(awaited) > self._silence_s,
        )

    async def _look_at_all(self) -> Revision:
        with self._catalog.snapshot() as snapshot:
            revision = snapshot.revision
            live = [Uid(key) for key, _ in snapshot.scan(shelves.LIVE_RUNS)]
        for begin in range(0, len(live), _CHUNK):
            await self._look_at_each(live[begin : begin + _CHUNK])
            # There may be a hundred thousand of them, and others want to be served.
            await asyncio.sleep(0)
        return revision

    async def _look_at_each(self, uids: Iterable[Uid]) -> None:
        with self._catalog.snapshot() as snapshot:
            runs = [snapshot.get(shelves.RUNS, uid) for uid in uids]
        for run in runs:
            if run is not None:
                await self._look_at(run)

    async def _look_at_changes(self, seen: Revision) -> Revision:
        with self._catalog.snapshot() as snapshot:
            revision = snapshot.revision
            changed = {event.run_uid for _, event in snapshot.scan(shelves.EVENTS, start=keys.u64(seen + 1))}
        await self._look_at_each(changed)
        return revision

    async def _look_at(self, run: Run) -> None:
        live = not (run.status.ended or run.delete_time)
        for writer in run.writers:
            key = (run.uid, writer.writer_id)
            if live and not writer.finish_time:
                if key not in self._watched and key not in self._awaited:
                    await self._watch(run.uid, writer)
            else:
                self._leave(key)

    async def _watch(self, run: Uid, writer: Writer) -> None:
        if not writer.host:  # of whom nothing is known nothing is expected
            return
        heard = self._presence.last_heard(writer.writer_id) is not None
        another_boot = writer.boot_id != self._host.boot_id
        # Whoever was heard of in this boot is on another host that has our name.
        if writer.host == self._host.name and writer.boot_id and another_boot and not heard:
            cause = Cause(CauseKind.HOST_RESTART, "the host was started anew while the writer was running")
            await self._bury(run, writer, RunStatus.FAILED, cause)
            return
        if another_boot or not self._host.can_watch(writer):
            self._awaited[run, writer.writer_id] = _Awaited(run, writer, self._presence.clock())
            return
        await self._watch_process(run, writer)

    async def _watch_process(self, run: Uid, writer: Writer) -> None:
        descriptor = open_pidfd(ProcessId(writer.pid, writer.start_ticks))
        if descriptor is None:
            message = "the process ended while no daemon was there to see how"
            await self._bury(run, writer, RunStatus.FAILED, Cause(CauseKind.SILENCE, message))
            return
        events = memory_events(writer.pid)
        watched = _Watched(run, writer, descriptor, events, out_of_memory_kills(events))
        self._watched[run, writer.writer_id] = watched
        asyncio.get_running_loop().add_reader(descriptor, self._on_exit, watched)

    def _on_exit(self, watched: _Watched) -> None:
        asyncio.get_running_loop().remove_reader(watched.descriptor)
        kills = out_of_memory_kills(watched.memory_events) - watched.memory_kills
        task = asyncio.create_task(self._explain(watched, kills))
        self._burials.add(task)
        task.add_done_callback(self._burials.discard)

    async def _explain(self, watched: _Watched, memory_kills: int) -> None:
        for _ in range(int(_REAP_SECONDS / _POLL_SECONDS)):
            if exit_of(watched.descriptor) is not None:
                break
            await asyncio.sleep(_POLL_SECONDS)
        status, cause = explain(exit_of(watched.descriptor), memory_kills, self._clock())
        await self._bury(watched.run, watched.writer, status, cause)
        self._leave((watched.run, watched.writer.writer_id))

    async def _bury(
        self,
        run: Uid,
        writer: Writer,
        status: RunStatus,
        cause: Cause,
        *,
        is_dead: Callable[[], bool] = lambda: True,
    ) -> None:
        now, ending = self._clock(), Ending(status, cause, writer.writer_id)
        buried = await self._catalog.submit(lambda change: bury_writer(change, run, ending, now, is_dead))
        if buried is not None:
            logger.warning(
                "writer_vanished",
                extra={"run": buried.resource_name, "pid": writer.pid, "cause": cause.kind, "detail": cause.message},
            )
            self._feed.publish((RUNS_TOPIC,))
            if buried.status.ended:
                self._ended(run)

    def _leave(self, key: tuple[Uid, str]) -> None:
        self._awaited.pop(key, None)
        self._presence.forget(key[1])
        watched = self._watched.pop(key, None)
        if watched is not None:
            asyncio.get_running_loop().remove_reader(watched.descriptor)
            os.close(watched.descriptor)


def explain(end: Exit | None, memory_kills: int, now: Micros) -> tuple[RunStatus, Cause]:
    """Gives the status and cause of a writer that ended without saying so.

    A process that ended with code 0 did what it wanted; only its last word did not arrive.
    """
    if end is None:
        return RunStatus.FAILED, Cause(CauseKind.SILENCE, "the process ended; how is not known", last_heartbeat=now)
    if end.signal == signal.SIGKILL and memory_kills > 0:
        message = "the kernel ended the process for lack of memory"
        return RunStatus.FAILED, Cause(CauseKind.OUT_OF_MEMORY, message, signal=end.signal, last_heartbeat=now)
    if end.signal:
        message = f"the process was ended by {_signal_name(end.signal)}"
        return RunStatus.FAILED, Cause(CauseKind.SIGNAL, message, signal=end.signal, last_heartbeat=now)
    message = f"the process ended with code {end.code} and did not finish the run"
    cause = Cause(CauseKind.EXIT_CODE, message, exit_code=end.code, last_heartbeat=now)
    return (RunStatus.FAILED if end.code else RunStatus.COMPLETED), cause


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
