"""What a process really asked of its file system, in order: recorded by strace, read back as events.

Each thread's calls are seen at their begin and at their end. What a sync makes durable is what had ended when it began.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STRACE = shutil.which("strace")
"""Where strace is, or None."""

_CALLS = (
    *("open", "openat", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek"),
    *("write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "truncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "symlink", "symlinkat"),
    *("mkdir", "mkdirat", "rmdir", "fsync", "fdatasync", "syncfs", "sync", "sync_file_range", "msync"),
    *("sendfile", "copy_file_range", "splice"),
)
_MOST_BYTES = 64 * 1024 * 1024

_LINE = re.compile(r"(?P<pid>\d+) +(?P<time>\d+\.\d+) (?P<rest>.*)", re.DOTALL)
_WHOLE = re.compile(
    r"(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)[^<]*(?:<(?P<took>[\d.]+)>)?$", re.DOTALL
)
_BEGUN = re.compile(r"(?P<name>\w+)\((?P<arguments>.*?)(?:, | )?<unfinished \.\.\.>$", re.DOTALL)
_ENDED = re.compile(r"<\.\.\. (?P<name>\w+) resumed>(?P<arguments>.*)\) += (?P<result>-?\d+|\?)", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


@dataclass(frozen=True, slots=True)
class Event:
    """The begin or the end of a call.

    Attributes:
        time_s: when, as `time.time()` counts.
        thread: who called; the events of one call have the same.
        ended: whether the call has returned.
        name: of the system call.
        texts: its strings in order: paths, or the data of a write.
        numbers: its arguments that are numbers or flags, as text.
        result: what it returned; 0 at its begin.
    """

    time_s: float
    thread: int
    ended: bool
    name: str
    texts: tuple[bytes, ...]
    numbers: tuple[str, ...]
    result: int = 0


def recorder(trace: Path) -> tuple[str, ...]:
    """What stands before a command so that its writes are recorded. The command stays the caller's own child."""
    assert STRACE is not None
    flags = ("-D", "-f", "-ttt", "-T", "-xx", "-s", str(_MOST_BYTES), "-o", str(trace))
    return (STRACE, *flags, "-e", "trace=" + ",".join(f"?{call}" for call in _CALLS))


def can_record(folder: Path) -> str:
    """Why nothing can be recorded here; empty if it can."""
    if STRACE is None:
        return "strace is not installed (Debian: apt-get install strace)"
    trace = folder / "probe"
    probe = subprocess.run([*recorder(trace), "true"], capture_output=True, text=True, check=False)
    if probe.returncode or not trace.exists():
        return f"strace is not allowed to trace here: {probe.stderr.strip()[:200]}"
    return ""


def events(trace: Path) -> Iterator[Event]:
    """Reads a record. The events of all threads come in the order in which they were seen."""
    begun: dict[int, tuple[str, str]] = {}
    with trace.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            thread, time_s, rest = int(found["pid"]), float(found["time"]), found["rest"]
            if ended := _ENDED.match(rest):
                name, arguments = begun.pop(thread)
                yield _event(time_s, thread, name, arguments + ended["arguments"], ended["result"])
            elif unfinished := _BEGUN.match(rest):
                begun[thread] = (unfinished["name"], unfinished["arguments"])
                yield _event(time_s, thread, unfinished["name"], unfinished["arguments"], None)
            elif whole := _WHOLE.match(rest):
                yield _event(time_s, thread, whole["name"], whole["arguments"], None)
                after_s = time_s + float(whole["took"] or 0)
                yield _event(after_s, thread, whole["name"], whole["arguments"], whole["result"])


def _event(time_s: float, thread: int, name: str, arguments: str, result: str | None) -> Event:
    texts = []
    for text in _TEXT.finditer(arguments):
        assert not text[2], f"strace has cut off what {name} wrote"
        texts.append(bytes.fromhex(text[1].replace("\\x", "")))
    numbers = tuple(part.strip() for part in _TEXT.sub("", arguments).split(","))
    return Event(
        time_s, thread, result is not None, name, tuple(texts), numbers, int(result) if result not in (None, "?") else 0
    )
