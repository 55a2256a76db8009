"""A file system of a few MiB of its own, for filling it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

MIB = 1024 * 1024


@contextmanager
def tiny_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """Mounts a tmpfs in a folder that is made; the test is skipped where nobody may mount."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system can be mounted by root alone, and not in every container")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def free_bytes(folder: Path) -> int:
    """Bytes that are free on the file system of a folder."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


def fill(path: Path, leave: int = 0) -> Path:
    """Writes a file that takes all space but `leave` bytes, and gives its path."""
    with path.open("wb", buffering=0) as file, suppress(OSError):  # others may take the last of it
        left = max(0, free_bytes(path.parent) - leave)
        while left > 0:
            left -= file.write(bytes(min(left, MIB)))
    while leave == 0:
        with path.open("ab", buffering=0) as file:
            try:
                file.write(bytes(4096))
            except OSError:
                break
    return path
