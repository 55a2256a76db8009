"""A trainer that outgrows its memory cgroup: the kernel ends it, its run says so, and its rows are there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rund import CauseKind, Run, RunStatus

LIMIT_BYTES = 256 << 20
ROWS = 500
TRAINER = f"""
import sys
import rund
run = rund.init("p", "grows", root_url=sys.argv[1])
for step in range({ROWS}):
    run.log({{"loss": 1.0}}, step)
kept = []
while True:
    kept.append(b"x" * 2**20)
"""
WITHIN_S = 90.0
"""The run fails within five seconds of its writer's end, and its rows are adopted; a busy machine is slower."""


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup with a limit, below that of this process."""
    parent, limits = memory_group()
    folder = parent / f"rund-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"only who may make a memory cgroup can be killed in one: {error}")
    try:
        if not (folder / "cgroup.procs").exists() or not (folder / next(iter(limits))).exists():
            pytest.skip(f"{folder} limits no memory")
        for name, value in limits.items():
            if (folder / name).exists():  # swap is not counted everywhere
                (folder / name).write_text(str(value))
        yield folder
    finally:
        folder.rmdir()


def memory_group() -> tuple[Path, dict[str, int]]:
    """This process's memory cgroup, and the files with limits of one below it."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    of_version_1 = [own for _, controllers, own in lines if "memory" in controllers.split(",")]
    if of_version_1:
        limits = {"memory.limit_in_bytes": LIMIT_BYTES, "memory.memsw.limit_in_bytes": LIMIT_BYTES}
        return Path("/sys/fs/cgroup/memory", of_version_1[0].lstrip("/")), limits
    own = next((own for _, controllers, own in lines if not controllers), "/")
    return Path("/sys/fs/cgroup", own.lstrip("/")), {"memory.max": LIMIT_BYTES, "memory.swap.max": 0}


def test_a_trainer_that_outgrows_its_cgroup(daemon: Any, group: Path) -> None:
    running = daemon()
    # The shell joins the group and becomes the trainer, so that no thread of the tests has been in it.
    joining = 'echo $$ > "$0/cgroup.procs" && exec "$@"'
    command = ["/bin/sh", "-c", joining, str(group), sys.executable, "-c", TRAINER, str(running.root)]
    ended = subprocess.run(command, timeout=120, check=False)
    assert ended.returncode == -signal.SIGKILL

    run = Run.from_names("grows", "p", running.root)
    deadline = time.monotonic() + WITHIN_S
    while run.status is not RunStatus.FAILED or [len(table) for table in run.metrics_tables] != [ROWS]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert run.cause is not None
    assert run.cause.kind is CauseKind.OUT_OF_MEMORY
