"""What is concluded from how a process ended. The files of the cgroups are made here as the kernel makes them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from rund_daemon.model import CauseKind, Micros, RunStatus
from rund_daemon.processes import Exit, memory_events, out_of_memory_kills
from rund_daemon.runs.liveness import explain

EVENTS = "low 0\nhigh 0\nmax 1532\noom 4\noom_kill {kills}\noom_group_kill 0\n"
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
V2, V1 = "0::/user.slice/job 7\n", "11:cpu,cpuacct:/x\n4:memory:/slurm/job_7\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "file", "content"),
    [
        (V2, "user.slice/job 7/memory.events", EVENTS),
        (V1, "memory/slurm/job_7/memory.oom_control", CONTROL),
    ],
    ids=["v2", "v1"],
)
def test_kills_for_lack_of_memory_are_counted(tmp_path: Path, membership: str, file: str, content: str) -> None:
    proc, groups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "42").mkdir(parents=True)
    (proc / "42/cgroup").write_text(membership)
    counter = groups / file
    counter.parent.mkdir(parents=True)
    counter.write_text(content.format(kills=3))
    found = memory_events(42, proc, groups)
    assert found == counter
    (proc / "42/cgroup").unlink()  # it ends and is reaped
    before = out_of_memory_kills(found)
    counter.write_text(content.format(kills=4))
    assert (before, out_of_memory_kills(found)) == (3, 4)
    counter.unlink()  # the job's cgroup goes with the job
    assert out_of_memory_kills(found) == 0


@pytest.mark.parametrize("membership", ["", "0::/gone\n", "3:cpu:/x\n"])
def test_without_a_counter_nothing_is_known(tmp_path: Path, membership: str) -> None:
    (tmp_path / "42").mkdir()
    (tmp_path / "42/cgroup").write_text(membership)
    assert memory_events(42, tmp_path, tmp_path) is None
    assert memory_events(43, tmp_path, tmp_path) is None
    assert out_of_memory_kills(None) == 0


@pytest.mark.parametrize(
    ("end", "memory_kills", "status", "kind"),
    [
        (Exit(signal=signal.SIGKILL), 1, RunStatus.FAILED, CauseKind.OUT_OF_MEMORY),
        (Exit(signal=signal.SIGKILL), 0, RunStatus.FAILED, CauseKind.SIGNAL),
        (Exit(signal=signal.SIGTERM), 1, RunStatus.FAILED, CauseKind.SIGNAL),
        (Exit(code=137), 1, RunStatus.FAILED, CauseKind.EXIT_CODE),
        (Exit(code=0), 0, RunStatus.COMPLETED, CauseKind.EXIT_CODE),
        (None, 0, RunStatus.FAILED, CauseKind.SILENCE),
    ],
)
def test_how_an_end_is_explained(end: Exit | None, memory_kills: int, status: RunStatus, kind: CauseKind) -> None:
    found, cause = explain(end, memory_kills, Micros(7))
    assert (found, cause.kind, cause.last_heartbeat) == (status, kind, 7)
