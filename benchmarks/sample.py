"""Measures one tracker on one workload, once, in this process; the last line that it prints is the result, as JSON.

`beside_peers.py` starts it, with the Python of the tracker's environment:

    python benchmarks/sample.py PEER WORKLOAD COUNT FOLDER
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import os
import signal
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import cast

from peers import Peer
from training_loop import slowdown
from warm_memory import warm_memory
from workloads import KILLED_ROWS, PROCESSES, ROW, W1, W2, W3, W4, table_batches, vector_batches

KEPT_WITHIN_S = 8.0
"""How long after the death of the trainer rows may arrive, from a process of the tracker's that outlived it."""
START_TIMEOUT_S = 90.0
WARM_TIMES = 4
WARM_WITHIN_S = 4.0
"""How often rows and vectors are written once more, by those who are quick enough."""
TRAINER = "trainer"

Figures = dict[str, float]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer")
    parser.add_argument("workload")
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    peer = peer_named(options.peer)
    if options.workload == TRAINER:
        train_and_die(peer, options.folder)
    peer.prepare(options.folder)
    try:
        figures = MEASURES[options.workload](peer, options.peer, options.folder, options.count)
    finally:
        own = peer.close(options.folder)
    if options.workload in {W1.name, W2.name, W3.name, W4.name}:
        figures["disk_bytes"] = allocated_bytes(peer.data(options.folder))
    print(f"\n{json.dumps(figures | own)}", flush=True)
    os._exit(0)  # what a tracker does at the end of the interpreter has been waited for, or is not asked for


def peer_named(name: str) -> Peer:
    """The module, which has the functions of `Peer` that its tracker has workloads for."""
    return cast("Peer", importlib.import_module(f"peers.{name}"))


def scalars(peer: Peer, _name: str, folder: Path, steps: int) -> Figures:
    """W1."""
    writer = peer.open_scalars(folder, 0)
    warm_memory(folder)
    log, began = writer.log, perf_counter()
    for step in range(steps):
        log({"loss": 0.5, "accuracy": 0.25}, step)
    writer.finish()
    return {"seconds": perf_counter() - began, "rows": steps}


def table(peer: Peer, _name: str, folder: Path, rows: int) -> Figures:
    """W2."""
    batches = table_batches(rows)
    peer.write_table(folder, table_batches(10_000)[:2])  # what happens once, such as imports, is not what is measured
    raw_bytes = sum(column.nbytes for batch in batches for column in batch.values())
    figures = repeated(lambda: peer.write_table(folder, batches), folder, raw_bytes)
    return {"rows": rows, **figures}


def vectors(peer: Peer, _name: str, folder: Path, rows: int) -> Figures:
    """W3."""
    batches = vector_batches(rows)
    peer.write_vectors(folder, vector_batches(100)[:2])
    figures = repeated(lambda: peer.write_vectors(folder, batches), folder, sum(batch.nbytes for batch in batches))
    return {"rows": rows, **figures}


def repeated(write: Callable[[], object], folder: Path, raw_bytes: int) -> Figures:
    """The first time, in a process and with a server that have written next to nothing, and the times after it."""
    seconds: list[float] = []
    warm_memory(folder)
    while not seconds or (len(seconds) <= WARM_TIMES and sum(seconds) < WARM_WITHIN_S):
        began = perf_counter()
        write()
        seconds.append(perf_counter() - began)
    figures = {"seconds": seconds[0], "raw_bytes": raw_bytes, "written_bytes": raw_bytes * len(seconds)}
    return figures | ({"warm_seconds": statistics.median(seconds[1:])} if len(seconds) > WARM_TIMES else {})


def processes(_peer: Peer, name: str, folder: Path, steps: int) -> Figures:
    """W4: from the moment when all processes have opened the run until the last one has finished."""
    context = multiprocessing.get_context("spawn")
    ready, done = context.Barrier(PROCESSES + 1), context.Barrier(PROCESSES + 1)
    arguments = (name, folder, steps // PROCESSES, ready, done)
    parts = [context.Process(target=one_of_many, args=(rank, *arguments)) for rank in range(PROCESSES)]
    for part in parts:
        part.start()
    warm_memory(folder)
    ready.wait(START_TIMEOUT_S)
    began = perf_counter()
    done.wait()
    seconds = perf_counter() - began
    for part in parts:
        part.join()
    return {"seconds": seconds, "rows": steps // PROCESSES * PROCESSES}


def one_of_many(rank: int, name: str, folder: Path, steps: int, ready: Barrier, done: Barrier) -> None:
    """One process of W4."""
    try:
        writer = peer_named(name).open_scalars(folder, rank)
        ready.wait(START_TIMEOUT_S)
        log = writer.log
        for step in range(steps):
            log({"loss": 0.5, "accuracy": 0.25}, step)
        writer.finish()
        done.wait()
        os._exit(0)  # as in `main`
    except BaseException:
        ready.abort()
        done.abort()
        raise


def calls(peer: Peer, _name: str, folder: Path, count: int) -> Figures:
    """How long each call takes; the clock's own time is in it."""
    writer = peer.open_scalars(folder, 0)
    warm_memory(folder)
    log, times = writer.log, [0] * count
    for step in range(count):
        begin = perf_counter_ns()
        log({"loss": 0.5, "accuracy": 0.25}, step)
        times[step] = perf_counter_ns() - begin
    times.sort()
    p50, p99, p999 = (times[int(count * share)] / 1000 for share in (0.5, 0.99, 0.999))
    return {"p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": times[-1] / 1000, "calls": count}


def loop(peer: Peer, _name: str, folder: Path, quads: int) -> Figures:
    """How much a training loop is slowed, see `training_loop`."""
    return slowdown(peer.open_scalars(folder, 0).log, quads)


def killed(peer: Peer, name: str, folder: Path, rows: int) -> Figures:
    """Rows that can be read back after a trainer logged 500 and was killed at once."""
    command = [sys.executable, __file__, name, TRAINER, str(rows), str(folder)]
    trainer = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
    if trainer.returncode != -signal.SIGKILL:
        raise SystemExit(f"the trainer ended with {trainer.returncode}")
    died, kept = perf_counter(), 0
    while (kept := peer.kept(folder)) < rows and perf_counter() - died < KEPT_WITHIN_S:
        time.sleep(0.5)
    return {"kept": kept, "rows": rows, "after_s": perf_counter() - died}


def train_and_die(peer: Peer, folder: Path) -> None:
    """Logs as fast as it can, and dies before the next line."""
    writer = peer.open_scalars(folder, 0)
    for step in range(KILLED_ROWS):
        writer.log(dict(ROW), step)
    os.kill(os.getpid(), signal.SIGKILL)


def memory(peer: Peer, name: str, folder: Path, times: int) -> Figures:
    """The most that a daemon has held, in MiB, after each workload in one root, and as rows go on coming."""
    daemon_mib = cast("Callable[[Path], float]", vars(peer)["daemon_mib"])
    after = {"start": daemon_mib(folder)}
    for what, measure, count in (("w1", scalars, W1), ("w2", table, W2), ("w3", vectors, W3), ("w4", processes, W4)):
        measure(peer, name, folder, count.count)
        after[what] = daemon_mib(folder)
    for number in range(1, times + 1):
        scalars(peer, name, folder, W1.count)
        after[f"{number} x w1 more"] = daemon_mib(folder)
    return after


def allocated_bytes(folder: Path) -> int:
    """What the files of a folder take on disk; those of databases may be sparse, and those of a moment may be gone."""
    blocks = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            state = path.lstat()
            blocks += state.st_blocks if stat.S_ISREG(state.st_mode) else 0
    return 512 * blocks


MEASURES: dict[str, Callable[[Peer, str, Path, int], Figures]] = {
    "w1": scalars,
    "w2": table,
    "w3": vectors,
    "w4": processes,
    "log": calls,
    "loop": loop,
    "kill": killed,
    "memory": memory,
}

if __name__ == "__main__":
    main()
