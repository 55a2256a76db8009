"""rund: a daemon on a new root, and the client as users have it."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import rund

from . import Columns, Scalars, Vectors

_daemons: dict[Path, subprocess.Popen[bytes]] = {}


def prepare(folder: Path) -> None:
    """Starts the daemon."""
    root = folder / "root"
    root.mkdir(parents=True)
    os.environ["RUND_LAUNCH_ID"] = str(uuid.uuid4())  # the processes of W4 join one run, as those of torchrun do
    command = [sys.executable, "-m", "rund_daemon", "serve", "--root", str(root)]
    with (folder / "daemon.log").open("wb") as log:
        _daemons[folder] = subprocess.Popen(command, stderr=log)
    while not (root / "daemon.json").exists():
        if _daemons[folder].poll() is not None:
            raise SystemExit((folder / "daemon.log").read_text())
        time.sleep(0.02)


def open_scalars(folder: Path, rank: int) -> Scalars:
    """The run is the log."""
    return _run(folder, rank)


def write_table(folder: Path, batches: Sequence[Columns]) -> None:
    """Returns when every row is durable and every reader sees it."""
    with _run(folder, 0).metrics_writer("samples") as writer:
        for batch in batches:
            writer.add_batch(batch)


def write_vectors(folder: Path, batches: Sequence[Vectors]) -> None:
    """The same."""
    with _run(folder, 0).metrics_writer("vectors") as writer:
        for batch in batches:
            writer.add_batch({"embedding": batch})


def kept(folder: Path) -> int:
    """Rows that every reader sees."""
    run = rund.Run.from_url((folder / "run").read_text())
    return sum(table.row_count for table in run.metrics if table.name == "history")


def close(folder: Path) -> dict[str, float]:
    """Stops the daemon, which seals what is open."""
    peak = daemon_mib(folder)
    process = _daemons.pop(folder)
    process.terminate()
    process.wait(60)
    return {"daemon_peak_mib": peak}


def data(folder: Path) -> Path:
    """The project's runs, and not the catalog of all."""
    return folder / "root" / "bench"


def daemon_mib(folder: Path) -> float:
    """The most that the daemon has held until now."""
    status = Path(f"/proc/{_daemons[folder].pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _run(folder: Path, rank: int) -> rund.Run:
    joins = multiprocessing.parent_process() is not None
    root = folder / "root"
    if json.loads((root / "daemon.json").read_text())["pid"] == 0:
        raise SystemExit("the daemon has gone")
    run = rund.init("bench", "joined" if joins else f"run-{uuid.uuid4().hex}", root_url=root)
    if rank == 0:
        (folder / "run").write_text(run.url)
    return run
