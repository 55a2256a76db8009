"""What the host knows of other processes: whether they live, and how they ended.

A pid alone means nothing: it is used again. A process is known by its pid and the tick of its start, in this boot of
the host. How a process ended is told only to its parent, but since Linux 6.15 a pidfd that was opened while it lived
gives its exit status to others of the same user too (PIDFD_GET_INFO). Older kernels leave that unknown.
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

# include/uapi/linux/pidfd.h: _IOWR(0xFF, 11, struct pidfd_info), of which version 0 has 64 bytes.
_INFO_BYTES = 64
_PIDFD_GET_INFO = 3 << 30 | _INFO_BYTES << 16 | 0xFF << 8 | 11
_PIDFD_INFO_EXIT = 1 << 3
_EXIT_STATUS_OFFSET = 60


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process of this boot of the host."""

    pid: int
    start_ticks: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: by a signal, or with a code."""

    code: int = 0
    signal: int = 0


def boot_id() -> str:
    """Names this boot of the host; empty where there is no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def pid_namespace() -> int:
    """Number of this process's PID namespace; 0 if it can't be known."""
    try:
        return Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return 0


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 if it is gone or can't be known."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The second field is a name in parentheses that may hold anything.
    return int(stat.rpartition(")")[2].split()[19])


def is_alive(process: ProcessId) -> bool:
    """Says whether this very process is there, as a zombie at least."""
    return process.start_ticks != 0 and start_ticks(process.pid) == process.start_ticks


def open_pidfd(process: ProcessId) -> int | None:
    """Opens a descriptor that becomes readable when the process ends; None if it has ended."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        return None
    # Opened first, compared then: the pid can't be used again in between.
    if is_alive(process):
        return descriptor
    os.close(descriptor)
    return None


def exit_of(descriptor: int) -> Exit | None:
    """Gives how the process of a pidfd ended; None if it lives, is not reaped yet, or the kernel is too old to tell."""
    info = bytearray(_INFO_BYTES)
    struct.pack_into("<Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(descriptor, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    (mask,) = struct.unpack_from("<Q", info, 0)
    if not mask & _PIDFD_INFO_EXIT:
        return None
    (status,) = struct.unpack_from("<i", info, _EXIT_STATUS_OFFSET)
    if os.WIFSIGNALED(status):
        return Exit(signal=os.WTERMSIG(status))
    return Exit(code=os.WEXITSTATUS(status))


def memory_events(pid: int, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> Path | None:
    """Finds the file that counts what happened to the memory of a process's cgroup; None if there is none.

    Asked while the process lives: once it is reaped nothing says which cgroup it was in.
    """
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            file = groups / path.lstrip("/") / "memory.events"
        elif "memory" in controllers.split(","):
            file = groups / "memory" / path.lstrip("/") / "memory.oom_control"
        else:
            continue
        if file.exists():
            return file
    return None


def out_of_memory_kills(events: Path | None) -> int:
    """Counts the processes of a cgroup that the kernel has ended for lack of memory; 0 if not known."""
    try:
        lines = events.read_text().splitlines() if events else []
        return int(next(line.split()[1] for line in lines if line.startswith("oom_kill ")))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def anonymous_memory(pid: int) -> int:
    """Bytes that a process and those below it hold for themselves, without mapped files; 0 if it is gone."""
    total, pids = 0, [pid]
    while pids:
        folder = Path(f"/proc/{pids.pop()}")
        try:
            lines = (folder / "status").read_text().splitlines()
            total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
            pids += [
                int(child) for task in (folder / "task").iterdir() for child in (task / "children").read_text().split()
            ]
        except OSError:
            continue  # it has ended meanwhile
    return total
