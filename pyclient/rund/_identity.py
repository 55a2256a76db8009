"""Who this process is: ids, its place on the host, its rank and its launch.

Everything is read from the environment and ``/proc`` when asked for; nothing is kept.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from ._types import WriterInfo

_RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")


def new_request_id() -> str:
    """A UUID that makes the retries of one request recognisable."""
    return str(uuid.uuid4())


def new_writer_id() -> str:
    """A UUIDv7: 48 bits of milliseconds, then chance. It sorts by the time of its making."""
    millis = time.time_ns() // 1_000_000
    number = (millis << 80) | (0x7 << 76) | (int.from_bytes(os.urandom(10)) & ~(0xF << 76))
    return str(uuid.UUID(int=(number & ~(0b11 << 62)) | (0b10 << 62)))


def this_writer(writer_id: str) -> WriterInfo:
    """This process as a writer; with boot id, pid and start it is told apart from every other process."""
    pid = os.getpid()
    return WriterInfo(
        writer_id=writer_id,
        host=socket.gethostname(),
        boot_id=boot_id(),
        pid=pid,
        start_ticks=start_ticks(pid),
        rank=rank(os.environ),
        pid_namespace=pid_namespace(),
    )


def boot_id() -> str:
    """The host's boot id, or empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> int:
    """Number of this process's PID namespace, or 0 where there is none."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when it has ended, reaped or not, or without ``/proc``."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return 0
    # The second field is the program's name in brackets and may hold anything, brackets and spaces included.
    state, *fields = stat.rpartition(")")[2].split()
    return 0 if state in {"Z", "X"} else int(fields[18])


def rank(environment: Mapping[str, str]) -> int:
    """Rank of this process among those of its training; 0 when nothing says otherwise."""
    for name in _RANK_VARIABLES:
        value = environment.get(name, "")
        if value.isascii() and value.isdecimal():
            return int(value)
    return 0


def launch_id(environment: Mapping[str, str]) -> str:
    """A text that all processes of one launch share and no other launch has; empty without a launcher.

    ``RUND_LAUNCH_ID`` overrides; then Slurm's job, step and restart; then torchrun's run id, or the agent
    that is the parent of all its workers.
    """
    if given := environment.get("RUND_LAUNCH_ID"):
        return given
    job, step = environment.get("SLURM_JOB_ID"), environment.get("SLURM_STEP_ID")
    # Without a step it is the batch script itself: one process, and perhaps several trainings one after the
    # other.
    if job and step:
        restart = environment.get("SLURM_RESTART_COUNT", "0")
        return f"slurm:{job}.{step}.{restart}"
    elastic = environment.get("TORCHELASTIC_RUN_ID")
    if elastic is None:
        return ""
    if elastic != "none":
        return f"torchrun:{elastic}"
    parent = os.getppid()
    return f"torchrun:{boot_id()}.{parent}.{start_ticks(parent)}"
