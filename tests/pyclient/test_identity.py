"""Ids are unique and sortable, and launches are told apart."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from rund._identity import boot_id, launch_id, new_writer_id, rank, start_ticks, this_writer

SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}


def test_writer_ids_are_uuid7_and_sort_by_time() -> None:
    before = time.time_ns() // 1_000_000
    ids = []
    for _ in range(3):
        ids.append(new_writer_id())
        time.sleep(0.002)
    after = time.time_ns() // 1_000_000
    assert ids == sorted(ids)
    for text in ids:
        parsed = uuid.UUID(text)
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122
        assert before <= parsed.int >> 80 <= after
    assert len({new_writer_id() for _ in range(1000)}) == 1000


def test_this_process_is_described_so_that_it_can_be_found() -> None:
    writer = this_writer("id")
    assert writer.pid == os.getpid()
    assert writer.start_ticks == start_ticks(os.getpid()) > 0
    assert writer.boot_id == boot_id() != ""
    assert start_ticks(2**22 + 1) == 0


def test_a_process_that_has_ended_is_gone_before_it_is_reaped() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{process.pid}/stat").exists()
        assert start_ticks(process.pid) == 0


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, 0),
        ({"RANK": "3", "SLURM_PROCID": "4"}, 3),
        ({"SLURM_PROCID": "4"}, 4),
        ({"OMPI_COMM_WORLD_RANK": "5"}, 5),
        ({"PMI_RANK": "6"}, 6),
        ({"RANK": "x", "PMI_RANK": "6"}, 6),
        ({"RANK": "-1"}, 0),
        ({"RANK": ""}, 0),
    ],
)
def test_ranks(environment: dict[str, str], expected: int) -> None:
    assert rank(environment) == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ""),
        ({"RUND_LAUNCH_ID": "mine", **SLURM}, "mine"),
        (SLURM, "slurm:7.0.0"),
        ({**SLURM, "SLURM_RESTART_COUNT": "2"}, "slurm:7.0.2"),
        ({"SLURM_JOB_ID": "7"}, ""),
        ({"TORCHELASTIC_RUN_ID": "job"}, "torchrun:job"),
        ({**SLURM, "TORCHELASTIC_RUN_ID": "job"}, "slurm:7.0.0"),
        ({"SLURM_JOB_ID": "7", "TORCHELASTIC_RUN_ID": "job"}, "torchrun:job"),
        ({"RANK": "3"}, ""),
    ],
)
def test_launches(environment: dict[str, str], expected: str) -> None:
    assert launch_id(environment) == expected


def test_torchrun_without_an_id_is_known_by_its_agent() -> None:
    parent = os.getppid()
    expected = f"torchrun:{boot_id()}.{parent}.{start_ticks(parent)}"
    assert launch_id({"TORCHELASTIC_RUN_ID": "none"}) == expected
