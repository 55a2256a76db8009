"""Has the journals drained that nobody drains: of dead writers, and of forked children that must not send.

The daemon does not read journals. It looks who holds their locks (docs/journal.md), and begins `python -m rund._adopt`,
which sends the rows as any client would. A damaged journal can hurt that process and not this one.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# What could not be drained (the journal of a deleted run, a damaged one) is tried again only this often.
_RETRY_SECONDS = 60.0
_DRAIN_LOCK_BYTE = 1
# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


class JournalWatch:
    """Begins adopters, one at a time."""

    def __init__(self, root: Path, address: str) -> None:
        self._directory = root / "journals"
        self._address = address
        self._given_up: dict[Path, float] = {}

    async def run(self) -> None:
        """Watches until it is cancelled; then a running adopter is ended, which loses nothing."""
        while True:
            if any(self._undrained()):
                await self._adopt()
            await asyncio.sleep(LOOK_SECONDS)

    def _undrained(self) -> Iterator[Path]:
        now = time.monotonic()
        try:
            paths = sorted(self._directory.iterdir())
        except FileNotFoundError:
            return
        for path in paths:
            if path.suffix != ".journal" or "." in path.stem or _is_drained(path):
                continue
            if now - self._given_up.get(path, -_RETRY_SECONDS) >= _RETRY_SECONDS:
                yield path

    async def _adopt(self) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rund._adopt",
            "--directory",
            str(self._directory),
            "--address",
            self._address,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self._hear(line)
            if code := await process.wait():
                logger.warning("adopter_died", extra={"code": code})
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise

    def _hear(self, line: bytes) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            logger.warning("adopter_said", extra={"detail": line.decode(errors="replace").strip()})
            return
        kept = said["outcome"] in ("kept", "damaged")
        if kept:
            self._given_up[self._directory / said["journal"]] = time.monotonic()
        logger.log(logging.WARNING if kept else logging.INFO, "journal_adopted", extra=said)


def _is_drained(path: Path) -> bool:
    """Whether somebody holds the lock of the drainer. Asking does not take it; this process holds none to lose."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _DRAIN_LOCK_BYTE, 1, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, asked)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
