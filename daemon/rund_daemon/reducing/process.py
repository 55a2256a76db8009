"""The daemon's side of the process that carries out jobs: starts it, watches it, and kills it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

from rund_daemon.errors import OperationCancelledError, Reason, RundError
from rund_daemon.processes import anonymous_memory
from rund_daemon.progress import Progress

from .worker import too_large

logger = logging.getLogger(__name__)

_LOOK_SECONDS = 0.1
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_LAST_LINES = 30


class Worker:
    """One process, which carries out one job after another."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: deque[str] = deque(maxlen=_LAST_LINES)
        self._listening = asyncio.create_task(self._listen())

    @classmethod
    async def start(cls, cpus: int) -> Worker:
        """Starts a process that computes on so many threads."""
        # Threads that wait in a loop for others to be done would take the time of those that they wait for.
        environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(cpus)) | {"OMP_WAIT_POLICY": "passive"}
        # A session of its own: a Ctrl-C at the daemon's terminal is the daemon's to deal with.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "rund_daemon.reducing.worker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        return cls(process)

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._process.returncode is None

    async def carry_out(self, order: Path, memory: int, progress: Progress) -> None:
        """Has an order carried out. Whatever is raised, the process is dead then unless it has refused the order.

        Args:
            order: its file.
            memory: bytes that the process may hold.
            progress: is told of it.

        Raises:
            OperationCancelledError: it was cancelled, and the process killed.
            ExhaustedError: it would hold more memory, and was killed.
            RundError: it can't be carried out, or the process has died of it.
        """
        assert self._process.stdin is not None
        try:
            with contextlib.suppress(ConnectionError):
                self._process.stdin.write(f"{order}\n".encode())
                await self._process.stdin.drain()
            answer = await self._answer(memory, progress)
        except BaseException:
            await self.kill()
            raise
        if answer is None:
            raise await self._death()
        if "reason" in answer:
            raise RundError(Reason(answer["reason"]), answer["message"], field=answer["field"])

    async def kill(self) -> None:
        """Ends the process and those that it has started."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()
        self._listening.cancel()

    async def _answer(self, memory: int, progress: Progress) -> dict[str, Any] | None:
        """Gives the last word of a job; None if the process died without."""
        reading = asyncio.create_task(self._read(progress))
        try:
            while True:
                done, _ = await asyncio.wait({reading}, timeout=_LOOK_SECONDS)
                if done:
                    return reading.result()
                if progress.cancelled:
                    raise OperationCancelledError
                if anonymous_memory(self._process.pid) > memory:
                    raise too_large(memory)
        finally:
            reading.cancel()

    async def _read(self, progress: Progress) -> dict[str, Any] | None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            words: dict[str, Any] = json.loads(line)
            if "share" not in words:
                return words
            progress.share, progress.message = words["share"], words["message"]
        return None

    async def _death(self) -> RundError:
        code = await self._process.wait()
        await self._listening
        logger.error("reduction_process_died", extra={"code": code, "said": "\n".join(self._said)[-2_000:]})
        how = f"ended in {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        return RundError(
            Reason.INTERNAL,
            f"the process of the reduction {how}, and nothing was changed; the daemon's log has its last words. If the "
            "host ran out of memory, lower reduction_memory and fit on fewer rows",
        )

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        with contextlib.suppress(ValueError):
            while line := await self._process.stderr.readline():
                self._said.append(line.decode(errors="replace").rstrip())
